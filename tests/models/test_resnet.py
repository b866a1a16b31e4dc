"""Whole networks and their parts, against the second implementation in reference.py, in float64."""

import dataclasses
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models import counts, zoo
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from tests.models.named import named
from tests.models.reference import at

# Every block with every shortcut; the settings of shortcut A change at once, one choice with each block.
NETWORKS = [
    {'placement': placement, 'shortcut': shortcut, **more}
    for placement, (shortcut, more) in itertools.product(
        ('original', 'full_preactivation'),
        (
            ('A', {'stage_blocks': (3, 2, 3)}),
            (
                'A',
                {
                    'stage_blocks': (1, 2, 1),
                    'subsample': 'average',
                    'zero_channels': 'behind',
                    'stem_width': 3,
                    'widths': (3, 6, 7),
                },
            ),
            ('B', {'stage_blocks': (2, 1, 2)}),
            ('C', {'stage_blocks': (2, 2, 1)}),
            ('none', {'stage_blocks': (2, 3, 2)}),
        ),
    )
]
networks = pytest.mark.parametrize('fields', NETWORKS, ids=lambda f: f'{f["placement"]} {f["shortcut"]} {len(f)}')


def images(count, size=8, channels=1):
    return jnp.asarray(np.random.default_rng(4).normal(size=(count, size, size, channels)))


@networks
@pytest.mark.usefixtures('float64')
def test_logits_are_those_of_the_second_implementation_whatever_the_gates(make_network, reference, fields):
    network, variables = make_network(**fields)
    gates = np.random.default_rng(5).uniform(size=(2, network.arch.blocks, 5))
    expected = reference(network.arch, variables)
    x = images(5)

    @jax.jit
    def logits(variables, x, gates):
        return [network.apply(variables, x, each, train=False) for each in (None, gates)]

    without, gated = logits(variables, x, Gates(*map(jnp.asarray, gates), *jnp.ones_like(jnp.asarray(gates))))
    assert without.dtype == jnp.float64
    np.testing.assert_allclose(without, expected(x), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gated, expected(x, *gates), rtol=1e-11, atol=1e-12)
    assert np.abs(without - gated).max() > 1e-2


@pytest.mark.parametrize('placement', ['original', 'full_preactivation'])
@pytest.mark.usefixtures('float64')
def test_training_normalises_by_the_batch_and_keeps_every_blocks_own_statistics(make_network, reference, placement):
    network, variables = make_network(placement=placement, shortcut='B')
    x = images(5)
    logits, updates = jax.jit(lambda v, x: network.apply(v, x, train=True, mutable=['batch_stats']))(variables, x)
    second = reference(network.arch, variables, train=True)
    np.testing.assert_allclose(logits, second(x), rtol=1e-10, atol=1e-11)
    for path, expected in second.running.items():
        np.testing.assert_allclose(at(updates, path), expected, rtol=1e-9)
        assert np.abs(expected - at(variables, path)).max() > 1e-3
    # Two a block, the stem's, and the projections' or (the first block has one less) the head's; a mean and a variance.
    assert len(second.running) // 2 == {'original': 2 * 9 + 1 + 2, 'full_preactivation': 2 * 9 - 1 + 1 + 1}[placement]


@pytest.mark.usefixtures('float64')
def test_a_basic_block_by_hand(make_network):
    """One pixel, one filter, every BN an identity: the whole network is scalar arithmetic with the kernels' centres."""
    network, variables = make_network(
        placement='original',
        stage_blocks=(2, 1, 1),
        stem_width=1,
        widths=(1, 1, 1),
        image_shape=(1, 1, 1),
        classes=1,
        norm_epsilon=0.0,
    )
    variables = jax.tree.map(jnp.zeros_like, variables)
    norms = ['scale', 'var']
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.ones_like(leaf) if path[-1].key in norms else leaf, variables
    )
    params: Any = variables['params']

    def centre(value, *path):
        module = params
        for name in path:
            module = module[name]
        module['kernel'] = module['kernel'].at[..., 1, 1, 0, 0].set(value)

    centre(2, 'stem', 'conv1')  # 3 -> 6
    centre(-1, 'stage1', 'entry', 'conv1')  # relu(-6) = 0, so 6 + 0 = 6
    centre(1, 'stage1', 'entry', 'conv2')
    centre(0.5, 'stage1', 'body', 'conv1')  # relu(3) = 3, times -3 is -9: relu(6 - 9) = 0
    centre(-3, 'stage1', 'body', 'conv2')
    params['head']['dense'].update(kernel=jnp.full((1, 1), 5.0), bias=jnp.full(1, 0.25))
    x = jnp.full((1, 1, 1, 1), 3.0)

    def logit():
        return network.apply(variables, x, train=False).item()

    assert logit() == 0.25
    centre(-0.5, 'stage1', 'body', 'conv2')  # relu(6 - 1.5) = 4.5
    centre(1, 'stage2', 'entry', 'conv1')
    centre(2, 'stage2', 'entry', 'conv2')  # 4.5 + 9 = 13.5
    assert logit() == 5 * 13.5 + 0.25


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='the CPU has a lowering of its own')
def test_every_convolution_of_a_training_loop_is_canonical(make_network):
    """Else XLA's CPU runs it 30 times slower, unseen."""
    # Where a map is smaller than a kernel, as behind a stride at 4x4 px, XLA exchanges the two: little is lost there.
    network, variables = make_network('float32', shortcut='B', widths=(4, 8, 32), image_shape=(16, 16, 1))
    x = images(4, 16).astype(jnp.float32)

    def loss(params):
        logits, _ = network.apply({**variables, 'params': params}, x, train=True, mutable=['batch_stats'])
        return jnp.sum(jnp.square(logits))

    def step(params):
        return jax.tree.map(lambda leaf, g: leaf - 0.01 * g, params, jax.grad(loss)(params))

    loop = jax.jit(lambda params, steps: jax.lax.fori_loop(0, steps, lambda _, params: step(params), params))
    text = loop.lower(variables['params'], 3).compile().as_text()
    labels = re.findall(r' convolution\(.*dim_labels=([\w>-]+)', text)
    assert len(labels) > 10 and set(labels) == {'b01f_01io->b01f'}


# Layout


@networks
def test_stages_hold_an_entry_and_a_stacked_body(make_network, fields):
    network, variables = make_network(**fields)
    arch = network.arch
    assert set(variables['params']) == {'stem', 'head', 'stage1', 'stage2', 'stage3'}
    for number, blocks in enumerate(arch.stage_blocks, start=1):
        stage = variables['params'][f'stage{number}']
        assert set(stage) == ({'entry', 'body'} if blocks > 1 else {'entry'})
        assert all(len(leaf) == blocks - 1 for leaf in jax.tree.leaves(stage.get('body', {})))
    first = variables['params']['stage1']['entry']
    norms = {'bn2'} if arch.preactivated else {'bn1', 'bn2'}  # the stem has activated the first block's input
    projection = {'conv_proj'} if arch.shortcut == 'C' else set()
    projection |= {'bn_proj'} if projection and not arch.preactivated else set()
    assert set(first) == {'conv1', 'conv2'} | norms | projection
    assert ('bn' in variables['params']['head']) == arch.preactivated


SHORTCUTS = list(itertools.product(('original', 'full_preactivation'), ('A', 'B', 'C', 'none')))


@pytest.mark.parametrize(('placement', 'shortcut'), SHORTCUTS)
def test_every_layer_has_as_many_parameters_as_are_counted_without_jax(make_arch, placement, shortcut):
    arch = make_arch(placement=placement, shortcut=shortcut, image_shape=(7, 7, 3), stem_width=3, widths=(3, 5, 8))
    counted = {layer.name: layer.parameters for layer in counts.layers(arch)}
    assert initialised(arch) == counted
    assert sum(counted.values()) == counts.parameters(arch)


def one_of_each_kind():
    """The named networks but for those that are others at another depth: a stage's body is one plan at any length."""
    kinds = {}
    for name in zoo.NAMES:
        arch = named(name)
        bodies = tuple(blocks > 1 for blocks in arch.stage_blocks)
        kinds.setdefault((bodies, dataclasses.replace(arch, stage_blocks=())), name)
    return list(kinds.values())


@pytest.mark.parametrize('name', one_of_each_kind())
def test_the_variables_of_the_named_networks_are_as_many_as_are_counted(name):
    arch = named(name)
    assert initialised(arch) == {layer.name: layer.parameters for layer in counts.layers(arch)}


def initialised(arch):
    """Parameters of each layer of the real network, by the names that spec gives the layers."""
    variables = jax.eval_shape(ResNet(arch).init_variables, jax.random.key(0))
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables['params']):
        names = [key.key for key in path[:-1]]
        if names[0].startswith('stage'):
            stage, part, *rest = names
            positions = [1] if part == 'entry' else range(2, leaf.shape[0] + 2)
            layers = ['/'.join((stage, f'block{position}', *rest)) for position in positions]
        else:
            layers = ['/'.join(names)]
        for layer in layers:
            found[layer] = found.get(layer, 0) + int(np.prod(leaf.shape)) // len(layers)
    return found


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('share', ['none', 'kernels', 'parameters', 'all'])
def test_a_body_trains_one_by_one_as_it_does_as_a_scan(make_network, share):
    """Logits, new statistics and every gradient, under an intervention; the layout is one."""
    x, gates = images(3), jnp.asarray(np.random.default_rng(5).uniform(size=(2, 6)))
    found = []
    for scan_from in (1, 9):
        network, variables = make_network('float64', scan_from, stage_blocks=(4, 1, 1), share=share)

        def loss(params, variables=variables, network=network):
            lesion = Gates(*gates, *jnp.ones_like(gates))
            whole = {**variables, 'params': params}
            logits, updates = network.apply(whole, x, lesion, train=True, mutable=['batch_stats'])
            return jnp.sum(jnp.square(logits)), (logits, updates)

        gradient, (logits, updates) = jax.jit(jax.grad(loss, has_aux=True))(variables['params'])
        found.append((gradient, logits, updates))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11), *found)
    assert not np.allclose(jax.tree.leaves(found[0][0])[0], 0)


@pytest.mark.parametrize('fields', [{'survival': 0.5}, {'dropout': 0.3, 'shortcut': 'dropout', 'head_dropout': 0.2}])
def test_the_same_is_drawn_however_a_body_is_carried_out(make_network, fields):
    x, found = images(2).astype(jnp.float32), []
    for scan_from in (1, 9):
        network, variables = make_network('float32', scan_from, stage_blocks=(8, 1, 1), **fields)

        def logits(key, network=network, variables=variables):
            return network.apply(variables, x, train=True, mutable=['batch_stats'], rngs={'dropout': key})[0]

        drawn = jax.jit(jax.vmap(logits))(jax.random.split(jax.random.key(0), 16))
        found.append(np.asarray(drawn))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)
    assert len(np.unique(np.round(found[0][:, 0, 0], 3))) > 8


def test_scan_from_changes_no_initialisation(make_arch):
    arch = make_arch(stage_blocks=(4, 1, 1))
    one, other = (jax.jit(ResNet(arch, scan_from).init_variables)(jax.random.key(0)) for scan_from in (1, 9))
    jax.tree.map(np.testing.assert_array_equal, one, other)


@networks
def test_logits_have_the_dtype_of_the_images_and_statistics_are_float32(make_arch, fields):
    network = ResNet(make_arch(**fields))
    variables = jax.eval_shape(lambda: network.init_variables(jax.random.key(0), jnp.bfloat16))

    def apply(variables, x, gates):
        return network.apply(variables, x, gates, train=True, mutable=['batch_stats'])

    x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.bfloat16)
    logits, updates = jax.eval_shape(apply, variables, x, network.intact_gates())
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype('float32')}


def test_initialisation_is_he_et_al_s_of_each_block_its_own_and_repeats(make_arch):
    network = ResNet(make_arch(placement='original', shortcut='B'))
    init = jax.jit(network.init_variables)
    variables = init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, variables, init(jax.random.key(0)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    starts = {'scale': 1, 'bias': 0, 'mean': 0, 'var': 1}
    kernels = []  # of every convolution, divided by the deviation that it should have
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        name = path[-1].key
        if name != 'kernel':
            np.testing.assert_array_equal(leaf, np.full(leaf.shape, starts[name]))
        elif leaf.ndim > 2:
            kernels += list(
                np.reshape(leaf, (-1, *leaf.shape[-4:])) / np.sqrt(2 / (leaf.shape[-4] ** 2 * leaf.shape[-1]))
            )
    assert len(kernels) == 1 + 2 * 9 + 2
    normal = np.concatenate([kernel.ravel() for kernel in kernels])
    assert abs(normal.std() - 1) < 4 / np.sqrt(2 * normal.size) and abs(normal.mean()) < 4 / np.sqrt(normal.size)
    assert len(np.unique(normal)) > 0.99 * normal.size  # no two blocks have drawn the same
    other = init(jax.random.key(1))
    assert (other['params']['stem']['conv1']['kernel'] != variables['params']['stem']['conv1']['kernel']).any()
