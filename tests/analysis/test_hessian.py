"""The spectrum of the Hessian, held against matrices whose eigenvalues are known."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from resnet_jax.analysis import hessian
from resnet_jax.analysis.landscape import chunks, loss

SMALL = {'stem_width': 2, 'widths': (2,), 'stage_blocks': (2,), 'placement': 'original'}
STRIDED = {'widths': (2, 2), 'stage_blocks': (1, 2)}
SMALL |= {'image_shape': (5, 5, 1), 'classes': 3}


def data(dtype='float64', n=6):
    rng = np.random.default_rng(3)
    return jnp.asarray(rng.normal(size=(n, 5, 5, 1)), dtype), jnp.asarray(rng.integers(0, 3, n), jnp.int32)


def symmetric(eigenvalues, seed=0):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    return jnp.asarray(rotation @ np.diag(eigenvalues) @ rotation.T)


def lanczos(multiply, size, steps, seed=0):
    start = jax.random.normal(jax.random.key(seed), (size,), 'float64')
    return hessian.ritz(*jax.device_get(hessian.lanczos(multiply, start, steps, room=steps)))


@functools.partial(jax.jit, static_argnums=2)
def of_matrix(matrix, start, steps):
    return hessian.lanczos(lambda vector: matrix @ vector, start, steps, room=steps)


def spectrum(matrix, steps, seed=0):
    start = jax.random.normal(jax.random.key(seed), (len(matrix),), 'float64')
    return hessian.ritz(*jax.device_get(of_matrix(matrix, start, steps)))


# The Lanczos method


@pytest.mark.usefixtures('float64')
def test_as_many_steps_as_dimensions_give_every_eigenvalue_and_weights_that_add_up_to_one():
    expected = np.sort(np.random.default_rng(1).normal(size=20))
    values, weights = spectrum(symmetric(expected), 20)
    np.testing.assert_allclose(values, expected, atol=1e-10)
    assert weights.sum() == pytest.approx(1, abs=1e-12) and (weights > 0).all()


@pytest.mark.usefixtures('float64')
def test_extreme_eigenvalues_that_stand_apart_are_found_long_before():
    bulk = np.random.default_rng(1).normal(scale=0.1, size=300)
    values, _ = spectrum(symmetric(np.r_[bulk, 5.0, -3.0]), 15)
    np.testing.assert_allclose([values[0], values[-1]], [-3, 5], atol=1e-8)


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('eigenvalue', [-2.0, 0.0, 7.0])
def test_what_the_start_vector_has_no_part_in_has_no_weight(eigenvalue):
    """A multiple of the identity is exhausted after one step; what the others find is rounding."""
    values, weights = spectrum(eigenvalue * jnp.eye(10, dtype='float64'), 5)
    known = values[weights > 1e-20]
    np.testing.assert_allclose(known, eigenvalue, atol=1e-12)
    assert np.nanmax(np.abs(values)) <= abs(eigenvalue) + 1e-12


@pytest.mark.usefixtures('float64')
def test_without_orthogonalising_the_largest_would_be_found_again_and_again():
    """The negative control: of simple Lanczos, which its rounding errors lead back."""
    matrix = symmetric(np.r_[np.linspace(0, 1, 199), 100.0])
    values, _ = spectrum(matrix, 60)
    assert np.sum(values > 99) == 1

    vector, before, diagonal, beside = jax.random.normal(jax.random.key(0), (200,), matrix.dtype), 0.0, [], [0.0]
    vector /= jnp.linalg.norm(vector)
    for _ in range(60):
        following = matrix @ vector - beside[-1] * before
        diagonal.append(vector @ following)
        following -= diagonal[-1] * vector
        beside.append(jnp.linalg.norm(following))
        before, vector = vector, following / beside[-1]
    naive, _ = hessian.ritz(np.array(diagonal), np.array(beside[1:]))
    assert np.sum(naive > 99) > 1


@pytest.mark.usefixtures('float64')
def test_a_matrix_that_is_not_finite_has_no_eigenvalues_and_raises_nothing():
    values, weights = spectrum(jnp.full((4, 4), jnp.nan, 'float64'), 3)
    assert np.isnan(values).all() and not weights.any()
    assert np.isnan(hessian.share_near_zero(values[None], weights[None], 0.01))


# The share near zero


@pytest.mark.usefixtures('float64')
def test_the_share_near_zero_is_that_of_all_eigenvalues():
    eigenvalues = np.r_[np.zeros(700), np.linspace(0.001, 0.009, 100), np.linspace(0.05, 1, 200)]
    matrix = symmetric(eigenvalues)
    values, weights = (np.stack(each) for each in zip(*(spectrum(matrix, 60, seed) for seed in range(10)), strict=True))
    found = [hessian.share_near_zero(values, weights, width) for width in (0.02, 1.0)]
    np.testing.assert_allclose(found, [0.8, 1.0], atol=0.03)


def test_near_zero_is_meant_by_size_and_by_the_largest_in_size():
    values, weights = np.array([[-2.0, -0.1, 0.3, 1.0]]), np.array([[0.1, 0.2, 0.3, 0.4]])
    assert hessian.share_near_zero(values, weights, 0.05) == pytest.approx(0.2)
    assert hessian.share_near_zero(values, weights, 0.15) == pytest.approx(0.5)


# Of a network


@pytest.mark.usefixtures('float64')
def test_the_hessian_of_a_linear_network_with_quadratic_loss_is_that_of_its_inputs():
    """L = ½ mean ‖xᵀW − y‖² has the Hessian I ⊗ XᵀX/n, whatever W is: every eigenvalue three times."""
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(4, 10, 25))), jnp.asarray(rng.normal(size=(4, 10, 3)))
    flat = x.reshape(40, 25)
    expected = np.linalg.eigh(flat.T @ flat / 40).eigenvalues

    def value(theta, part):
        return jnp.sum(jnp.square(part[0] @ theta.reshape(25, 3) - part[1])) / 20

    for seed in (0, 1):
        multiply = hessian.product(value, jnp.asarray(rng.normal(size=75)), (x, y))
        few, _ = lanczos(multiply, 75, 25, seed)
        np.testing.assert_allclose([few[0], few[-1]], expected[[0, -1]], atol=1e-8)
        everything, _ = lanczos(multiply, 75, 75, seed)
        distances = np.abs(everything[~np.isnan(everything), None] - expected)
        assert max(distances.min(axis=0).max(), distances.min(axis=1).max()) < 1e-8


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize(
    'fields', [{'stage_blocks': (1, 2), 'widths': (2, 2)}, {'shortcut': 'none'}], ids=['residual', 'plain']
)
def test_it_is_the_derivative_of_the_gradient_and_its_extremes_those_of_the_whole_matrix(make_network, fields):
    network, variables = make_network(**SMALL | fields)
    images, labels = data()
    theta, unravel = ravel_pytree(variables['params'])

    def value(theta, part):
        return loss(network, {**variables, 'params': unravel(theta)}, *part)

    gradient = jax.jit(lambda theta: jax.grad(value)(theta, (images, labels)))
    multiply = hessian.product(value, theta, chunks(images, labels, 3))
    whole = np.asarray(jax.jit(lambda rows: jax.lax.map(multiply, rows))(jnp.eye(len(theta))))
    np.testing.assert_allclose(whole, whole.T, atol=1e-12)
    vector = jnp.asarray(np.random.default_rng(0).normal(size=len(theta)))
    numeric = (gradient(theta + 1e-6 * vector) - gradient(theta - 1e-6 * vector)) / 2e-6
    np.testing.assert_allclose(whole @ vector, numeric, atol=1e-6 * np.abs(numeric).max())

    exact = np.linalg.eigvalsh(whole)
    key = jax.random.key(0)
    values, weights = hessian.spectrum(network, variables, images, labels, key, steps=60, room=60, batch=6)
    np.testing.assert_allclose([values[0], values[-1]], exact[[0, -1]], rtol=1e-8, atol=1e-8)
    assert exact[0] < 0 < exact[-1]
    share = hessian.share_near_zero(values[None], weights[None], 0.01)
    assert share == pytest.approx(np.mean(np.abs(exact) <= 0.01 * np.abs(exact).max()), abs=0.15)


def test_other_parameters_start_vectors_and_steps_are_the_same_program(make_network, caplog):
    network, variables = make_network('float32', **SMALL)
    images, labels = data('float32')
    hessian.spectrum(network, variables, images, labels, jax.random.key(0), steps=3, room=5, batch=6)
    other = jax.tree.map(lambda leaf: 1.1 * leaf, variables)
    with jax.log_compiles():
        few, _ = hessian.spectrum(network, other, images, labels, jax.random.key(1), steps=4, room=5, batch=6)
        hessian.spectrum(network, other, images, labels, jax.random.key(1), steps=5, room=5, batch=6)
        assert '_tridiagonal' not in compiled(caplog)
        again, _ = hessian.spectrum(network, other, images, labels, jax.random.key(1), steps=4, room=4, batch=6)
        assert '_tridiagonal' in compiled(caplog)  # the negative control
    np.testing.assert_allclose(few, again, rtol=1e-4)


def compiled(caplog):
    return re.findall(r'Finished XLA compilation of jit\((\w+)\)', caplog.text)
