"""One training step against float64 and finite differences, and what the compiled loop does around it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.data.augment import Normalization
from resnet_jax.data.resident import Examples
from resnet_jax.train.gradient import Targets
from resnet_jax.train.state import Sums, initial_state, no_sums
from resnet_jax.train.state import state_of as state_from
from resnet_jax.train.step import many_steps, train_step

BATCH = 32


@pytest.fixture(scope='module')
def batch():
    random = np.random.default_rng(2)
    images, labels = random.normal(size=(BATCH, 8, 8, 1)), random.integers(0, 10, BATCH)
    return images.astype(np.float32), labels.astype(np.int32)


def state_of(variables, optimizer, sums=None):
    start = state_from(variables, optimizer, jnp.zeros(2, jnp.uint32))
    return start._replace(step=jnp.asarray(3, jnp.int32), sums=sums or no_sums())


@pytest.fixture(scope='module')
def stepped(make_network, batch):
    """The state before and after a step of plain descent at rate 1, so that what is subtracted is the gradient."""
    network, variables = make_network('float32', placement='original', stage_blocks=(2, 1, 1))
    optimizer = optax.sgd(1.0)
    before = state_of(variables, optimizer, Sums(jnp.float32(2.5), jnp.int32(7), jnp.int32(1)))
    after = jax.jit(lambda state, images, labels: train_step(network, optimizer, state, images, Targets(labels)))(
        before, *batch
    )
    return before, after


@pytest.fixture(scope='module')
def truth(make_network, batch):
    """float64, with the loss written out: `loss(params)` -> (mean, (logits, statistics))."""
    with jax.enable_x64(True):
        network, variables = make_network('float64', placement='original', stage_blocks=(2, 1, 1))
        images, labels = jnp.asarray(batch[0], jnp.float64), jnp.asarray(batch[1])

        def loss(params):
            given = {'params': params, 'batch_stats': variables['batch_stats']}
            logits, updates = network.apply(given, images, train=True, mutable=['batch_stats'])
            right = logits[jnp.arange(BATCH), labels]
            return jnp.mean(jnp.log(jnp.sum(jnp.exp(logits), axis=1)) - right), (logits, updates['batch_stats'])

        (value, (logits, statistics)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])
    return {
        'loss': loss, 'params': variables['params'], 'value': float(value), 'logits': np.asarray(logits),
        'statistics': statistics, 'gradients': gradients,
    }  # fmt: skip


def test_the_gradient_is_that_of_float64(stepped, truth):
    before, after = stepped
    ours = jax.tree.map(lambda one, other: np.asarray(one - other), before.params, after.params)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(truth['gradients']))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=3e-6 * scale), ours, truth['gradients'])


@pytest.mark.usefixtures('float64')
def test_the_float64_gradient_is_the_slope_of_the_loss(truth):
    """Central differences along random directions: they know nothing of how the derivatives are written."""
    random, loss = np.random.default_rng(1), jax.jit(lambda params: truth['loss'](params)[0])
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), truth['params'])
        far, near = (loss(jax.tree.map(lambda p, d, h=h: p + h * d, truth['params'], direction)) for h in (1e-7, -1e-7))
        slope = sum(
            float(jnp.vdot(g, d))
            for g, d in zip(jax.tree.leaves(truth['gradients']), jax.tree.leaves(direction), strict=True)
        )
        assert float(far - near) / 2e-7 == pytest.approx(slope, rel=1e-5)


def test_loss_and_errors_are_added_to_the_sums(stepped, truth, batch):
    before, after = stepped
    assert float(after.sums.loss - before.sums.loss) == pytest.approx(truth['value'], rel=1e-5)
    wrong = int((truth['logits'].argmax(axis=1) != batch[1]).sum())
    assert 0 < wrong < BATCH
    assert (int(after.sums.errors), int(after.sums.steps), int(after.step)) == (7 + wrong, 2, 4)


def test_the_running_statistics_are_those_of_the_forward_pass(stepped, truth):
    _, after = stepped
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-6),
        after.batch_stats, truth['statistics'],
    )  # fmt: skip


def test_nothing_but_the_variables_the_optimizer_the_count_and_the_sums_moves(stepped):
    before, after = stepped
    np.testing.assert_array_equal(before.rng, after.rng)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), before) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), after
    )


# Many steps in one call


SIZE = 4


@pytest.fixture(scope='module')
def run(parts):
    """`run(examples, normalization, stop, order)`: from step 0, by fours; as they are, or shifted and flipped."""

    @functools.cache
    def compiled(augmented):
        config = parts.config.copy_and_resolve_references().unlock()
        config.train.batch_size = SIZE
        config.data.update(shift=3 * augmented, flip=augmented)
        return many_steps(parts.network, parts.optimizer, config, parts.mesh, (parts.layout,))

    start = initial_state(parts.network, parts.optimizer, 0)

    def go(examples, normalization, stop, order=None, *, augmented=False):
        order = jnp.arange(len(examples.labels), dtype=jnp.int32) if order is None else order
        states = (jax.tree.map(jnp.copy, start),)
        return compiled(augmented)(states, examples, normalization, (order,), jnp.asarray(stop, jnp.int32))[0]

    return go


@pytest.fixture(scope='module')
def eight(parts):
    """Two batches of images, and the normalisation of their split: (examples, mean and deviation of every pixel)."""
    examples = Examples(*(leaf[: 2 * SIZE] for leaf in parts.splits.train))
    whole = [np.broadcast_to(leaf, examples.images.shape[1:]) for leaf in parts.splits.normalization]
    return examples, Normalization(*whole)


def test_the_border_of_a_crop_is_0_after_normalisation(run, eight):
    """Where every pixel is the mean, normalised images are 0: a border of black bytes would not be."""
    examples = eight[0]._replace(images=jnp.full_like(eight[0].images, 9))
    mean = np.full((8, 8, 1), np.float32(9) / np.float32(255), np.float32)
    normalization = Normalization(mean, np.full_like(mean, 0.01))
    whole = run(examples, normalization, 2)
    cropped = run(examples, normalization, 2, augmented=True)
    jax.tree.map(np.testing.assert_array_equal, whole.params, cropped.params)
    off_mean = run(examples, Normalization(0 * mean, normalization.deviation), 2, augmented=True)
    assert not np.array_equal(off_mean.params['stem']['conv1']['kernel'], whole.params['stem']['conv1']['kernel'])


def test_every_step_draws_its_own_crops(run, eight):
    """Equal batches, and a rate of 0 at the first step: the second loss differs by the draws alone."""
    examples, normalization = eight
    twice = Examples(*(jnp.concatenate([leaf[:SIZE], leaf[:SIZE]]) for leaf in examples))

    def losses(augmented):
        first, both = (float(run(twice, normalization, stop, augmented=augmented).sums.loss) for stop in (1, 2))
        return first, both - first

    first, second = losses(augmented=True)
    assert abs(second - first) > 1e-3
    first, second = losses(augmented=False)
    assert second == pytest.approx(first, rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_call_right_after_its_step(run, eight):
    """A pixel is black but in the second batch, and is blown up to 1e36: of seven steps two are done."""
    images, deviation = eight[0].images.at[:, 0, 0].set(0), np.ones((8, 8, 1), np.float32)
    deviation[0, 0] = 1e-36
    normalization = Normalization(0 * deviation, deviation)
    fine = run(eight[0]._replace(images=images), normalization, 7)
    assert int(fine.step) == 7 and np.isfinite(fine.sums.loss)
    broken = run(eight[0]._replace(images=images.at[SIZE:, 0, 0].set(255)), normalization, 7)
    assert int(broken.step) == 2 and int(broken.skipped) == 1
    jax.tree.map(
        np.testing.assert_array_equal, broken.params, run(eight[0]._replace(images=images), normalization, 1).params
    )


def test_the_order_given_is_the_order_trained_in(run, eight, parts):
    """The loss of a step is that of the examples that the permutation names, normalised as told."""
    examples, normalization = eight
    order = jnp.asarray([6, 1, 4, 3, 0, 2, 5, 7], jnp.int32)
    images = (examples.images.astype(jnp.float32) / 255 - normalization.mean) / normalization.deviation
    start = initial_state(parts.network, parts.optimizer, 0)
    apply = jax.jit(functools.partial(parts.network.apply, train=True, mutable=['batch_stats']))

    def loss(chosen):
        logits, _ = apply(start.variables, images[chosen])
        return -jax.nn.log_softmax(logits)[jnp.arange(SIZE), examples.labels[chosen]].mean()

    trained = float(run(examples, normalization, 1, order).sums.loss)
    assert trained == pytest.approx(float(loss(order[:SIZE])), rel=1e-5)
    assert abs(trained - float(loss(jnp.arange(SIZE)))) > 1e-3
