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
from resnet_jax.train import clock, loop, saving
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.state import initial_state, no_sums
from resnet_jax.train.step import many_steps
from tests.mistakes import refused
from tests.records import records

LAST, EPOCH = 13, 11  # steps


@pytest.fixture(scope='module')
def fresh(parts):
    """`fresh(seed)`: a state of step 0, its own copy: the steps take the memory of what they are given."""
    made = {seed: initial_state(parts.network, parts.optimizer, seed) for seed in (parts.config.seed, 99)}
    return lambda seed=parts.config.seed: jax.tree.map(jnp.copy, made[seed])


@pytest.fixture(scope='module')
def advance(parts):
    """`advance(state, calls=…)`: up to the last step; a call of the compiled steps ends at each step of `calls`."""
    layouts, splits = (parts.layout,), parts.splits
    steps = many_steps(parts.network, parts.optimizer, parts.config, parts.mesh, layouts)

    def go(state, until=LAST, calls=(), order_seed=parts.config.seed):
        begin = int(state.step)
        for stop in sorted({stop for stop in (*calls, EPOCH, until) if begin < stop <= until}):
            permutation = jnp.asarray(order(order_seed, int(state.step) // EPOCH, len(splits.train.labels)))
            end = jnp.asarray(stop, jnp.int32)
            (state,) = steps((state,), splits.train, splits.normalization, (permutation,), end)
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
    saved = Checkpoints(tmp_path)
    saved.save(step, stopped)
    saved.wait()
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


@pytest.fixture
def adam():
    """optax's raises a float to the power of a whole number."""
    with jax.numpy_dtype_promotion('standard'):
        yield


def test_a_run_stopped_again_and_again_is_the_run_never_stopped(
    config, parts, tmp_path, monkeypatch, same, adam, faults_full, figure
):
    """Two epochs of the whole loop, with all that a state can have, stopped by real signals: checkpoints bitwise,
    records equal but for the time they took."""
    config.train.update(optimizer='lamb', ema=0.9, clip_norm=1.0)
    config.run.steps = last = 2 * EPOCH
    loop.train(config, tmp_path / 'whole', lambda record: None)
    monkeypatch.setattr(clock, 'CALL_SECONDS', 0.0)  # a step a call
    stops = range(1, last + 1) if faults_full else (1, 4, 12, last)
    left, resumed = {step: signal.SIGTERM if step % 4 else signal.SIGINT for step in stops}, []

    def watch(record):
        if record.get('text', '').startswith('resumed'):
            resumed.append(record['text'])
        if record['kind'] == 'progress' and record['step'] in left:
            os.kill(os.getpid(), left.pop(record['step']))

    for step, number in list(left.items()):
        with pytest.raises(Stopped, match=f'stopped by {number.name} at step {step}, saved'):
            loop.train(config, tmp_path / 'stopped', watch)
        assert Checkpoints(tmp_path / 'stopped', read_only=True).steps[-1] == step
    loop.train(config, tmp_path / 'stopped', watch)
    assert resumed == [f'resumed exactly at step {step}' for step in stops]

    like = jax.eval_shape(lambda: initial_state(parts.network, make_optimizer(config), 0, average=True))
    whole, stopped = (Checkpoints(tmp_path / run).restore(last, like) for run in ('whole', 'stopped'))
    assert same(whole, stopped)
    assert records(tmp_path / 'stopped') == records(tmp_path / 'whole')
    assert [(record['kind'], record['step']) for record in records(tmp_path / 'whole')] == [
        ('train', 5), ('test', 6), ('train', 10), ('test', 12), ('train', 15), ('test', 18), ('train', 20),
        ('train', 22), ('test', 22),
    ]  # fmt: skip
    figure('stopped at every step, resident', f'{len(resumed)} of {len(stops)} stops resumed to the bit')


def test_asked_to_stop_while_it_evaluates_a_run_leaves_that_off_and_does_it_again_when_it_goes_on(config, tmp_path):
    config.run.log_every = 6  # a record just before the evaluation

    def stop(record):
        if (record['kind'], record.get('step')) == ('train', 6):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match='at step 6, saved'):
        loop.train(config, tmp_path, stop)
    assert [record['kind'] for record in records(tmp_path)] == ['train']
    loop.train(config, tmp_path, lambda record: None)
    assert [(record['kind'], record['step']) for record in records(tmp_path)] == [
        ('train', 6), ('test', 6), ('train', 12), ('test', 12), ('train', 13), ('test', 13),
    ]  # fmt: skip


@pytest.mark.parametrize('patience', [saving.LATE, 0.0])
def test_a_run_that_has_to_wait_for_a_checkpoint_says_so(config, tmp_path, monkeypatch, patience):
    monkeypatch.setattr(saving, 'LATE', patience)
    notes = []

    def watch(record):
        notes.append(record.get('text', ''))
        if record['kind'] == 'train' and record['step'] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match='at step 5, saved'):
        loop.train(config, tmp_path, watch)
    said = [note for note in notes if note.startswith('the checkpoint of step 5 is not written yet')]
    assert len(said) == (patience == 0)


def test_runs_whose_checkpoints_are_in_one_place_go_on_each_from_its_own(config, tmp_path):
    config.run.checkpoints, notes = str(tmp_path / 'elsewhere'), []

    def train(name, seed, steps):
        config.seed, config.run.steps = seed, steps
        loop.train(config, tmp_path / name, lambda record: notes.append(record.get('text', '')))
        return Checkpoints(tmp_path, directory.own_place(config), read_only=True)

    one = train('one', 0, 6)
    other = train('other', 7, 6)
    assert not any(note.startswith('resumed') for note in notes)
    assert one.directory != other.directory and one.directory.parent == other.directory.parent
    assert train('one', 0, 8).steps[-1] == 8 and 'resumed exactly at step 6' in notes
    assert Checkpoints(tmp_path, directory.own_place(config), read_only=True).steps == [0, 6, 8]
    assert Checkpoints(tmp_path, str(other.directory), read_only=True).steps == [0, 6]
    message = refused(train, 'again', 0, 8)
    assert f'{one.directory} has checkpoints, but {tmp_path}/again no config.json' in message
