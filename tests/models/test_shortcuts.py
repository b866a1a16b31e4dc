from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models import branches, shortcuts
from resnet_jax.models.blocks import Position
from resnet_jax.models.layers import Sequence, layers, subsample
from resnet_jax.models.parts import Pad
from resnet_jax.models.resnet import one_block
from resnet_jax.models.shortcuts import projects


def image(rows):
    return jnp.asarray(rows, jnp.float32)[None, :, :, None]


EVEN = image([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]])
ODD = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])


@pytest.mark.parametrize(
    ('x', 'how', 'expected'),
    [
        (EVEN, 'stride', [[1, 3], [9, 11]]),
        (EVEN, 'average', [[3.5, 5.5], [11.5, 13.5]]),
        (ODD, 'stride', [[1, 3], [7, 9]]),
        (ODD, 'average', [[3, 4.5], [7.5, 9]]),  # at the edge the mean of what there is
    ],
)
def test_subsampling_by_two(x, how, expected):
    np.testing.assert_array_equal(subsample(x, 2, how)[0, :, :, 0], expected)


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('dtype', ['bfloat16', 'float32', 'float64'])
@pytest.mark.parametrize('how', ['stride', 'average'])
def test_subsampling_leaves_the_dtype(how, dtype):
    assert subsample(ODD.astype(dtype), 2, how).dtype == dtype


@pytest.mark.parametrize('how', ['stride', 'average'])
def test_strides_of_1_leave_the_image(how):
    assert subsample(ODD, 1, how) is ODD


@pytest.mark.parametrize(
    ('features', 'where', 'expected'),
    [
        (2, 'split', [1, 2]),
        (4, 'split', [0, 1, 2, 0]),
        (5, 'split', [0, 1, 2, 0, 0]),  # the odd channel behind
        (3, 'split', [1, 2, 0]),
        (5, 'behind', [1, 2, 0, 0, 0]),
    ],
)
def test_channels_are_padded_with_zeros(make_arch, features, where, expected):
    x = jnp.asarray([1, 2], jnp.float32).reshape(1, 1, 1, 2)
    padded: Any = Sequence((Pad(features, where),), layers(make_arch())).apply({}, x, train=False)
    np.testing.assert_array_equal(padded.ravel(), expected)


@pytest.fixture(scope='session')
def shortcut(make_arch):
    """`shortcut(kind, …)`: the shortcut of a block of one channel, to be initialised and applied."""

    def make(kind, *, features=1, strides=1, **fields):
        arch = make_arch(shortcut=kind, **{'placement': 'original'} | fields)
        parts = shortcuts.shortcut(arch, branches.Site(1, 1, features, strides, first=False, before=1))
        return None if parts is None else Sequence(parts, layers(arch))

    return make


def test_shortcut_a_subsamples_then_pads(shortcut):
    y = shortcut('A', features=3, strides=2).apply({}, EVEN, train=False)
    np.testing.assert_array_equal(y[0], [[[0, 1, 0], [0, 3, 0]], [[0, 9, 0], [0, 11, 0]]])
    averaged = shortcut('A', features=3, strides=2, subsample='average', zero_channels='behind')
    y = averaged.apply({}, EVEN, train=False)
    np.testing.assert_array_equal(y[0], [[[3.5, 0, 0], [5.5, 0, 0]], [[11.5, 0, 0], [13.5, 0, 0]]])


KINDS = ('identity', 'A', 'B', 'C', 'conv', 'exclusive_gating', 'shortcut_gating', 'dropout')


@pytest.mark.parametrize(('features', 'strides'), [(1, 1), (4, 1), (1, 2), (4, 2)])
@pytest.mark.parametrize('kind', KINDS)
def test_b_has_parameters_where_the_shape_changes_and_c_everywhere(shortcut, kind, features, strides):
    layer = shortcut(kind, features=features, strides=strides)
    variables = jax.eval_shape(lambda key: layer.init(key, EVEN, train=False), jax.random.key(0))
    changes = (features, strides) != (1, 1)
    expected = kind in ('C', 'conv') or (kind == 'B' and changes)
    assert projects(kind, changes_shape=changes) == expected
    named = {'conv_proj'} if kind == 'conv' else {'conv_proj', 'bn_proj'}
    assert set(variables.get('params', {})) == (named if expected else set())
    if expected:
        assert variables['params']['conv_proj']['kernel'].shape == (1, 1, 1, features)


def test_a_projection_behind_full_preactivation_has_no_norm(shortcut):
    variables = shortcut('C', placement='full_preactivation').init(jax.random.key(0), EVEN, train=False)
    assert set(variables) == {'params'} and set(variables['params']) == {'conv_proj'}


@pytest.mark.parametrize(
    ('how', 'expected'),
    [
        ('stride', [[[2, 10], [6, 30]], [[18, 90], [22, 110]]]),
        ('average', [[[7, 35], [11, 55]], [[23, 115], [27, 135]]]),
    ],
)
def test_a_projection_multiplies_the_subsampled_channels(shortcut, how, expected):
    variables = {'params': {'conv_proj': {'kernel': jnp.asarray([[[[2, 10]]]], jnp.float32)}}}
    layer = shortcut('conv', features=2, strides=2, subsample=how)
    np.testing.assert_array_equal(layer.apply(variables, EVEN, train=False)[0], expected)


def test_a_constant_gain_multiplies_it(shortcut):
    np.testing.assert_array_equal(shortcut('A', shortcut_scale=0.5).apply({}, EVEN, train=False), EVEN / 2)


def test_dropout_on_the_shortcut_zeroes_in_training_alone(shortcut):
    layer, x = shortcut('dropout', shortcut_dropout=0.75), jnp.ones((4, 16, 16, 1), jnp.float32)
    np.testing.assert_array_equal(layer.apply({}, x, train=False), x)
    dropped = layer.apply({}, x, jax.random.key(0), train=True)
    assert set(np.unique(dropped)) == {0, 4}
    assert abs(dropped.mean() - 1) < 4.5 * np.sqrt(3 / x.size)  # of each, variance p (1 - p) / (1 - p)^2


@pytest.mark.parametrize('stage', [0, 1])
def test_without_a_shortcut_nothing_passes_until_a_gate_lets_it(make_network, stage):
    """And where the shape changes nothing ever does."""
    network, variables = make_network('float32', shortcut='none', placement='original')
    part = {kind: tree[f'stage{stage + 1}']['entry'] for kind, tree in variables.items()}
    x = jnp.abs(jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 4)), jnp.float32))
    gates = network.intact_gates().of(0)

    def through(gates):
        return one_block(network.arch, stage, entry=True).apply(part, x, gates, Position(0, 0), train=False)

    np.testing.assert_array_equal(through(None), through(gates))
    alone = through(gates._replace(shortcut=jnp.ones_like(gates.shortcut), residual=jnp.zeros_like(gates.residual)))
    np.testing.assert_array_equal(alone, x if stage == 0 else jnp.zeros((2, 2, 2, 8), jnp.float32))
