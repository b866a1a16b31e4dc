import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import identity
from resnet_jax.analysis.identity import Stack

WIDTH, DEPTH, SIZE = 3, 4, 0.1


@pytest.fixture(scope='module')
def small():
    return identity.small_map(jax.random.key(5), WIDTH, SIZE)


@pytest.fixture(scope='module')
def x():
    return jax.random.normal(jax.random.key(6), (50, WIDTH))


def together(*stacks):
    return jax.tree.map(lambda *each: jnp.stack(each), *stacks)


def linear(maps, shortcut):
    """A stack of these linear maps, each as ρ(x) - ρ(-x), beside a shortcut or not."""
    one = jnp.eye(WIDTH)
    first = jnp.stack([jnp.concatenate([one, -one])] * len(maps))
    return Stack(first, jnp.stack([jnp.concatenate([each, -each], axis=1) for each in maps]), jnp.asarray(shortcut))


def test_the_small_map_is_that_long(small, x):
    np.testing.assert_allclose(jnp.linalg.norm(x @ small.T, axis=1), SIZE * jnp.linalg.norm(x, axis=1), rtol=1e-5)


def test_the_optimum_is_in_reach_of_stacks_with_a_shortcut_and_without(small, x):
    zero, one = jnp.zeros((WIDTH, WIDTH)), jnp.eye(WIDTH)
    found = identity.distances(
        together(linear([zero, small], 1.0), linear([one, one + small], 0.0), linear([zero, zero], 1.0),
                 linear([one, zero], 0.0)), small, x,
    )  # fmt: skip
    np.testing.assert_allclose(found.error[:2], 0, atol=1e-5)
    np.testing.assert_allclose(found.error[2], 1, rtol=1e-5)  # the identity
    y = x + x @ small.T
    nothing = jnp.linalg.norm(y) / jnp.linalg.norm(x @ small.T)
    np.testing.assert_allclose(found.error[3], nothing, rtol=1e-5)
    np.testing.assert_allclose(found.change, [[0, SIZE], [0, SIZE], [0, 0], [0, 1]], atol=1e-5)


def test_a_plain_stack_can_start_as_the_very_function_of_a_residual_one():
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), (20, WIDTH))
    plain = identity.start('plain_from_identity', key, DEPTH, WIDTH)
    assert plain.shortcut == 0 and plain.first.shape == (DEPTH, 4 * WIDTH, WIDTH)
    free = Stack(plain.first[:, 2 * WIDTH :], plain.second[:, :, 2 * WIDTH :], jnp.asarray(1.0))
    np.testing.assert_allclose(identity.apply(plain, x)[0], identity.apply(free, x)[0], rtol=1e-4, atol=1e-5)


def test_stacks_start_with_what_keeps_the_signal():
    """Plain: as long as it was in the mean. Residual: each block adds a share of 1 / depth to its square."""
    width, x = 64, jax.random.normal(jax.random.key(1), (100, 64))
    for kind, growth in (('plain', 1.0), ('residual', (1 + 1 / 8) ** 8), ('plain_from_identity', (1 + 1 / 8) ** 8)):
        squares = [
            float(jnp.mean(identity.apply(identity.start(kind, jax.random.key(seed), 8, width), x)[0] ** 2))
            for seed in range(12)
        ]
        error = np.std(squares, ddof=1) / np.sqrt(len(squares))
        assert abs(np.mean(squares) - growth * float(jnp.mean(x**2))) < 4 * error < 0.6 * growth


def test_all_kinds_have_as_many_parameters():
    shapes = {
        tuple(leaf.shape for leaf in identity.start(kind, jax.random.key(0), DEPTH, WIDTH)) for kind in identity.KINDS
    }
    assert len(shapes) == 1


@pytest.fixture(scope='module')
def stacks():
    return [identity.start(kind, jax.random.key(3), DEPTH, WIDTH) for kind in identity.KINDS]


def trained(stacks, small, rates, *ends, keys=(7, 8, 9)):
    training = identity.beginning(stacks, [jax.random.key(seed) for seed in keys])
    for since, until in zip((0, *ends), ends, strict=False):
        training = identity.train(training, small, jnp.asarray(rates), jnp.int32(since), jnp.int32(until), batch=8)
    return training.stack


def test_a_step_is_that_of_sgd_with_momentum(stacks, small):
    """Two steps of a residual stack, with gradients of a loss that is written out here."""
    weights, key, velocity = (stacks[0].first, stacks[0].second), jax.random.key(7), (0.0, 0.0)
    for number in range(2):
        x = jax.random.normal(jax.random.fold_in(key, number), (8, WIDTH))

        def loss(weights, x=x):
            h = x
            for first, second in zip(*weights, strict=True):
                h = h + jnp.maximum(h @ first.T, 0) @ second.T
            return 0.5 * jnp.mean(jnp.sum((h - x - x @ small.T) ** 2, axis=1))

        velocity = tuple(0.9 * v + g for v, g in zip(velocity, jax.grad(loss)(weights), strict=True))
        weights = tuple(w - 0.01 * v for w, v in zip(weights, velocity, strict=True))
    found = trained(stacks, small, [0.01, 0.02, 0.03], 2)
    np.testing.assert_allclose(found.first[0], weights[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.second[0], weights[1], rtol=1e-4, atol=1e-5)


def test_stacks_train_apart_and_in_pieces_as_at_once(stacks, small, caplog):
    at_once = trained(stacks, small, [0.01, 0.02, 0.03], 6)
    swapped = trained(stacks[::-1], small, [0.03, 0.02, 0.01], 6, keys=(9, 8, 7))
    np.testing.assert_allclose(at_once.first, swapped.first[::-1], rtol=1e-4, atol=1e-6)
    with jax.log_compiles():
        in_pieces = trained(stacks, small, [0.01, 0.02, 0.03], 1, 4, 6)
        assert 'train' not in re.findall(r'Finished XLA compilation of jit\((\w+)\)', caplog.text)
    np.testing.assert_allclose(at_once.first, in_pieces.first, rtol=1e-5, atol=1e-6)


def test_one_block_learns_the_small_map_whatever_its_kind(small, x):
    stacks = [identity.start(kind, jax.random.key(2), 1, WIDTH) for kind in identity.KINDS]
    before = identity.distances(together(*stacks), small, x).error
    after = identity.distances(trained(stacks, small, [0.05] * 3, 600), small, x).error
    assert (after < 0.5).all() and (after < before / 4).all()
