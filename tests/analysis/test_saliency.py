"""Saliency: the derivative of log p by each pixel."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis.saliency import log_probability, saliency


@partial(jax.jit, static_argnames='network')
def log_p(network, variables, images):
    return jax.nn.log_softmax(network.apply(variables, images, train=False))


def test_it_is_the_slope_of_log_p_along_each_pixel(make_network, float64):
    network, variables = make_network(image_shape=(8, 8, 3))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3))
    labels = np.array([7, 0, 3])
    found = saliency(network, variables, jnp.asarray(images), jnp.asarray(labels))
    assert found.shape == (3, 8, 8) and (found >= 0).all()
    step = 1e-6
    for example, row, column in ((0, 0, 0), (0, 4, 3), (1, 7, 7), (2, 2, 5)):
        moved = np.repeat(images[example][None], 6, axis=0)
        for channel in range(3):
            moved[channel, row, column, channel] += step
            moved[3 + channel, row, column, channel] -= step
        values = log_p(network, variables, moved)[:, labels[example]]
        slopes = np.abs(values[:3] - values[3:]) / (2 * step)
        assert found[example, row, column] == pytest.approx(slopes.max(), rel=1e-5)


def test_log_p_is_that_of_log_softmax_and_its_gradient_keeps_its_digits_where_p_is_nearly_1(float64):
    logits = np.random.default_rng(0).normal(size=(5, 10)) * 10
    labels = jnp.arange(5)
    expected = jax.nn.log_softmax(jnp.asarray(logits))[jnp.arange(5), labels]
    np.testing.assert_allclose(log_probability(jnp.asarray(logits), labels), expected, rtol=1e-12)

    certain = np.array([[40.0, 0.0, 1.0]])  # 1 - p is e^-40 + e^-39, which float32 cannot tell from 0 beside 1
    exact = np.array([np.exp(-40) + np.exp(-39), -np.exp(-40), -np.exp(-39)])
    gradient = jax.grad(lambda z: log_probability(z, jnp.zeros(1, jnp.int32)).sum())
    np.testing.assert_allclose(gradient(jnp.asarray(certain, jnp.float32))[0], exact, rtol=1e-5)
    of_softmax = jax.grad(lambda z: jax.nn.log_softmax(z)[0, 0])(jnp.asarray(certain, jnp.float32))
    assert float(of_softmax[0, 0]) == 0  # the negative control
