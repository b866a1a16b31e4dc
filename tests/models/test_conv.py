"""The convolution as a layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models import conv
from resnet_jax.models.conv import Conv
from resnet_jax.models.convolve import convolve


def test_the_layer_has_one_kernel_and_no_bias_in_the_dtype_of_its_input():
    layer = Conv(6, (3, 3), 2, 1, None, 1.0, 'plain')
    x = jnp.ones((2, 5, 5, 4), jnp.bfloat16)
    variables: Any = layer.init(jax.random.key(0), x)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == {
        'params': {'kernel': ((3, 3, 4, 6), jnp.bfloat16)}
    }
    y = layer.apply(variables, x)
    np.testing.assert_array_equal(y, convolve(x, variables['params']['kernel'], strides=2))


def test_a_layer_starts_with_its_bias_and_at_its_share_of_he_et_al_s_deviation():
    x = jnp.ones((1, 3, 3, 4), jnp.float32)
    init: Any = {
        scale: Conv(6, (3, 3), 1, 2, 0.5, scale, 'plain').init(jax.random.key(0), x) for scale in (0.0, 0.25, 1.0)
    }
    whole = init[1.0]['params']['kernel']
    assert whole.shape == (3, 3, 2, 6)
    np.testing.assert_array_equal(init[0.25]['params']['kernel'], 0.25 * whole)
    np.testing.assert_array_equal(init[0.0]['params']['kernel'], 0 * whole)
    np.testing.assert_array_equal(init[0.0]['params']['bias'], np.full(6, 0.5))
    np.testing.assert_array_equal(
        Conv(6, (3, 3), 1, 2, 0.5, 0.0, 'plain').apply(init[0.0], x), np.full((1, 3, 3, 6), 0.5)
    )


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('groups', [1, 2])
def test_scaled_standardised_filters_have_mean_0_and_give_a_relu_back_its_variance(groups):
    """Brock et al. 2021, eq. 3: over a filter's fan-in the weights have mean 0 and squares that sum up to γ² g²."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 3, 6)))
    layers = {kind: Conv(4, (3, 3), 1, groups, None, 1.0, kind) for kind in ('standardized', 'scaled_standardized')}
    variables: Any = layers['scaled_standardized'].init(jax.random.key(0), x)
    kernel, gain = 5 + 3 * variables['params']['kernel'], jnp.asarray([0.5, 1, 2, -3])
    np.testing.assert_array_equal(variables['params']['gain'], np.ones(4))
    # What a layer convolves with: its answer to each of the inputs that are 1 at one pixel of one channel.
    probes = jnp.eye(9 * 6).reshape(-1, 3, 3, 6)
    squares = {}
    for kind, layer in layers.items():
        params = {'kernel': kernel} | ({'gain': gain} if kind == 'scaled_standardized' else {})
        weights = np.asarray(layer.apply({'params': params}, probes)[:, 1, 1])  # (pixels and channels, features)
        np.testing.assert_allclose(weights.sum(axis=0), np.zeros(4), atol=1e-12)
        squares[kind] = np.square(weights).sum(axis=0)
    fan_in = 9 * 6 // groups
    variance = np.var(kernel, axis=(0, 1, 2))
    shrunk = variance / (variance + 1e-5)
    np.testing.assert_allclose(squares['standardized'], fan_in * shrunk, rtol=1e-12)
    np.testing.assert_allclose(squares['scaled_standardized'], conv.RELU_GAIN**2 * gain**2 * shrunk, rtol=1e-12)
    np.testing.assert_allclose(conv.RELU_GAIN, np.sqrt(2 / (1 - 1 / np.pi)), rtol=1e-3)
