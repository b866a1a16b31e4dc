"""Max pooling against XLA's own, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models import pool


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize(('size', 'strides'), [(3, 2), (2, 2), (3, 1), (5, 3)])
@pytest.mark.parametrize('shape', [(8, 8), (7, 9), (6, 5)])
def test_values_and_gradients_are_xlas(size, strides, shape):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 5, (2, *shape, 3)).astype(float))  # with ties
    y = pool.max_pool(x, size, strides)
    weights = jnp.asarray(rng.normal(size=y.shape))

    def gradient(pooled):
        return jax.jit(jax.grad(lambda x: jnp.sum(weights * pooled(x, size, strides))))(x)

    np.testing.assert_array_equal(y, pool._native(x, size, strides))
    np.testing.assert_allclose(gradient(pool.max_pool), gradient(pool._native), rtol=1e-12, atol=1e-12)


def test_a_gradient_by_hand():
    x = jnp.asarray([[1, 5, 2, 0], [0, 0, 0, 0], [7, 0, 0, 1], [0, 0, 2, 0]], jnp.float32)[None, :, :, None]
    gradient = jax.grad(lambda x: jnp.sum(pool.max_pool(x, 3, 2)))(x)[0, :, :, 0]
    # Fields around (0, 0), (0, 2), (2, 0), (2, 2): their maxima are 5, 5, 7 and 2.
    np.testing.assert_array_equal(gradient, [[0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]])
