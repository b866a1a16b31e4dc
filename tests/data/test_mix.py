"""Targets, mixing and losses against cases worked by hand, float64 and what came out: no test repeats the draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.data import mix

HEIGHT, WIDTH = 12, 16


# Targets


def test_targets_share_the_smoothing_among_all_classes():
    labels = jnp.array([0, 3], jnp.int32)
    np.testing.assert_array_equal(mix.targets(labels, 4, 0.0), [[1, 0, 0, 0], [0, 0, 0, 1]])
    expected = [[0.925, 0.025, 0.025, 0.025], [0.025, 0.025, 0.025, 0.925]]
    np.testing.assert_allclose(mix.targets(labels, 4, 0.1), expected, rtol=1e-6)


# Mixing


@functools.cache
def program(mixup, cutmix):
    return jax.jit(lambda seed, images, targets: mix.mix(jax.random.key(seed), images, targets, mixup, cutmix))


def mixed(seed, mixup, cutmix, examples=4):
    """Images of their own number each, and targets of their own class: (images, targets) as numpy."""
    numbers = jnp.arange(1.0, examples + 1)
    images = jnp.broadcast_to(numbers[:, None, None, None], (examples, HEIGHT, WIDTH, 3))
    out, targets = program(mixup, cutmix)(seed, images, jnp.eye(examples))
    assert out.dtype == targets.dtype == np.float32
    return np.asarray(out), np.asarray(targets)


def shares(targets):
    """λ, the share of the one in the targets, which is that of the whole batch."""
    own = np.diag(targets)
    np.testing.assert_allclose(targets, own[0] * np.eye(len(own)) + (1 - own[0]) * np.eye(len(own))[::-1], atol=1e-6)
    return own[0]


def test_without_alpha_nothing_is_mixed():
    images, targets = mixed(0, 0.0, 0.0)
    np.testing.assert_array_equal(targets, np.eye(4))
    np.testing.assert_array_equal(images[:, 0, 0, 0], [1, 2, 3, 4])


def test_mixup_takes_one_share_for_pixels_and_targets_of_example_and_mirror():
    for seed in range(5):
        images, targets = mixed(seed, 1.0, 0.0)
        share = shares(targets)
        numbers = np.arange(1, 5)
        expected = share * numbers + (1 - share) * numbers[::-1]
        np.testing.assert_allclose(images, np.broadcast_to(expected[:, None, None, None], images.shape), rtol=1e-5)


def test_mixup_of_a_pair_is_the_one_worked_by_hand():
    """Black of class 0 and white of class 1: the first is 1 - λ bright, the second λ."""
    images = jnp.stack([jnp.zeros((2, 2, 1)), jnp.ones((2, 2, 1))])
    out, targets = mix.mix(jax.random.key(8), images, jnp.eye(2), 0.4, 0.0)
    share = float(targets[0, 0])
    assert 0 < share < 1
    np.testing.assert_allclose(out[:, 0, 0, 0], [1 - share, share], rtol=1e-5)
    np.testing.assert_allclose(targets, [[share, 1 - share], [1 - share, share]], rtol=1e-5)


def test_cutmix_pastes_one_box_of_the_mirror_and_counts_its_pixels():
    several = set()
    for seed in range(40):
        images, targets = mixed(seed, 0.0, 1.0)
        pasted = images[0, :, :, 0] == 4
        numbers = np.ones((4, HEIGHT, WIDTH, 3)) * np.arange(1, 5).reshape(4, 1, 1, 1)
        np.testing.assert_array_equal(images, np.where(pasted[..., None], numbers[::-1], numbers))
        rows, columns = pasted.any(axis=1), pasted.any(axis=0)
        np.testing.assert_array_equal(pasted, rows[:, None] & columns)
        assert (np.diff(np.flatnonzero(rows)) == 1).all() and (np.diff(np.flatnonzero(columns)) == 1).all()
        np.testing.assert_allclose(shares(targets), 1 - pasted.mean(), atol=1e-6)
        several.add(pasted.tobytes())
    assert len(several) > 30


def test_the_box_keeps_the_images_shape_but_where_the_border_cuts_it():
    whole = []
    for seed in range(400):
        pasted = mixed(seed, 0.0, 1.0)[0][0, :, :, 0] == 4
        rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
        if len(rows) and rows[0] > 0 and rows[-1] < HEIGHT - 1 and columns[0] > 0 and columns[-1] < WIDTH - 1:
            whole.append((len(rows), len(columns)))
    assert len(whole) > 30
    tall, broad = np.array(whole).T
    assert (np.abs(tall / HEIGHT - broad / WIDTH) < 1 / HEIGHT).all()  # whole pixels


@pytest.fixture(scope='module')
def many():
    """λ of many batches: {(mixup, cutmix): (batches,)}, and whether each was cut."""

    def call(mixup, cutmix, batches=600):
        images = jnp.arange(1.0, 3)[:, None, None, None] * jnp.ones((2, 20, 20, 1))
        keys = jax.random.split(jax.random.key(1), batches)
        one = jax.vmap(lambda key: mix.mix(key, images, jnp.eye(2), mixup, cutmix))
        out, targets = jax.jit(one)(keys)
        whole = np.isin(np.asarray(out), (1, 2)).all(axis=(1, 2, 3, 4))
        return np.asarray(targets)[:, 0, 0], whole

    return call


@pytest.mark.parametrize('alpha', [0.2, 1.0, 3.0])
def test_the_share_has_the_mean_and_the_variance_of_beta(many, alpha):
    share, _ = many(alpha, 0.0)
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 4 * np.sqrt(variance / len(share))
    assert abs(share.var() - variance) < 0.012


def test_the_pasted_share_is_smaller_than_the_drawn_one_by_what_the_border_cuts_off(many):
    share, whole = many(0.0, 1.0)
    assert whole.all() and share.min() >= 0 and share.max() <= 1
    # Of sides s = √(1 - λ), λ uniform, and a centre anywhere: E[(s - s²/4)²] = 1/2 - 1/5 + 1/48.
    assert abs((1 - share).mean() - (1 / 2 - 1 / 5 + 1 / 48)) < 4 * share.std() / np.sqrt(len(share)) + 0.02


def test_where_both_are_asked_for_one_batch_in_two_is_cut(many):
    _, cut = many(1.0, 1.0)
    assert abs(cut.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(cut))
    assert not many(1.0, 0.0)[1].any()


def test_the_same_key_mixes_alike_and_another_otherwise():
    first, second = mixed(0, 0.3, 1.0), mixed(0, 0.3, 1.0)
    np.testing.assert_array_equal(first[0], second[0])
    assert len({float(shares(mixed(seed, 0.3, 1.0)[1])) for seed in range(20)}) > 15


def test_copies_of_an_image_side_by_side_are_mixed_with_another():
    images = jnp.repeat(jnp.arange(1.0, 5), 3)[:, None, None, None] * jnp.ones((12, 4, 4, 1))
    out, _ = mix.mix(jax.random.key(0), images, jnp.eye(12), 1.0, 0.0)
    assert (np.asarray(out) != np.asarray(images)).all()


# Losses


@pytest.fixture(scope='module')
def batch():
    random = np.random.default_rng(0)
    return 2 * random.normal(size=(5, 7)), random.dirichlet(np.ones(7), 5)


def test_softmax_of_plain_targets_is_the_cross_entropy_with_the_labels(float64):
    random = np.random.default_rng(1)
    logits, labels = jnp.asarray(random.normal(size=(6, 4))), jnp.asarray(random.integers(0, 4, 6), jnp.int32)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    targets = mix.targets(labels, 4, 0.0).astype(jnp.float64)
    np.testing.assert_allclose(mix.loss(logits, targets, 'softmax'), expected, rtol=1e-12)


def test_softmax_and_its_gradient_are_the_formula(float64, batch):
    logits, targets = batch
    value, gradient = jax.value_and_grad(mix.loss)(jnp.asarray(logits), jnp.asarray(targets), 'softmax')
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(value, -(targets * np.log(shares)).sum(axis=1).mean(), rtol=1e-12)
    np.testing.assert_allclose(gradient, (shares - targets) / 5, rtol=1e-10)


def test_sigmoid_and_its_gradient_are_the_formula(float64, batch):
    logits, targets = batch
    value, gradient = jax.value_and_grad(mix.loss)(jnp.asarray(logits), jnp.asarray(targets), 'sigmoid')
    present, shares = targets > 0.2, 1 / (1 + np.exp(-logits))
    assert 0 < present.sum() < present.size
    np.testing.assert_allclose(value, -np.log(np.where(present, shares, 1 - shares)).mean(), rtol=1e-12)
    np.testing.assert_allclose(gradient, (shares - present) / (5 * 7), rtol=1e-10)


@pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
def test_gradients_are_those_of_finite_differences(float64, batch, kind):
    logits, targets = (jnp.asarray(each) for each in batch)
    gradient, step = jax.grad(mix.loss)(logits, targets, kind), 1e-5
    for place in ((0, 0), (3, 6), (4, 2)):
        shift = jnp.zeros_like(logits).at[place].set(step)
        rise = mix.loss(logits + shift, targets, kind) - mix.loss(logits - shift, targets, kind)
        np.testing.assert_allclose(gradient[place], rise / (2 * step), rtol=1e-6)


def test_every_class_of_a_mixed_image_is_wholly_present_to_the_sigmoid():
    logits = jnp.array([[2.0, -1.0, 0.5]])
    both = mix.loss(logits, jnp.array([[0.7, 0.3, 0.0]]), 'sigmoid')
    np.testing.assert_array_equal(both, mix.loss(logits, jnp.array([[1.0, 1.0, 0.0]]), 'sigmoid'))
    one = mix.loss(logits, jnp.array([[0.85, 0.15, 0.0]]), 'sigmoid')
    np.testing.assert_array_equal(one, mix.loss(logits, jnp.array([[1.0, 0.0, 0.0]]), 'sigmoid'))
    assert both != one


def test_large_logits_overflow_in_neither():
    logits, targets = jnp.array([[1e4, -1e4]]), jnp.array([[0.0, 1.0]])
    np.testing.assert_allclose(mix.loss(logits, targets, 'softmax'), 2e4)
    np.testing.assert_allclose(mix.loss(logits, targets, 'sigmoid'), 1e4)
