"""Where a batch went wrong: the layer is known beforehand, for the parameters were made for it to be that one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.resnet import ResNet
from resnet_jax.train.diagnosis import diagnosis
from resnet_jax.train.state import state_of

LAYERS = ['stem/conv1', 'stage1/block1/conv1', 'stage1/block2/conv2', 'stage1/block3/conv1', 'head/dense']


@pytest.fixture(scope='module')
def plain(make_network):
    """Without normalisation, which would make anything finite again, and biases; a body of two blocks."""
    network, variables = make_network('float32', norm='none', placement='original', stage_blocks=(3, 1, 1))
    return network, jax.tree_util.tree_map_with_path(lambda path, leaf: leaf * float(path[-1].key != 'bias'), variables)


@pytest.fixture(scope='module')
def diagnose(parts):
    """`diagnose((network, variables), changes, **train)`: with these kernels (or biases) multiplied, in training."""

    def go(named, changes, microbatches=1, compute='float32', leaf='kernel'):
        network, variables = named
        config = parts.config.copy_and_resolve_references().unlock()
        config.train.update(microbatches=microbatches, compute=compute)
        params = jax.tree.map(np.array, variables['params'])
        for name, factor in changes.items():
            array, index = place(params, name, leaf)
            array[index] *= np.float32(factor)
        state = state_of(
            {**variables, 'params': jax.tree.map(jnp.asarray, params)}, parts.optimizer, jnp.zeros(2, jnp.uint32)
        )
        state = state._replace(step=jnp.asarray(4, jnp.int32))
        batch = parts.splits.train.images[:8], parts.splits.train.labels[:8]
        return diagnosis(network, config, state, batch, parts.splits.normalization)

    return go


def place(params, name, leaf):
    """The array of a layer, and which part of it is that layer's: the body's blocks are stacked."""
    part, *inner = name.split('/')
    node, index = params[part], ...
    if inner[0].startswith('block'):
        number = int(inner.pop(0).removeprefix('block'))
        node, index = node['entry' if number == 1 else 'body'], ... if number == 1 else number - 2
    for step in inner:
        node = node[step]
    return node[leaf], index


@pytest.mark.parametrize('scan_from', [1, 5])
@pytest.mark.parametrize('layer', LAYERS)
def test_the_layer_whose_parameters_are_not_finite_is_named(plain, diagnose, layer, scan_from):
    network = ResNet(plain[0].arch, scan_from)
    assert diagnose((network, plain[1]), {layer: np.inf}) == f'the parameters of {layer}'


@pytest.mark.parametrize('layer', LAYERS)
def test_of_several_layers_the_first_is_named(plain, diagnose, layer):
    later = LAYERS[LAYERS.index(layer) :]
    assert diagnose(plain, dict.fromkeys(later, np.nan)) == f'the parameters of {layer}'


@pytest.mark.parametrize('layer', LAYERS)
def test_the_layer_whose_output_overflows_is_named(plain, diagnose, layer):
    """Its parameters are as large as can be, those of the layers behind it are 0, which of infinity makes NaN."""
    behind = dict.fromkeys(LAYERS[LAYERS.index(layer) + 1 :], 0)
    assert diagnose(plain, {layer: 3e38} | behind) == f'the output of {layer}'


def test_the_layer_whose_output_overflows_is_named_in_bfloat16_and_in_the_second_microbatch_too(plain, diagnose):
    layer = 'stage1/block2/conv2'
    assert diagnose(plain, {layer: 3e38}, microbatches=2) == f'the output of {layer}'
    assert diagnose(plain, {layer: 3e38}, compute='bfloat16') == f'the output of {layer}'


@pytest.mark.parametrize('block', ['stage1/block1', 'stage1/block2', 'stage1/block3', 'stage3/block1'])
def test_the_last_layer_whose_gradient_overflows_is_named(plain, diagnose, block):
    """1e-10, 1e20, 1e20: each output is finite; back through the last two comes 1e40."""
    changes = {f'{block}/conv1': 1e-10, f'{block}/conv2': 1e20, 'head/dense': 1e20}
    assert diagnose(plain, changes) == f'the gradient of {block}/conv1'
    assert diagnose(plain, changes, microbatches=2) == f'the gradient of {block}/conv1'


def test_where_no_layer_is_to_blame_it_is_the_loss(plain, diagnose):
    """Two logits as far apart as two numbers can be are finite, their difference is not; the gradient is."""
    network, variables = plain
    head = {'kernel': jnp.zeros_like(variables['params']['head']['dense']['kernel']),
            'bias': jnp.asarray([3e38, -3e38] * 5, jnp.float32)}  # fmt: skip
    params = variables['params'] | {'head': {'dense': head}}
    assert diagnose((network, {**variables, 'params': params}), {}) == 'the loss'


def test_a_normalised_network_is_diagnosed_by_its_layers_too(make_network, diagnose):
    named = make_network('float32', placement='original', stage_blocks=(3, 1, 1))
    assert diagnose(named, {'stage1/block2/bn1': np.inf}, leaf='scale') == 'the parameters of stage1/block2/bn1'
    assert diagnose(named, {'stage1/block2/conv2': 3e38}) == 'the output of stage1/block2/conv2'
