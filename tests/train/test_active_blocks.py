"""Training with a random subset of the blocks a batch (`train.active_blocks`)."""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from resnet_jax import validity
from resnet_jax.data.resident import Examples
from resnet_jax.errors import UserError
from resnet_jax.train.gradient import Targets
from resnet_jax.train.state import initial_state, state_of
from resnet_jax.train.step import many_steps, random_blocks, train_step

SIZE, ACTIVE = 4, 2  # of the batch; of the three blocks of the tiny run


def test_so_many_blocks_are_active_and_every_set_of_them_as_often(make_network):
    network, _ = make_network('float32', stage_blocks=(2, 2, 1))
    draw = jax.jit(jax.vmap(lambda key: random_blocks(network, key, 2)))
    gates = draw(jax.random.split(jax.random.key(0), 4000))
    assert gates.residual.shape == (4000, 5) and (gates.residual.sum(axis=1) == 2).all()
    drawn = collections.Counter(tuple(np.flatnonzero(each)) for each in np.asarray(gates.residual))
    assert len(drawn) == math.comb(5, 2)  # entry blocks, 0, 2 and 4, as any other
    assert max(abs(count - 400) for count in drawn.values()) < 4 * np.sqrt(400 * 0.9)
    for gate in (gates.shortcut, gates.shortcut_grad, gates.residual_grad):
        np.testing.assert_array_equal(gate, np.ones((4000, 5)))


@pytest.fixture(scope='module')
def run(parts):
    """`run(active, stop)`: the state after so many steps on the same four images, without augmentation."""
    images, labels = (leaf[:SIZE] for leaf in parts.splits.train)
    twice = Examples(jnp.concatenate([images, images]), jnp.concatenate([labels, labels]))

    @functools.cache
    def compiled(active):
        config = parts.config.copy_and_resolve_references().unlock()
        config.train.update(batch_size=SIZE, active_blocks=active)
        config.data.update(shift=0, flip=False)
        return many_steps(parts.network, parts.optimizer, config, parts.mesh, (parts.layout,))

    def arguments(stop):
        order = jnp.arange(2 * SIZE, dtype=jnp.int32)
        state = initial_state(parts.network, parts.optimizer, 0)
        return (state,), twice, parts.splits.normalization, (order,), jnp.asarray(stop, jnp.int32)

    def go(active, stop):
        return compiled(active)(*arguments(stop))[0]

    go.program = lambda active: str(compiled(active).trace(*arguments(1)).jaxpr)
    return go


def test_each_batch_passes_through_blocks_of_its_own_draw(run, parts):
    """The rate of the first step is 0: the second loss differs by its blocks alone. The draw is the state's alone."""
    images, labels = (leaf[:SIZE] for leaf in parts.splits.train)
    mean, deviation = parts.splits.normalization
    inputs = (images.astype(jnp.float32) / 255 - mean) / deviation
    start = initial_state(parts.network, parts.optimizer, 0)
    apply = jax.jit(functools.partial(parts.network.apply, train=True, mutable=['batch_stats']))

    def expected(step):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(start.rng), step), 3)
        logits, _ = apply(start.variables, inputs, random_blocks(parts.network, key, ACTIVE))
        return float(-jax.nn.log_softmax(logits)[jnp.arange(SIZE), labels].mean())

    first, both = (float(run(ACTIVE, stop).sums.loss) for stop in (1, 2))
    assert first == pytest.approx(expected(0), rel=1e-5)
    assert both - first == pytest.approx(expected(1), rel=1e-5)
    assert abs(expected(1) - expected(0)) > 1e-3
    whole = float(run(0, 1).sums.loss)
    assert abs(whole - first) > 1e-3


def test_without_the_setting_nothing_is_drawn(run):
    assert 'sort[' in run.program(ACTIVE)  # a permutation is one
    assert 'sort[' not in run.program(0)


def test_a_block_that_is_not_active_gets_no_gradient(make_network):
    network, variables = make_network('float32', placement='original', stage_blocks=(3, 1))
    random, optimizer = np.random.default_rng(0), optax.sgd(1.0)
    state = state_of(variables, optimizer, jnp.zeros(2, jnp.uint32))
    batch = (
        jnp.asarray(random.normal(size=(8, 8, 8, 1)), jnp.float32),
        jnp.asarray(random.integers(0, 10, 8), jnp.int32),
    )
    gates = network.intact_gates()._replace(residual=jnp.asarray([0, 1, 0, 1], jnp.float32))
    step = jax.jit(lambda state, images, labels: train_step(network, optimizer, state, images, Targets(labels), gates))
    after = step(state, *batch)
    moved = jax.tree.map(lambda one, other: np.abs(one - other), after.params, state.params)
    largest = {
        'stage1/entry': max(leaf.max() for leaf in jax.tree.leaves(moved['stage1']['entry'])),
        'stage1/body/0': max(leaf[0].max() for leaf in jax.tree.leaves(moved['stage1']['body'])),
        'stage1/body/1': max(leaf[1].max() for leaf in jax.tree.leaves(moved['stage1']['body'])),
        'stage2/entry': max(leaf.max() for leaf in jax.tree.leaves(moved['stage2']['entry'])),
    }
    assert [name for name, value in largest.items() if value > 0] == ['stage1/body/0', 'stage2/entry']


@pytest.mark.parametrize(
    ('active', 'shortcut', 'said'),
    [
        (-1, 'A', 'config.train.active_blocks is -1; it must be at least 0 (all blocks) and below the 9 blocks'),
        (9, 'A', 'config.train.active_blocks is 9; it must be at least 0 (all blocks) and below the 9 blocks'),
        (4, 'none', 'config.train.active_blocks is 4; it must be 0 in a network without shortcuts'),
    ],
)
def test_a_number_of_blocks_that_means_nothing_is_refused(active, shortcut, said):
    config = default.get_config()
    config.network.shortcut, config.train.active_blocks = shortcut, active
    with pytest.raises(UserError) as error:
        validity.check(config)
    assert said in str(error.value) and '\n' not in str(error.value)
