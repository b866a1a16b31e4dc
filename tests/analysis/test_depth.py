"""What each block adds, where it points, and what is known behind it."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import depth
from resnet_jax.analysis.features import features
from resnet_jax.analysis.gradients import apply_head
from resnet_jax.analysis.lesion import delete
from resnet_jax.models.suffix import block_inputs, body_block, entry_block

LABELS = np.arange(5, dtype=np.int32)
KINDS = [
    {},
    {'placement': 'original', 'shortcut': 'exclusive_gating'},
    {'shortcut': 'C', 'block': 'bottleneck', 'mid_ratios': (0.5, 0.5)},
    {'survival': 0.5, 'gain': 'rezero', 'share': 'kernels', 'squeeze_excite': 2},
    {'placement': 'original', 'shortcut': 'none'},
]


def images(dtype='float64'):
    return jnp.asarray(np.random.default_rng(1).normal(size=(5, 8, 8, 1)), dtype)


@partial(jax.jit, static_argnames=('network', 'dtype'))
def logits(network, variables, gates=None, dtype='float64'):
    return network.apply(variables, images(dtype), gates, train=False)


def scaled(variables, blocks, factor):
    """The variables with the last convolution of these blocks (index, of stages of three) times a factor."""
    params = dict(variables['params'])
    for index in blocks:
        stage, place = divmod(index, 3)
        name = f'stage{stage + 1}'
        own = {key: dict(value) for key, value in params[name].items()}
        part = 'body' if place else 'entry'
        kernel = own[part]['conv2']['kernel']
        at = place - 1 if place else ...
        own[part]['conv2'] = {**own[part]['conv2'], 'kernel': kernel.at[at].multiply(factor)}
        params[name] = own
    return {**variables, 'params': params}


def cosine(one, other):
    one, other = (np.asarray(each).reshape(len(each), -1) for each in (one, other))
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def length(x):
    return np.linalg.norm(np.asarray(x).reshape(len(x), -1), axis=1)


# Sizes and directions


@partial(jax.jit, static_argnames='network')
def naive(network, variables, images):
    """Of each block, one after the other: input, F, output, and the gradient by what is added to the input."""
    arch, intact = network.arch, network.intact_gates()
    _, inputs = block_inputs(network, variables, images)
    nothing = jax.tree.map(jnp.zeros_like, inputs)

    def apply(number, x, gates):
        stage, place = divmod(number, 3)
        if place:
            return body_block(network, variables, stage, x, number, gates)
        return entry_block(network, variables, stage, x, gates)

    def closed(number, x, residual):
        gates = intact._replace(shortcut=jnp.zeros_like(intact.shortcut), residual=intact.residual * residual)
        return apply(number, x, gates)

    def run(added):
        x, seen = inputs[0]['entry'], []
        for number in range(arch.blocks):
            stage, place = divmod(number, 3)
            x = x + (added[stage]['body'][place - 1] if place else added[stage]['entry'])
            # Behind the sum of the original placement stands a ReLU: F = ReLU(F) - ReLU(-F).
            negative = closed(number, x, -1.0) if arch.placement == 'original' else 0.0
            seen.append((x, closed(number, x, 1.0) - negative, apply(number, x, intact)))
            x = seen[-1][-1]
        logits = apply_head(network, variables, x)
        return -jax.nn.log_softmax(logits)[jnp.arange(5), jnp.asarray(LABELS)].sum(), seen

    gradients, seen = jax.grad(run, has_aux=True)(nothing)
    by_block = [[each['entry'], *each['body']] for each in gradients]
    return [(*seen[number], by_block[number // 3][number % 3]) for number in range(arch.blocks)]


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('fields', KINDS, ids=str)
def test_what_a_block_adds_and_its_direction_are_those_of_the_network_block_by_block(make_network, fields):
    network, variables = make_network(stage_blocks=(3, 3), widths=(4, 8), **fields)
    found = depth.blocks(network, variables, images(), jnp.asarray(LABELS))
    assert {leaf.shape for leaf in found} == {(6, 5)}
    for number, (h, added, y, gradient) in enumerate(naive(network, variables, images())):
        np.testing.assert_allclose(found.size[number], length(added) / length(h), rtol=1e-10)
        if number == 3:  # the first stage has the stem's width
            assert np.isnan([found.change[number], found.cosine[number]]).all()
        else:
            np.testing.assert_allclose(found.change[number], length(y - h) / length(h), rtol=1e-10)
            np.testing.assert_allclose(found.cosine[number], cosine(added, gradient), rtol=1e-7, atol=1e-12)


def test_a_block_whose_branch_is_0_is_the_identity_and_points_nowhere(tiny):
    network, variables = tiny
    zeroed = [1, 5, 7]
    found = depth.blocks(network, scaled(variables, zeroed, 0.0), images('float32'), jnp.asarray(LABELS))
    for each in (found.size, found.change, found.cosine):
        np.testing.assert_array_equal(each[np.array(zeroed)], np.zeros((3, 5)))
    others = np.setdiff1d(np.arange(9), zeroed)
    assert (found.size[others] > 0.01).all()


@pytest.mark.usefixtures('float64')
def test_the_direction_in_a_linear_network_is_that_worked_out_by_hand(make_network):
    """Kernels of 0 leave each branch its last bias b: h + b + b + ..., averaged, times W."""
    fields = {'placement': 'relu_before_addition', 'norm': 'none', 'stage_blocks': (3,), 'widths': (4,)}
    network, variables = make_network(**fields)
    (stage,) = (dict(variables['params'][f'stage{number}']) for number in (1,))
    bias = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, 0.0, 0.0, 1.0], [2.0, 1.0, 0.0, 0.0]])
    for name, values in (('entry', bias[0]), ('body', bias[1:])):
        stage[name] = {
            **stage[name],
            'conv2': {'kernel': 0 * stage[name]['conv2']['kernel'], 'bias': jnp.asarray(values)},
        }
    variables = {**variables, 'params': {**variables['params'], 'stage1': stage}}
    found = depth.blocks(network, variables, images(), jnp.asarray(LABELS))
    weights = np.asarray(variables['params']['head']['dense']['kernel'])
    p = np.asarray(jax.nn.softmax(logits(network, variables)))
    gradient = (p - np.eye(10)[LABELS]) @ weights.T
    for block in range(3):
        expected = gradient @ bias[block] / np.linalg.norm(gradient, axis=1) / np.linalg.norm(bias[block])
        np.testing.assert_allclose(found.cosine[block], expected, rtol=1e-10)


def test_the_direction_is_told_where_the_network_is_certain(make_network):
    """Of probabilities that float32 cannot tell from 1, and gradients whose squares it cannot tell from 0."""
    found = {}
    for dtype in ('float32', 'float64'):
        with jax.enable_x64(dtype == 'float64'):
            network, variables = make_network(dtype)
            dense = {**variables['params']['head']['dense']}
            dense['bias'] = jnp.zeros(10, dtype).at[3].set(60.0)
            head = {**variables['params']['head'], 'dense': dense}
            certain = {**variables, 'params': {**variables['params'], 'head': head}}
            labels = jnp.full(5, 3, jnp.int32)
            found[dtype] = np.asarray(depth.blocks(network, certain, images(dtype), labels).cosine)
    assert np.nanmin(np.abs(found['float64'])) > 0
    np.testing.assert_allclose(found['float32'], found['float64'], atol=2e-5)


def test_other_variables_compile_nothing(tiny, caplog):
    network, variables = tiny
    depth.blocks(network, variables, images('float32'), jnp.asarray(LABELS))
    with jax.log_compiles():
        depth.blocks(network, scaled(variables, [4], 2.0), images('float32'), jnp.asarray(LABELS))
        assert not re.search(r'compilation of jit\(blocks\)', caplog.text)
        depth.blocks(network, variables, images('float32')[:2], jnp.asarray(LABELS)[:2])
        assert re.search(r'compilation of jit\(blocks\)', caplog.text)  # the negative control


# What is known behind a block


@pytest.mark.usefixtures('float64')
def test_a_block_estimates_the_output_of_its_stage(make_network):
    network, variables = make_network(stage_blocks=(1, 3, 2))
    found = depth.blocks(network, variables, images(), jnp.asarray(LABELS))
    names = ('stage1', 'stage2', 'stage3', *(f'block:{number}' for number in range(1, 7)))
    given = {
        name: np.asarray(x).reshape(5, -1) for name, x in features(network, variables, images(), names=names).items()
    }
    for block, stage in enumerate((1, 2, 2, 2, 3, 3)):
        y, end = given[f'block:{block + 1}'], given[f'stage{stage}']
        np.testing.assert_allclose(found.distance[block], (y - end).mean(1), atol=1e-12)
        np.testing.assert_allclose(found.squared[block], ((y - end) ** 2).mean(1), atol=1e-12)
        np.testing.assert_allclose(found.mean[block], end.mean(1), rtol=1e-10)
        np.testing.assert_allclose(found.square[block], (end**2).mean(1), rtol=1e-10)
    np.testing.assert_array_equal(np.flatnonzero((np.asarray(found.squared) < 1e-20).all(1)), [0, 3, 5])


@pytest.mark.usefixtures('float64')
def test_reading_out_behind_a_block_is_deleting_those_that_follow(make_network):
    network, variables = make_network(stage_blocks=(2, 1, 4))
    found = depth.read_outs(network, variables, images())
    assert found.shape == (4, 5, 10)
    for block in range(4):
        lesion = np.arange(7) > 3 + block
        whole = logits(network, variables, delete(network.intact_gates(), lesion))
        np.testing.assert_allclose(found[block], whole, rtol=1e-10)


def test_a_last_stage_of_one_block_is_read_out_once(make_network):
    network, variables = make_network('float32', stage_blocks=(2, 1, 1))
    found = depth.read_outs(network, variables, images('float32'))
    assert found.shape == (1, 5, 10)
    np.testing.assert_allclose(found[0], logits(network, variables, dtype='float32'), rtol=1e-5, atol=1e-6)


# Learned gains


@pytest.mark.parametrize('share', ['none', 'parameters'])
def test_the_gains_are_the_numbers_that_were_learned(make_network, share):
    network, variables = make_network('float32', gain='rezero', share=share, stage_blocks=(1, 3, 2))
    found = depth.gains(network.arch, variables)
    params = variables['params']
    body = np.broadcast_to(params['stage2']['body']['gain']['value'], 2)
    np.testing.assert_array_equal(found[[0, 1]], [params[f'stage{k}']['entry']['gain']['value'] for k in (1, 2)])
    np.testing.assert_array_equal(found[2:4], body)
    assert np.isfinite(found).all() and (share == 'none') == (found[2] != found[3])


def test_a_network_without_them_has_none(tiny):
    network, variables = tiny
    assert np.isnan(depth.gains(network.arch, variables)).all()
