"""The loop's records, events and checkpoints, and what it does when the loss blows up."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from configs import default
from resnet_jax import validity
from resnet_jax.data import archive, prepare
from resnet_jax.data.augment import Normalization
from resnet_jax.data.order import order, plan
from resnet_jax.data.resident import Examples
from resnet_jax.errors import Diverged, UserError
from resnet_jax.runtime import directory, mesh
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train import loop
from resnet_jax.train.schedule import learning_rate
from resnet_jax.train.splits import Splits
from resnet_jax.train.start import stored_state
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import many_steps


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
    rate = learning_rate(config.train)
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
    with pytest.raises(UserError, match='is not finite') as error:
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


# Batches that are not finite

BAD = 2  # the step, counted from 0, whose batch has the one image


@pytest.fixture
def one_bad(tmp_path, monkeypatch):
    """`one_bad(placement, **run)`: a run of four steps, one epoch. In the corner pixel, which is blown up to 1e36, all
    images are black but one."""
    random, counts = np.random.default_rng(0), {'train': 40, 'test': 10}
    images = {split: random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) for split, count in counts.items()}
    for each in images.values():
        each[:, 0, 0] = 0
    images['train'][0, 0, 0] = 255
    splits = {split: (each, {'label': np.arange(len(each), dtype=np.uint8) % 10}) for split, each in images.items()}
    path = tmp_path / 'tfds' / 'cifar10' / '3.0.2'
    path.mkdir(parents=True)
    content = archive.Content(splits, {'label': [f'class{number}' for number in range(10)]})
    prepare.write('cifar10', path, content, lambda *_: None)
    deviation = np.ones((32, 32, 3), np.float32)
    deviation[0, 0] = 1e-36
    blown_up = Normalization(0 * deviation, deviation)
    monkeypatch.setattr(Splits, 'normalization', property(lambda splits: mesh.place(blown_up, splits.sharding)))

    def make(placement, **run):
        config = default.get_config()
        config.network.update(stem_width=4, widths=(4, 8, 16), stage_blocks=(1, 1, 1))
        config.data.update(data_dir=str(tmp_path / 'tfds'), shift=0, flip=False)
        config.train.batch_size = 10
        config.run.update(
            steps=4, log_every=2, eval_every=0, save_every=100, tensorboard=False, placement=placement, **run
        )  # fmt: skip
        bad = prepare.order('train', 40).index(0)  # files have an order of their own
        config.seed = next(seed for seed in range(99) if bad in order(seed, 0, 40)[10 * BAD : 10 * BAD + 10])
        return config

    return make


@pytest.mark.parametrize('placement', ['device', 'stream'])
def test_a_batch_that_is_not_finite_stops_the_run_with_its_step_its_examples_and_a_layer(one_bad, tmp_path, placement):
    config, run_dir = one_bad(placement), tmp_path / 'run'
    with pytest.raises(Diverged) as error:
        train(config, run_dir)
    (record,) = of_kind(directory.read_metrics(run_dir), 'not_finite')
    examples = plan(config, 40, 32).batch(BAD).tolist()
    assert (record['step'], record['examples']) == (BAD + 1, examples)
    assert record['where'].startswith(('the output of stem/', 'the gradient of stem/'))
    assert str(error.value) == (
        f'the loss or gradient of step 3 is not finite: first in {record["where"]}; examples '
        f'{", ".join(map(str, examples[:5]))}, … (metrics.jsonl); the last good checkpoint is that of step 0 in '
        f'{run_dir}/checkpoints. Lower train.schedule.learning_rate or add a warm-up, in another --run; or leave such '
        'batches out: --config.run.nonfinite=skip'
    )
    assert Checkpoints(run_dir, read_only=True).steps == [0]


def test_a_run_that_such_a_batch_has_stopped_counts_as_diverged(one_bad, tmp_path):
    with pytest.raises(Diverged):
        train(one_bad('device'), tmp_path / 'run')
    assert directory.diverged(tmp_path / 'run')


def test_such_a_batch_can_be_skipped_and_that_is_said_and_counted_alike_in_memory_and_streamed(one_bad, tmp_path, same):
    states, told = [], []
    for placement in ('device', 'stream'):
        watched = train(one_bad(placement, nonfinite='skip'), tmp_path / placement)
        told.append([record['text'] for record in of_kind(watched, 'note')])
        records = directory.read_metrics(tmp_path / placement)
        assert [record['step'] for record in of_kind(records, 'not_finite')] == [BAD + 1]
        assert [record.get('not_finite') for record in of_kind(records, 'train')] == [None, 1]
        states.append(stored_state(tmp_path / placement))
    assert same(*states) and told[0] == told[1]
    (said,) = told[0]
    assert f'step {BAD + 1} is not finite' in said and said.endswith('The batch was skipped, 1 so far')
    assert (int(states[0].step), int(states[0].skipped)) == (4, 1)
    assert counts_of(states[0].opt_state) == {3}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states[0]))


def counts_of(opt_state):
    """What the optimizer has counted."""
    leaves = jax.tree.leaves(opt_state)
    return {int(leaf) for leaf in leaves if leaf.ndim == 0 and np.issubdtype(leaf.dtype, np.integer)}


def test_a_batch_that_is_skipped_leaves_the_bits_of_a_run_that_never_saw_it(parts, same):
    """Four batches of which the second is bad, and the three others; draws apart, which a step's number decides."""
    config = parts.config.copy_and_resolve_references().unlock()
    config.train.batch_size = 4
    config.data.update(shift=0, flip=False)
    steps = many_steps(parts.network, parts.optimizer, config, parts.mesh, (parts.layout,))
    examples = Examples(*(leaf[:16] for leaf in parts.splits.train))
    images, deviation = examples.images.at[:, 0, 0].set(0), np.ones((8, 8, 1), np.float32)
    deviation[0, 0] = 1e-36
    examples = examples._replace(images=images.at[5, 0, 0].set(255))
    numbers = jnp.arange(16, dtype=jnp.int32)

    def go(state, permutation, stop):
        normalization = Normalization(0 * deviation, deviation)
        states, stop = (jax.tree.map(jnp.copy, state),), jnp.asarray(stop, jnp.int32)
        return steps(states, examples, normalization, (permutation,), stop)[0]

    start = initial_state(parts.network, parts.optimizer, 0)
    before = go(start, numbers, 1)
    at_bad = go(start, numbers, 4)
    assert same(at_bad, before._replace(step=at_bad.step, skipped=at_bad.skipped))
    assert (int(at_bad.step), int(at_bad.skipped)) == (2, 1)
    onwards = go(at_bad, numbers, 4)
    never = go(start, jnp.concatenate([numbers[:4], numbers[8:], numbers[4:8]]), 3)
    assert (int(onwards.step), int(onwards.skipped), int(never.step), int(never.skipped)) == (4, 1, 3, 0)
    assert same(onwards, never._replace(step=onwards.step, skipped=onwards.skipped))
    assert counts_of(onwards.opt_state) == {3} and not same(onwards.params, before.params)


def test_ten_batches_skipped_one_after_the_other_stop_the_run(config, tmp_path):
    """The first step goes so far that from there on no batch is finite."""
    config.train.schedule.update(learning_rate=1e20, warmup='none')
    config.run.nonfinite = 'skip'
    with pytest.raises(Diverged, match='10 batches were skipped one after the other') as error:
        train(config, tmp_path)
    assert '\n' not in str(error.value)
    skipped = of_kind(directory.read_metrics(tmp_path), 'not_finite')
    assert [record['step'] for record in skipped] == list(range(2, 12))
