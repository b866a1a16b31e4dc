"""Resume is exact: a run that stops anywhere and goes on ends with the bits of one that never stopped."""

import os
import signal

import jax
import jax.numpy as jnp
import pytest

from resnet_jax.data.order import order
from resnet_jax.errors import Stopped
from resnet_jax.runtime import directory
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train import loop
from resnet_jax.train.state import initial_state, no_sums
from resnet_jax.train.step import many_steps

LAST, EPOCH = 13, 11  # steps


@pytest.fixture(scope='module')
def fresh(parts):
    """`fresh(seed)`: a state of step 0, its own copy: the steps take the memory of what they are given."""
    made = {seed: initial_state(parts.network, parts.optimizer, seed) for seed in (parts.config.seed, 99)}
    return lambda seed=parts.config.seed: jax.tree.map(jnp.copy, made[seed])


@pytest.fixture(scope='module')
def advance(parts):
    """`advance(state, calls=…)`: up to the last step; a call of the compiled steps ends at each step of `calls`."""
    steps, splits = many_steps(parts.network, parts.optimizer, parts.config, parts.mesh), parts.splits

    def go(state, until=LAST, calls=(), order_seed=parts.config.seed):
        begin = int(state.step)
        for stop in sorted({stop for stop in (*calls, EPOCH, until) if begin < stop <= until}):
            permutation = jnp.asarray(order(order_seed, int(state.step) // EPOCH, len(splits.train.labels)))
            state = steps(state, splits.train, splits.normalization, permutation, jnp.asarray(stop, jnp.int32))
        return state

    return go


@pytest.fixture(scope='module')
def never_stopped(advance, fresh):
    """The state of the last step, after a call an epoch."""
    return advance(fresh())


@pytest.mark.parametrize('calls', [range(1, LAST), (2, 7), (1, 2, 10, 12)], ids=str)
def test_how_steps_are_grouped_into_calls_changes_no_bit(advance, fresh, never_stopped, same, calls):
    assert same(advance(fresh(), calls=calls), never_stopped)


@pytest.mark.parametrize('step', [1, 5, 10, 11, 12])
def test_a_state_saved_at_any_step_and_restored_goes_on_bitwise(advance, fresh, never_stopped, same, tmp_path, step):
    """Into a state of another seed, with nothing left in memory of the first."""
    stopped = advance(fresh(), until=step)
    Checkpoints(tmp_path).save(step, stopped)
    restored = Checkpoints(tmp_path).restore(step, fresh(seed=99))
    assert same(restored, stopped)
    assert same(advance(restored), never_stopped)


@pytest.mark.parametrize(
    'spoil',
    [
        lambda state: state._replace(step=state.step + 1),
        lambda state: state._replace(sums=no_sums()),
        lambda state: state._replace(rng=state.rng + jnp.uint32(1)),
        lambda state: state._replace(opt_state=jax.tree.map(jnp.zeros_like, state.opt_state)),
        lambda state: state._replace(batch_stats=jax.tree.map(lambda leaf: leaf * 1.0001, state.batch_stats)),
    ],
    ids=['step off by one', 'sums dropped', 'other draws', 'momentum dropped', 'statistics off'],
)
def test_control_what_a_checkpoint_might_lose_is_noticed(advance, fresh, never_stopped, same, spoil):
    assert not same(advance(spoil(advance(fresh(), until=5))), never_stopped)


def test_control_another_order_of_the_examples_is_noticed(advance, fresh, never_stopped, same):
    assert not same(advance(advance(fresh(), until=5), order_seed=1).params, never_stopped.params)


def test_a_run_stopped_again_and_again_is_the_run_never_stopped(config, parts, tmp_path, monkeypatch, same):
    """The whole loop, by real signals: checkpoints bitwise, records equal but for the time they took."""
    loop.train(config, tmp_path / 'whole', lambda record: None)
    monkeypatch.setattr(loop, 'CALL_SECONDS', 0.0)  # a step a call
    for step, number in ((1, signal.SIGTERM), (4, signal.SIGINT), (12, signal.SIGINT), (LAST, signal.SIGTERM)):
        with pytest.raises(Stopped, match=f'stopped by {number.name} at step {step}, saved'):
            loop.train(config, tmp_path / 'stopped', _signal_at(step, number))
        assert Checkpoints(tmp_path / 'stopped', read_only=True).steps[-1] == step
    notes = []
    loop.train(config, tmp_path / 'stopped', lambda record: notes.append(record.get('text')))
    assert f'resumed exactly at step {LAST}' in notes

    like = jax.eval_shape(lambda: initial_state(parts.network, parts.optimizer, 0))
    whole, stopped = (Checkpoints(tmp_path / run).restore(LAST, like) for run in ('whole', 'stopped'))
    assert same(whole, stopped)
    assert _records(tmp_path / 'stopped') == _records(tmp_path / 'whole')
    assert [(record['kind'], record['step']) for record in _records(tmp_path / 'whole')] == [
        ('train', 5), ('test', 6), ('train', 10), ('test', 12), ('train', 13), ('test', 13),
    ]  # fmt: skip


def _signal_at(step, number):
    def watch(record):
        if record['kind'] == 'progress' and record['step'] == step:
            os.kill(os.getpid(), number)

    return watch


def _records(run_dir):
    timed = ('seconds', 'images_per_second')
    records = directory.read_metrics(run_dir)
    return [{key: value for key, value in record.items() if key not in timed} for record in records]
