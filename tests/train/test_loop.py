"""The loop's records, events and checkpoints, and what it does when the loss blows up."""

import json
import struct

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from resnet_jax import validity
from resnet_jax.errors import UserError
from resnet_jax.runtime import directory
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train import loop
from resnet_jax.train.schedule import learning_rate
from resnet_jax.train.state import initial_state


def train(config, run_dir):
    watched = []
    loop.train(config, run_dir, watched.append)
    return watched


@pytest.fixture(scope='module')
def every_step(tmp_path_factory, parts):
    """A run that records every step, on TensorBoard too, and saves every second one: (directory, watched)."""
    config = parts.config.copy_and_resolve_references().unlock()
    config.run.update(log_every=1, save_every=2, keep=2, snapshots=(0, 3), tensorboard=True)
    run_dir = tmp_path_factory.mktemp('runs') / 'every_step'
    return run_dir, train(config, run_dir)


def of_kind(records, kind):
    return [record for record in records if record['kind'] == kind]


def test_a_record_is_the_mean_over_the_steps_since_the_one_before(every_step, config, tmp_path):
    single = of_kind(directory.read_metrics(every_step[0]), 'train')
    assert [record['step'] for record in single] == list(range(1, 14))
    train(config, tmp_path)
    for record, steps in zip(
        of_kind(directory.read_metrics(tmp_path), 'train'), (range(5), range(5, 10), range(10, 13)), strict=True
    ):
        for name in ('loss', 'error'):
            assert record[name] == pytest.approx(np.mean([single[step][name] for step in steps]), rel=1e-5)


def test_a_record_names_the_epoch_and_the_rate_that_its_last_step_was_taken_with(every_step, config):
    rate = learning_rate(config.train.schedule)
    for record in of_kind(directory.read_metrics(every_step[0]), 'train'):
        assert record['epoch'] == pytest.approx(record['step'] / 11, abs=1e-4)
        assert record['learning_rate'] == pytest.approx(float(rate(record['step'] - 1)), abs=1e-9)


def test_the_loss_falls(every_step):
    losses = [record['loss'] for record in of_kind(directory.read_metrics(every_step[0]), 'train')]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1


def test_whoever_watches_sees_every_record_of_the_file_and_the_progress_between(every_step):
    run_dir, watched = every_step
    assert [record for record in watched if record['kind'] in ('train', 'test')] == directory.read_metrics(run_dir)
    progress = [record['step'] for record in of_kind(watched, 'progress')]
    assert progress == sorted(set(progress)) and progress[-1] == 13


def test_the_test_split_is_evaluated_when_due_and_at_the_end(every_step):
    records = of_kind(directory.read_metrics(every_step[0]), 'test')
    assert [record['step'] for record in records] == [6, 12, 13]
    assert all(record['examples'] == 359 for record in records)
    assert all(record['error'] == pytest.approx(100 - 100 * record['correct'] / 359) for record in records)


def test_the_newest_checkpoints_are_kept_and_the_snapshots_for_good(every_step):
    assert Checkpoints(every_step[0], read_only=True).steps == [0, 3, 12, 13]


def test_tensorboard_shows_the_same_numbers(every_step):
    (path,) = (every_step[0] / 'tensorboard').iterdir()
    scalars = {(value.tag, event.step): value.simple_value for event in events(path) for value in event.summary.value}
    for record in directory.read_metrics(every_step[0]):
        for name, value in record.items():
            if name not in ('kind', 'step'):
                assert scalars.pop((f'{record["kind"]}/{name}', record['step'])) == pytest.approx(value, rel=1e-6)
    assert not scalars
    # Where a run starts, at step 0 here, what older files say of later steps no longer counts.
    assert [event.step for event in events(path) if event.HasField('session_log')] == [1]


def events(path):
    """The records of an event file: length, checksum, bytes, checksum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack('<Q', data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_a_finished_run_goes_on_when_its_steps_are_raised(every_step, config, parts, tmp_path, same):
    config.run.steps = 6
    train(config, tmp_path)
    config.run.steps = 13
    assert {'kind': 'note', 'text': 'resumed exactly at step 6'} in train(config, tmp_path)
    like = jax.eval_shape(lambda: initial_state(parts.network, parts.optimizer, 0))
    onwards, at_once = (Checkpoints(path).restore(13, like) for path in (tmp_path, every_step[0]))
    assert same(onwards._replace(sums=None), at_once._replace(sums=None))


@pytest.mark.parametrize('save_every', [1, 1000])
def test_a_loss_that_blows_up_stops_the_run_and_names_the_last_good_checkpoint(config, parts, tmp_path, save_every):
    config.train.schedule.update(learning_rate=1e30, warmup='none')
    config.run.update(save_every=save_every, log_every=1, eval_every=1)
    with pytest.raises(UserError, match='not finite at step') as error:
        train(config, tmp_path)
    message = str(error.value)
    steps = Checkpoints(tmp_path, read_only=True).steps
    assert f'that of step {steps[-1]} in {tmp_path}' in message and '\n' not in message
    assert save_every == 1 or steps == [0]
    like = jax.eval_shape(lambda: initial_state(parts.network, parts.optimizer, 0))
    for step in steps:
        state = Checkpoints(tmp_path, read_only=True).restore(step, like)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)), f'checkpoint {step}'
    for line in (tmp_path / 'metrics.jsonl').read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # called for NaN and Infinity


def test_the_largest_seed_that_a_config_may_have_can_be_trained_with(config, tmp_path):
    config.seed, config.run.steps = 2**32 - 1, 1
    validity.check(config)
    train(config, tmp_path)
    assert Checkpoints(tmp_path, read_only=True).steps == [0, 1]


def test_a_batch_larger_than_what_the_classes_leave_is_refused_before_anything_is_written(config, tmp_path):
    config.data.classes, config.train.batch_size = 2, 300
    with pytest.raises(UserError) as error:
        train(config, tmp_path / 'run')
    assert str(error.value) == (
        'config.train.batch_size is 300; it must be at most the 288 training examples that the settings of data '
        'leave (data.classes 2, data.selection 0)'
    )
    assert not (tmp_path / 'run' / 'config.json').exists()
