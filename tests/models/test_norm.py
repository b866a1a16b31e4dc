from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.norm import BatchNorm, GroupNorm


def variables(channels, dtype='float64'):
    """Scale, bias and running statistics, none of them at its start."""
    rng = np.random.default_rng(1)
    return {
        'params': {
            'scale': jnp.asarray(rng.uniform(0.5, 2, channels), dtype),
            'bias': jnp.asarray(rng.normal(size=channels), dtype),
        },
        'batch_stats': {
            'mean': jnp.asarray(rng.normal(size=channels), dtype),
            'var': jnp.asarray(rng.uniform(0.5, 2, channels), dtype),
        },
    }


def train(x, given, momentum=0.9, epsilon=1e-5, examples=0):
    return BatchNorm(momentum, epsilon, examples, 1.0).apply(given, x, train=True, mutable=['batch_stats'])


def two_pass(x, given, epsilon=1e-5):
    """Ioffe & Szegedy 2015, algorithm 1."""
    mean = jnp.mean(x, (0, 1, 2))
    var = jnp.mean(jnp.square(x - mean), (0, 1, 2))
    return given['params']['scale'] * (x - mean) / jnp.sqrt(var + epsilon) + given['params']['bias']


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('mean', [0, 1000])
def test_one_pass_gives_what_two_passes_give(mean):
    x = mean + jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 5, 6)))
    given = variables(6)
    y, _ = train(x, given)
    np.testing.assert_allclose(y, two_pass(x, given), rtol=1e-11, atol=1e-11)
    assert y.dtype == jnp.float64


def test_a_mean_of_30_and_a_deviation_of_a_hundredth_survive_float32():
    """The result is right to a hundred-thousandth of a deviation, the variance to a part in a million."""
    x = np.asarray(30 + 0.01 * np.random.default_rng(0).normal(size=(16, 8, 8, 5)), np.float32)
    with jax.enable_x64(True):
        exact = np.asarray(two_pass(jnp.asarray(x, jnp.float64), variables(5)))
    y, updates = train(jnp.asarray(x), variables(5, 'float32'), momentum=0.0)
    running = updates['batch_stats']
    assert np.abs(y - exact).max() < 1e-5
    np.testing.assert_allclose(running['mean'], x.mean((0, 1, 2), np.float64), rtol=1e-7)
    np.testing.assert_allclose(running['var'], x.var((0, 1, 2), np.float64, ddof=1), rtol=1e-6)
    # The negative control: E[x^2] - E[x]^2 about 0 cancels here.
    naive = jnp.mean(jnp.square(x), (0, 1, 2)) - jnp.square(jnp.mean(jnp.asarray(x), (0, 1, 2)))
    assert np.abs(naive / x.var((0, 1, 2), np.float64) - 1).max() > 0.1


@pytest.mark.parametrize('mode', ['train', 'eval'])
@pytest.mark.parametrize(
    ('dtype', 'statistics'),
    [('bfloat16', 'float32'), ('float16', 'float32'), ('float32', 'float32'), ('float64', 'float64')],
)
def test_statistics_are_float32_at_least_and_the_result_has_the_inputs_dtype(float64, mode, dtype, statistics):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2, 3)), dtype)
    layer = BatchNorm(0.9, 1e-5, 0, 1.0)
    fresh = layer.init(jax.random.key(0), x, train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype(statistics)}
    y, updates = layer.apply(fresh, x, train=mode == 'train', mutable=['batch_stats'])
    assert y.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(statistics)}


def test_bfloat16_is_normalised_with_the_statistics_of_its_values():
    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, size=(8, 4, 4, 3)), jnp.bfloat16)
    given = variables(3, 'float32')
    y, _ = train(x, given)
    exact = two_pass(x.astype(jnp.float32), given)
    assert np.abs(y.astype(jnp.float32) - exact).max() < 2**-8 * np.abs(exact).max()  # one rounding


# By hand: one channel with the values 1, 2, 3, 6 has mean 3, variance 14/4 = 3.5, unbiased 14/3.
WORKED = jnp.asarray([1, 2, 3, 6], jnp.float32).reshape(2, 2, 1, 1)


def worked(scale, bias, mean, var):
    params = {'scale': jnp.asarray([scale], jnp.float32), 'bias': jnp.asarray([bias], jnp.float32)}
    return {
        'params': params,
        'batch_stats': {'mean': jnp.asarray([mean], jnp.float32), 'var': jnp.asarray([var], jnp.float32)},
    }


def test_training_normalises_by_the_biased_variance():
    y, _ = train(WORKED, worked(scale=3, bias=7, mean=100, var=100), epsilon=0.5)
    np.testing.assert_allclose(y.ravel(), [7 - 3, 7 - 1.5, 7, 7 + 4.5], rtol=1e-6)  # sqrt(3.5 + .5) = 2


def test_running_statistics_keep_their_share_and_take_the_unbiased_variance():
    _, updates = train(WORKED, worked(scale=3, bias=7, mean=10, var=20), momentum=0.75)
    np.testing.assert_allclose(updates['batch_stats']['mean'], [0.75 * 10 + 0.25 * 3], rtol=1e-6)
    np.testing.assert_allclose(updates['batch_stats']['var'], [0.75 * 20 + 0.25 * 14 / 3], rtol=1e-6)


def test_evaluation_normalises_by_the_running_statistics_and_leaves_them():
    given = worked(scale=3, bias=7, mean=2, var=3.5)
    y, updates = BatchNorm(0.9, 0.5, 0, 1.0).apply(given, WORKED, train=False, mutable=['batch_stats'])
    np.testing.assert_allclose(y.ravel(), [7 - 1.5, 7, 7 + 1.5, 7 + 6], rtol=1e-6)
    assert jax.tree.map(lambda leaf: leaf.item(), updates['batch_stats']) == {'mean': 2, 'var': 3.5}


def test_initialising_leaves_the_running_statistics_at_their_start():
    fresh = BatchNorm(0.9, 1e-5, 0, 1.0).init(jax.random.key(0), 5 + WORKED, train=True)
    assert jax.tree.map(lambda leaf: leaf.item(), fresh) == {
        'params': {'scale': 1, 'bias': 0},
        'batch_stats': {'mean': 0, 'var': 1},
    }


@pytest.mark.parametrize('shape', [(1, 1, 1, 2), (4, 1, 1, 2)])
def test_a_constant_channel_becomes_its_bias_and_its_gradient_stays_finite(shape):
    x = jnp.full(shape, 1e4 / 3, jnp.float32)
    given = variables(2, 'float32')
    y, updates = train(x, given, momentum=0.0)
    np.testing.assert_allclose(y, jnp.broadcast_to(given['params']['bias'], shape), rtol=1e-6)
    np.testing.assert_array_equal(updates['batch_stats']['var'], [0, 0])
    assert np.isfinite(jax.grad(lambda x: jnp.sum(jnp.square(train(x, given)[0])))(x)).all()


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_in_half_precision_gradients_have_its_dtype_and_those_of_parameters_float32(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 4, 3)), dtype)
    given = variables(3, 'float32')

    def loss(x, params):
        return jnp.sum(jnp.square(train(x, {**given, 'params': params})[0].astype(jnp.float32)))

    own, params = jax.grad(loss, (0, 1))(x, given['params'])
    wide = jax.grad(loss, 1)(x.astype(jnp.float32), given['params'])
    assert own.dtype == dtype and {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(wide), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.5)  # sums of 128 terms of size 1, rounded to 1/256


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('mean', [0, 9, 1000])  # of deviations: the last is far
def test_gradients_are_those_of_two_passes_and_of_finite_differences(mean):
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.normal(size=(3, 2, 3, 4))) for _ in range(2))
    x = x + mean
    given = variables(4)

    def loss(normalise, x, params):
        return jnp.sum(g * jnp.tanh(normalise(x, {**given, 'params': params})))

    def gradients(normalise):
        return jax.jit(jax.grad(loss, (1, 2)), static_argnums=0)(normalise, x, given['params'])

    ours = gradients(lambda x, given: train(x, given)[0])
    theirs = gradients(two_pass)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11), ours, theirs)
    direction = jnp.asarray(rng.normal(size=x.shape))
    step = 1e-5
    value = jax.jit(lambda x: loss(lambda x, given: train(x, given)[0], x, given['params']))
    numeric = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(ours[0] * direction), numeric, rtol=1e-7)


@pytest.mark.usefixtures('float64')
def test_evaluations_gradient_takes_the_statistics_as_constants():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2, 4)))
    given = variables(4)
    gradient = jax.grad(lambda x: jnp.sum(BatchNorm(0.9, 1e-5, 0, 1.0).apply(given, x, train=False)))(x)
    factor = given['params']['scale'] / np.sqrt(given['batch_stats']['var'] + 1e-5)
    np.testing.assert_allclose(gradient, np.broadcast_to(factor, x.shape), rtol=1e-14)


# A few examples at a time


@pytest.mark.usefixtures('float64')
def test_examples_taken_together_are_batches_of_their_own_and_running_statistics_their_mean():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 2, 4)))
    given = variables(4)
    y, updates = train(x, given, examples=2)
    alone = [train(x[i : i + 2], given) for i in (0, 2, 4)]
    np.testing.assert_allclose(y, jnp.concatenate([each for each, _ in alone]), rtol=1e-12, atol=1e-13)
    for name in ('mean', 'var'):
        expected = np.mean([each['batch_stats'][name] for _, each in alone], axis=0)
        np.testing.assert_allclose(updates['batch_stats'][name], expected, rtol=1e-12)
    assert np.abs(y - train(x, given)[0]).max() > 0.1
    whole, together = train(x, given), train(x, given, examples=6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), whole, together)


def test_a_layer_of_several_examples_is_initialised_on_one():
    fresh = BatchNorm(0.9, 1e-5, 4, 1.0).init(jax.random.key(0), WORKED[:1], train=True)
    assert fresh['batch_stats'] == {'mean': 0, 'var': 1}


@pytest.mark.parametrize('layer', [BatchNorm(0.9, 1e-5, 0, 0.25), GroupNorm(1, 1e-5, 0.25)], ids=['batch', 'group'])
def test_the_scale_starts_where_it_is_said(layer):
    assert layer.init(jax.random.key(0), WORKED, train=True)['params'] == {'scale': 0.25, 'bias': 0}


# Groups of channels


def test_groups_of_channels_by_hand():
    """The first two channels 1, 3 and 3, 5 have mean 3 and variance 2, the third and fourth 0 and 100."""
    x = jnp.asarray([[[1, 3, -10, 10], [3, 5, 10, -10]]], jnp.float32)[None]
    params = {'scale': jnp.asarray([1, 2, 1, 1], jnp.float32), 'bias': jnp.asarray([0, 0, 0, 5], jnp.float32)}
    y = GroupNorm(2, 0.0, 1.0).apply({'params': params}, x, train=False)
    half = np.sqrt(2)
    np.testing.assert_allclose(y[0, 0], [[-half, 0, -1, 6], [0, 2 * half, 1, 4]], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_an_example_is_normalised_alone_in_training_as_in_evaluation(dtype):
    x = jnp.asarray(100 + np.random.default_rng(0).normal(size=(3, 4, 4, 6)), dtype)
    layer = GroupNorm(3, 1e-5, 1.0)
    given = {'params': variables(6, 'float32')['params']}
    together: Any = layer.apply(given, x, train=True)
    assert together.dtype == dtype
    np.testing.assert_array_equal(together[1:2], layer.apply(given, x[1:2], train=False))
