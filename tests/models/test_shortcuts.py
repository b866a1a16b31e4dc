from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.conv import Conv
from resnet_jax.models.norm import BatchNorm
from resnet_jax.models.shortcuts import Shortcut, pad_channels, projects, subsample


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
def test_channels_are_padded_with_zeros(features, where, expected):
    x = jnp.asarray([1, 2], jnp.float32).reshape(1, 1, 1, 2)
    np.testing.assert_array_equal(pad_channels(x, features, where).ravel(), expected)


def test_shortcut_a_subsamples_then_pads():
    y = shortcut('A', features=3, strides=2).apply({}, EVEN, gated=False, train=False)
    np.testing.assert_array_equal(y[0], [[[0, 1, 0], [0, 3, 0]], [[0, 9, 0], [0, 11, 0]]])
    averaged = shortcut('A', features=3, strides=2, subsample='average', zero_channels='behind')
    y = averaged.apply({}, EVEN, gated=False, train=False)
    np.testing.assert_array_equal(y[0], [[[3.5, 0, 0], [5.5, 0, 0]], [[11.5, 0, 0], [13.5, 0, 0]]])


def shortcut(kind, *, features=1, strides=1, subsample='stride', zero_channels='split', norm=True):
    made = partial(BatchNorm, momentum=0.9, epsilon=1e-5) if norm else None
    return Shortcut(kind, features, strides, subsample, zero_channels, Conv, made)


@pytest.mark.parametrize(('features', 'strides'), [(1, 1), (4, 1), (1, 2), (4, 2)])
@pytest.mark.parametrize('kind', ['A', 'B', 'C', 'none'])
def test_b_has_parameters_where_the_shape_changes_and_c_everywhere(kind, features, strides):
    layer = shortcut(kind, features=features, strides=strides)
    variables = jax.eval_shape(partial(layer.init, gated=False, train=False), jax.random.key(0), EVEN)
    changes = (features, strides) != (1, 1)
    expected = kind == 'C' or (kind == 'B' and changes)
    assert projects(kind, changes_shape=changes) == expected
    assert set(variables.get('params', {})) == ({'conv_proj', 'bn_proj'} if expected else set())
    if expected:
        assert variables['params']['conv_proj']['kernel'].shape == (1, 1, 1, features)


def test_a_projection_behind_an_activation_has_no_norm():
    variables = shortcut('C', norm=False).init(jax.random.key(0), EVEN, gated=False, train=False)
    assert set(variables) == {'params'} and set(variables['params']) == {'conv_proj'}


def test_a_projection_multiplies_the_subsampled_channels():
    kernel = jnp.asarray([[[[2, 10]]]], jnp.float32)
    layer = shortcut('B', features=2, strides=2, norm=False)
    y = layer.apply({'params': {'conv_proj': {'kernel': kernel}}}, EVEN, gated=False, train=False)
    np.testing.assert_array_equal(y[0], [[[2, 10], [6, 30]], [[18, 90], [22, 110]]])


def test_without_a_shortcut_nothing_passes_until_a_gate_lets_it():
    plain = shortcut('none')
    assert plain.apply({}, ODD, gated=False, train=False) is None
    np.testing.assert_array_equal(plain.apply({}, ODD, gated=True, train=False), ODD)
    for changes in (shortcut('none', strides=2), shortcut('none', features=2)):
        assert changes.apply({}, ODD, gated=True, train=False) is None
