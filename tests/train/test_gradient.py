"""The gradient of a batch: microbatches, the dtype it is computed in, and the average of the variables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.models.resnet import ResNet
from resnet_jax.train.gradient import Targets, gradient, lower
from resnet_jax.train.state import state_of
from resnet_jax.train.step import train_step

COUNT, PARTS = 24, 3
DRAWS = jax.random.key(5)


@pytest.fixture(scope='module')
def batch():
    random = np.random.default_rng(0)
    classes = random.dirichlet(np.ones(10), COUNT)
    return random.normal(size=(COUNT, 8, 8, 1)), random.integers(0, 10, COUNT).astype(np.int32), classes


def found(network, variables, batch, *, soft=False, **settings):
    """The gradient of a batch in float64; `soft`: to shares of classes instead of labels."""
    with jax.enable_x64(True):
        images, labels, classes = map(jnp.asarray, batch)
        call = jax.jit(lambda variables, *batch: gradient(
            network, variables['params'], variables['batch_stats'], batch[0], Targets(*batch[1:]), DRAWS, **settings
        ))  # fmt: skip
        return jax.device_get(call(variables, images, labels, classes if soft else None))


def largest(one, other):
    distances = jax.tree.map(lambda a, b: np.abs(a - b).max() / max(1e-3, np.abs(b).max()), one, other)
    return max(jax.tree.leaves(distances))


@pytest.mark.parametrize('soft', [False, True])
def test_microbatches_are_one_batch_in_bn_groups_of_their_size(make_network, batch, soft):
    network, variables = make_network('float64', stage_blocks=(2, 1, 1))
    grouped = ResNet(dataclasses.replace(network.arch, norm_examples=COUNT // PARTS))
    apart = found(network, variables, batch, soft=soft, microbatches=PARTS)
    together = found(grouped, variables, batch, soft=soft)
    assert largest(apart.gradient, together.gradient) < 1e-12
    assert largest(apart.batch_stats, together.batch_stats) < 1e-12
    assert abs(apart.loss - together.loss) < 1e-12 and apart.errors == together.errors
    whole = found(network, variables, batch, soft=soft)
    assert largest(whole.gradient, together.gradient) > 1e-3  # BN of the whole batch is another function


def test_without_bn_microbatches_are_the_batch(make_network, batch):
    network, variables = make_network('float64', stage_blocks=(1, 1, 1), norm='none', gain='fixup')
    assert largest(found(network, variables, batch, microbatches=PARTS).gradient,
                   found(network, variables, batch).gradient) < 1e-12  # fmt: skip


def test_in_bfloat16_the_gradient_is_near_and_what_is_kept_stays_float32(make_network, batch):
    network, variables = make_network('float32', stage_blocks=(1, 1, 1))
    images, labels = jnp.asarray(batch[0], jnp.float32), jnp.asarray(batch[1])

    def call(compute):
        return jax.jit(lambda params, statistics: gradient(
            network, params, statistics, images, Targets(labels), DRAWS, compute=compute
        ))(variables['params'], variables['batch_stats'])  # fmt: skip

    fine, coarse = call('float32'), call('bfloat16')
    assert {leaf.dtype.name for leaf in jax.tree.leaves(coarse._replace(errors=jnp.float32(0)))} == {'float32'}
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(each.gradient)]) for each in (fine, coarse)]
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert 0.99 < cosine < 1 - 1e-6  # near; and not the same: it was computed in bfloat16
    lowered = lower(variables['params'], 'bfloat16')['stage1']['entry']
    assert lowered['conv1']['kernel'].dtype == jnp.bfloat16 and lowered['bn2']['bias'].dtype == jnp.float32


def test_the_average_is_that_of_its_recurrence(make_network, batch):
    """e <- 0.75 e + 0.25 of what was trained, from the start on, statistics too."""
    network, variables = make_network('float32', stage_blocks=(1, 1, 1))
    optimizer, keep = optax.sgd(0.5), 0.75
    images, labels = jnp.asarray(batch[0], jnp.float32), jnp.asarray(batch[1])
    step = jax.jit(lambda state: train_step(network, optimizer, state, images, Targets(labels), ema=keep))
    state = state_of(variables, optimizer, jnp.zeros(2, jnp.uint32), average=True)
    expected = jax.device_get(variables)
    for _ in range(3):
        state = step(state)
        trained = {'params': state.params, 'batch_stats': state.batch_stats}
        expected = jax.tree.map(lambda old, new: keep * old + (1 - keep) * np.asarray(new), expected, trained)
        assert largest(state.ema, expected) < 1e-6
    assert state.variables is state.ema and largest(state.ema['params'], state.params) > 1e-3


def test_a_batch_that_is_not_finite_moves_nothing_but_the_two_counts(make_network, batch):
    network, variables = make_network('float32', stage_blocks=(1, 1, 1))
    optimizer = optax.adam(0.1)
    images, labels = jnp.asarray(batch[0], jnp.float32).at[3].set(jnp.inf), jnp.asarray(batch[1])
    state = state_of(variables, optimizer, jnp.zeros(2, jnp.uint32), average=True)
    with jax.numpy_dtype_promotion('standard'):  # optax's Adam raises a float to the power of a whole number
        after = jax.jit(lambda state: train_step(network, optimizer, state, images, Targets(labels), ema=0.5))(state)
    assert int(after.step) == 1 and int(after.skipped) == 1
    rest = (state._replace(step=0, skipped=0), after._replace(step=0, skipped=0))
    jax.tree.map(np.testing.assert_array_equal, *rest)
