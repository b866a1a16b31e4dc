import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import shattering
from resnet_jax.analysis.shattering import Layers

FEED_FORWARD = Layers('none', 'he', 0.0, 1.0)
RESIDUAL = Layers('batch', 'he', 1.0, 0.5)
KINDS = [
    FEED_FORWARD,
    Layers('centre', 'he', 0.0, 1.0),
    Layers('batch', 'he', 0.0, 1.0),
    Layers('none', 'he', 1.0, 1.0),
    RESIDUAL,
    Layers('none', 'looks_linear', 0.0, 1.0),
]
WIDTH, DEPTH = 6, 5


def grid(points, dtype=np.float64):
    x = np.linspace(-2, 2, points, dtype=dtype)
    return np.stack([x, np.ones_like(x)], axis=1)


def found(layers, inputs, *, depth=DEPTH, seed=0, readout=None):
    """Gradients along the first coordinate; without a readout every unit is a function."""
    inputs = jnp.asarray(inputs)
    direction = jnp.eye(inputs.shape[1], dtype=inputs.dtype)[0]
    readout = jnp.eye(WIDTH, dtype=inputs.dtype) if readout is None else readout
    return np.asarray(shattering.gradients(layers, jax.random.key(seed), inputs, direction, readout, depth=depth))


# The small networks


def weights_of(layers, width, depth, seed):
    """A and the W of each layer, drawn as the library draws them."""
    of_first, of_layers = jax.random.split(jax.random.key(seed))
    first = np.asarray(jax.random.normal(of_first, (2, width), jnp.float64))
    keys = jax.random.split(of_layers, depth)
    if layers.start == 'he':
        drawn = [np.sqrt(2 / width) * jax.random.normal(key, (width, width), jnp.float64) for key in keys]
    else:
        halves = [np.asarray(jax.random.orthogonal(key, width, dtype=jnp.float64)) for key in keys]
        drawn = [np.concatenate([half, -half]) for half in halves]
    return first, [np.asarray(each) for each in drawn]


def by_hand(layers, inputs, at, weights):
    """All units of the network of each depth at the points `at`, with the statistics of `inputs`."""
    (first, drawn), units = weights, []
    seen, h = inputs @ first, at @ first
    for each in drawn:
        mean, deviation = seen.mean(axis=0), np.sqrt(seen.var(axis=0) + shattering.EPSILON)
        shift = mean if layers.norm != 'none' else 0
        divide = deviation if layers.norm == 'batch' else 1

        def features(h, shift=shift, divide=divide):
            normal = (h - shift) / divide
            both = [np.maximum(normal, 0), np.maximum(-normal, 0)]
            return both[0] if layers.start == 'he' else np.concatenate(both, axis=1)

        given = features(h)
        units.append(given if layers.start == 'he' else given[:, :WIDTH] - given[:, WIDTH:])
        h = layers.shortcut * h + layers.scale * (given @ each)
        seen = layers.shortcut * seen + layers.scale * (features(seen) @ each)
    return np.stack(units).transpose(0, 2, 1)


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('layers', KINDS, ids=str)
def test_gradients_are_the_differences_of_a_network_written_out_whose_statistics_stand_still(layers):
    inputs, step = grid(10), np.array([1e-7, 0])  # an even number: no unit is at its kink, the centre
    weights = weights_of(layers, WIDTH, DEPTH, seed=3)
    ahead, behind = (by_hand(layers, inputs, inputs + sign * step, weights) for sign in (1, -1))
    np.testing.assert_allclose(found(layers, inputs, seed=3), (ahead - behind) / 2e-7, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures('float64')
def test_a_network_is_the_first_layers_of_a_deeper_one_and_a_function_a_sum_of_units():
    deep, shallow = found(RESIDUAL, grid(9), depth=5), found(RESIDUAL, grid(9), depth=1)
    np.testing.assert_allclose(deep[:1], shallow, rtol=1e-12)
    readout = shattering.random_readout(jax.random.key(1), WIDTH, jnp.float64)
    np.testing.assert_allclose(
        found(RESIDUAL, grid(9), readout=readout)[:, 0], np.einsum('duf,u->df', deep, readout[:, 0]), rtol=1e-10
    )


@pytest.mark.usefixtures('float64')
def test_a_looks_linear_network_is_linear_and_a_he_network_is_not():
    looks_linear = found(Layers('none', 'looks_linear', 0.0, 1.0), grid(32), depth=20)
    steps = np.diff(looks_linear, axis=-1)  # second differences of the function
    assert np.abs(steps).max() < 1e-13 * np.abs(looks_linear).max()
    assert shattering.variation(looks_linear).max() < 1e-13
    readout = shattering.random_readout(jax.random.key(1), WIDTH, jnp.float64)
    assert shattering.variation(found(FEED_FORWARD, grid(32), readout=readout)).min() > 0.1


def test_other_gains_compile_nothing_and_another_depth_does(caplog):
    readout = shattering.random_readout(jax.random.key(1), WIDTH, jnp.float32)
    inputs = grid(9, np.float32)
    found(RESIDUAL, inputs, readout=readout)
    with jax.log_compiles():
        for gains in ((0.0, 1.0), (1.0, 0.1), (1.0, 1.0)):
            found(Layers('batch', 'he', *gains), inputs, readout=readout, seed=7)
        assert '_gradients' not in compiled(caplog)
        found(RESIDUAL, inputs, readout=readout, depth=DEPTH + 1)
        assert '_gradients' in compiled(caplog)


def compiled(caplog):
    return re.findall(r'Finished XLA compilation of jit\((\w+)\)', caplog.text)


# Theory


def independent(points, width, seed):
    return np.random.default_rng(seed).normal(size=(points, width)).astype(np.float32) / np.float32(np.sqrt(width))


def correlations(layers, *, depth, width=300, points=96, draws=6):
    """By depth, mean and standard error over draws of inputs and weights."""
    rows = []
    for seed in range(draws):
        inputs = jnp.asarray(independent(points, width, seed))
        direction, readout = jnp.eye(width)[0], jnp.eye(width)
        rows.append(shattering.correlation(np.asarray(
            shattering.gradients(layers, jax.random.key(seed), inputs, direction, readout, depth=depth)
        )))  # fmt: skip
    return np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / np.sqrt(draws)


@pytest.mark.parametrize('norm', ['centre', 'batch'])
def test_with_centring_the_correlation_of_a_feed_forward_network_halves_with_every_layer(norm):
    mean, error = correlations(Layers(norm, 'he', 0.0, 1.0), depth=4)
    expected = 2.0 ** -np.arange(1, 5)
    # Centring makes the inputs correlate by -1 / (n - 1): two units are both active a little less often.
    bias = 4 * expected * np.arcsin(1 / 95) / (np.pi / 2)
    assert (np.abs(mean - expected) < 4 * error + bias).all() and (error < 0.1 * expected).all()


def test_without_centring_it_does_not():
    mean, error = correlations(FEED_FORWARD, depth=8)
    assert mean[7] - 4 * error[7] > 3 * 2.0**-8


def test_a_residual_network_that_is_centred_keeps_three_quarters_at_every_layer():
    mean, error = correlations(Layers('centre', 'he', 1.0, 1.0), depth=5)
    expected = 0.75 ** np.arange(5) / 2  # the last ReLU halves it
    assert (np.abs(mean - expected) < 4 * error + 0.02 * expected).all()


def test_with_batch_normalisation_it_keeps_the_product_of_the_true_variances_and_not_the_other():
    mean, error = correlations(Layers('batch', 'he', 1.0, 1.0), depth=12, draws=8)
    true, other = (shattering.residual_correlation(1.0, 12, growth) / 2 for growth in (shattering.RELU_GROWTH, 1.0))
    assert abs(mean[-1] - true) < 4 * error[-1] < other - true


def test_the_product_has_its_known_values():
    assert shattering.residual_correlation(1.0, 10, 1.0) == pytest.approx(0.352, abs=5e-4)
    assert shattering.residual_correlation(1.0, 50, 1.0) == pytest.approx(0.159, abs=5e-4)
    assert shattering.residual_correlation(0.1, 50, 1.0) == pytest.approx(0.820, abs=5e-4)
    assert shattering.residual_correlation(1.0, 1, 1.0) == 1
    assert shattering.residual_correlation(1.0, 2, 1.0) == 0.75


def test_batch_normalisation_sees_the_variance_that_the_product_says():
    """Of 2ρ(z)², ρ the ReLU and z standard normal: the mean is 1, and 1 - 1/π is left without the mean of √2 ρ."""
    z = np.linspace(-12, 12, 200_001)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    relu = np.sqrt(2) * np.maximum(z, 0)
    assert np.sum(relu**2 * density) == pytest.approx(1, abs=1e-9)
    assert np.sum(relu**2 * density) - np.sum(relu * density) ** 2 == pytest.approx(shattering.RELU_GROWTH, abs=1e-8)


# Noise


def test_autocorrelation_of_a_series_by_hand():
    np.testing.assert_allclose(shattering.autocorrelation(np.array([1.0, 3.0, 2.0, 2.0]), 3), [1, -0.5, 0])
    alternating = np.tile([1.0, -1.0], (2, 50))
    np.testing.assert_allclose(shattering.autocorrelation(alternating, 3), [[1, -0.99, 0.98]] * 2)


def test_white_noise_has_the_expected_autocorrelation_of_the_textbook():
    """-(n - k) / (n (n - 1)): the mean that is taken off makes every two values correlate a little."""
    lags = np.arange(1, 21)
    expected = shattering.expected_autocorrelation(np.eye(256), 21)
    np.testing.assert_allclose(expected, [1, *(-(256 - lags) / (256 * 255))], atol=1e-12)


def test_of_two_values_the_autocorrelation_is_minus_a_half_whatever_their_covariance():
    np.testing.assert_allclose(shattering.expected_autocorrelation(shattering.brown_covariance(2), 2), [1, -0.5])


def test_brown_noise_has_its_expected_autocorrelation():
    expected = shattering.expected_autocorrelation(shattering.brown_covariance(256), 6)
    assert expected[1] == pytest.approx(0.98, abs=0.01) and expected[5] == pytest.approx(0.88, abs=0.03)
    rng = np.random.default_rng(0)
    series = np.cumsum(rng.normal(size=(4000, 64)), axis=1)
    drawn = shattering.autocorrelation(series, 6)
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    expected = shattering.expected_autocorrelation(shattering.brown_covariance(64), 6)
    assert (np.abs(drawn.mean(axis=0) - expected) <= 4 * error + 1e-12).all() and (error < 0.005).all()


def test_the_covariance_of_a_series_with_itself_has_a_mean_diagonal_of_1():
    series = np.random.default_rng(0).normal(size=(3, 40)) + 5
    matrix = shattering.covariance(series)
    np.testing.assert_allclose(np.einsum('kii->k', matrix) / 40, 1)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix, matrix.swapaxes(1, 2))
    np.testing.assert_allclose(matrix, shattering.covariance(-3 * series + 1))


def test_correlation_of_gradients_by_pairs():
    g = np.random.default_rng(0).normal(size=(2, 3, 5))
    pairs = [np.sum(g[:, :, i] * g[:, :, j], axis=1) for i in range(5) for j in range(5) if i != j]
    expected = np.mean(pairs, axis=0) / np.mean(np.sum(g**2, axis=1), axis=-1)
    np.testing.assert_allclose(shattering.correlation(g), expected)


# Networks on a line between two images


@pytest.mark.parametrize('norm', ['batch', 'none'])
def test_the_gradient_on_a_line_is_the_difference_of_the_logit_under_the_batchs_statistics(make_network, norm):
    network, _ = make_network('float32', stage_blocks=(1, 1, 1), norm=norm)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        batch, ends = (jnp.asarray(rng.normal(size=(count, 8, 8, 1))) for count in (12, 2))
        positions, step, key = jnp.linspace(0.0, 1.0, 5, dtype=jnp.float64), 1e-6, jax.random.key(4)
        gradient = shattering.line_gradients(network, key, batch, ends, positions)
        variables = trained_on(network, network.init_variables(key, batch.dtype), batch)
        apply = jax.jit(lambda images: network.apply(variables, images, train=False)[:, 0])
        ahead, behind = (ends[0] + (positions + by)[:, None, None, None] * (ends[1] - ends[0]) for by in (step, -step))
        expected = (apply(ahead) - apply(behind)) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(gradient) > 0


def trained_on(network, variables, batch):
    """With the statistics of this batch: what the running ones started at is taken off again."""
    update = jax.jit(lambda variables: network.apply(variables, batch, train=True, mutable=['batch_stats'])[1])
    kept, momentum = update(variables), network.arch.norm_momentum
    statistics = jax.tree.map(
        lambda new, old: (new - momentum * old) / (1 - momentum), kept.get('batch_stats', {}), variables['batch_stats']
    )
    return {**variables, 'batch_stats': statistics}


def test_lines_and_starts_are_data(make_network, caplog):
    network, _ = make_network('float32', stage_blocks=(1, 1, 1))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8, 8, 1)), jnp.float32)
    positions = jnp.linspace(0, 1, 4)

    def gradient(seed, ends):
        return shattering.line_gradients(network, jax.random.key(seed), images, ends, positions)

    first = gradient(0, images[:2])
    with jax.log_compiles():
        assert (gradient(1, images[2:4]) != first).any()
        assert 'line_gradients' not in compiled(caplog)
