"""Surfaces of the loss: directions normalised by filters, and values known by hand or by evaluation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import landscape
from resnet_jax.data.augment import Normalization, normalize
from resnet_jax.data.resident import Examples
from resnet_jax.train.evaluate import evaluate

SMALL = {'stage_blocks': (3, 2), 'widths': (4, 6), 'placement': 'original'}
PLAIN = {**SMALL, 'shortcut': 'none'}


def data(dtype, n=12):
    rng = np.random.default_rng(3)
    return jnp.asarray(rng.normal(size=(n, 8, 8, 1)), dtype), jnp.asarray(rng.integers(0, 10, n), jnp.int32)


def two_directions(params, share='none'):
    return tuple(landscape.direction(jax.random.key(seed), params, share) for seed in (0, 1))


def layers(tree, path=()):
    """(path, leaf of one layer): of stacked leaves one for each block."""
    for name, branch in tree.items():
        if isinstance(branch, dict):
            yield from layers(branch, (*path, name))
        elif 'body' in path:
            yield from (((*path, name, index), leaf) for index, leaf in enumerate(branch))
        else:
            yield (*path, name), branch


# Directions


@pytest.mark.usefixtures('float64')
def test_every_filter_of_a_direction_is_as_long_as_the_networks_and_all_else_is_zero(make_network):
    _, variables = make_network(**SMALL)
    theirs, kernels = dict(layers(variables['params'])), 0
    for path, leaf in layers(landscape.direction(jax.random.key(0), variables['params'], 'none')):
        if 'kernel' not in path:
            assert not np.any(leaf), path
            continue
        kernels += 1
        for feature in range(leaf.shape[-1]):
            length, expected = (np.linalg.norm(each[..., feature].ravel()) for each in (leaf, theirs[path]))
            assert length == pytest.approx(expected, rel=1e-12), (path, feature)
    assert kernels == 12  # stem, head, and two a block


@pytest.mark.usefixtures('float64')
def test_of_convolutions_that_blocks_share_a_direction_has_one(make_network):
    network, variables = make_network(**SMALL, share='kernels')
    drawn = landscape.direction(jax.random.key(0), variables['params'], network.arch.share)
    kernel, own = (tree['stage1']['body']['conv1']['kernel'] for tree in (variables['params'], drawn))
    assert own.shape == (3, 3, 4, 4)
    np.testing.assert_allclose(
        np.linalg.norm(own.reshape(-1, 4), axis=0), np.linalg.norm(kernel.reshape(-1, 4), axis=0)
    )


@pytest.mark.usefixtures('float64')
def test_a_filter_of_zeros_stays_zero_and_scaled_filters_have_scaled_directions(make_network):
    _, variables = make_network(**SMALL)
    zero = jax.tree.map(jnp.zeros_like, variables['params'])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(landscape.direction(jax.random.key(0), zero, 'none')))
    tripled = jax.tree.map(lambda leaf: 3 * leaf, variables['params'])
    once, thrice = (landscape.direction(jax.random.key(0), each, 'none') for each in (variables['params'], tripled))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(3 * a, b, rtol=1e-12), once, thrice)


def test_directions_of_two_keys_are_nearly_at_a_right_angle(tiny):
    _, variables = tiny
    one, other = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(each)])
                  for each in two_directions(variables['params']))  # fmt: skip
    assert abs(one @ other) < 0.1 * np.linalg.norm(one) * np.linalg.norm(other)


# Surfaces


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('fields', [SMALL, PLAIN], ids=['residual', 'plain'])
def test_at_the_origin_it_is_the_evaluated_loss_and_elsewhere_that_of_the_moved_network(make_network, fields):
    network, variables = make_network(**fields)
    images, labels = data('float64')
    directions = two_directions(variables['params'])
    points = jnp.asarray([[0, 0], [0.5, 0], [0.25, -1]], 'float64')
    found = landscape.surface(network, variables, directions, points, images, labels, batch=12)

    def evaluated(variables):
        logits = network.apply(variables, images, train=False)
        return -np.mean(np.asarray(jax.nn.log_softmax(logits))[np.arange(12), labels])

    for point, value in zip(points, found, strict=True):
        params = jax.tree.map(
            lambda p, one, other, point=point: p + point[0] * one + point[1] * other, variables['params'], *directions
        )
        np.testing.assert_allclose(value, evaluated({**variables, 'params': params}), rtol=1e-12)
    assert len(set(np.asarray(found).tolist())) == 3


def test_at_the_origin_it_is_what_evaluation_says_of_a_run(tiny):
    network, variables = tiny
    _, labels = data('float32')
    stored = Examples(jnp.asarray(np.random.default_rng(0).integers(0, 255, (12, 8, 8, 1)), jnp.uint8), labels)
    normal = Normalization(jnp.asarray(100.0), jnp.asarray(50.0))
    images = normalize(stored.images, normal)
    said = evaluate(network, variables, stored, normal, batch=5).loss
    found = landscape.surface(
        network, variables, two_directions(variables['params']), jnp.zeros((1, 2)), images, labels, batch=4
    )
    assert float(found[0]) == pytest.approx(said, rel=1e-5)


@pytest.mark.usefixtures('float64')
def test_the_surface_of_a_quadratic_is_that_quadratic():
    """L = ½ ‖XW − Y‖², along s A + t B: L₀ + s R·XA + t R·XB + ½ s² ‖XA‖² + ½ t² ‖XB‖² + s t XA·XB, R = XW − Y."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 5)), rng.normal(size=(9, 3))
    w, *directions = rng.normal(size=(3, 5, 3))
    points = rng.uniform(-1, 1, (20, 2))
    found = landscape.values(
        lambda params: jnp.sum(jnp.square(x @ params['w'] - y)) / 2,
        {'w': jnp.asarray(w)}, tuple({'w': jnp.asarray(each)} for each in directions), jnp.asarray(points),
    )  # fmt: skip
    r, a, b = x @ w - y, *(x @ each for each in directions)
    s, t = points.T
    linear = s * np.sum(r * a) + t * np.sum(r * b)
    square = s**2 / 2 * np.sum(a * a) + t**2 / 2 * np.sum(b * b) + s * t * np.sum(a * b)
    np.testing.assert_allclose(found, np.sum(r * r) / 2 + linear + square, rtol=1e-12)


@pytest.mark.usefixtures('float64')
def test_chunks_change_nothing_and_must_divide_the_images(make_network):
    network, variables = make_network(**SMALL)
    images, labels = data('float64')
    directions, points = two_directions(variables['params']), jnp.asarray([[0.3, 0.2]])
    whole, parts = (
        landscape.surface(network, variables, directions, points, images, labels, batch=batch) for batch in (12, 3)
    )
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
    with pytest.raises(ValueError, match='12 images are no multiple of 5'):
        landscape.surface(network, variables, directions, points, images, labels, batch=5)


def test_a_loss_that_overflows_is_infinite_and_never_nan(tiny):
    network, variables = tiny
    huge = {**variables, 'params': jax.tree.map(lambda leaf: 1e30 * leaf, variables['params'])}
    directions = two_directions(huge['params'])
    found = landscape.surface(network, huge, directions, jnp.ones((2, 2)), *data('float32'), batch=12)
    np.testing.assert_array_equal(found, [np.inf, np.inf])


def test_other_points_directions_and_parameters_are_the_same_program(tiny, caplog):
    network, variables = tiny
    images, labels = data('float32')
    other = jax.tree.map(lambda leaf: 1.1 * leaf, variables)
    cases = [(each, two_directions(each['params']), points)
             for each in (variables, other) for points in (jnp.zeros((5, 2)), jnp.ones((5, 2)))]  # fmt: skip
    landscape.surface(network, *cases[0], images, labels, batch=6)
    with jax.log_compiles():
        for case in cases:
            landscape.surface(network, *case, images, labels, batch=6)
        assert 'surface' not in compiled(caplog)
        landscape.surface(network, *cases[0], images, labels, batch=4)
        assert 'surface' in compiled(caplog)  # the negative control


def compiled(caplog):
    return re.findall(r'Finished XLA compilation of jit\((\w+)\)', caplog.text)
