"""Training and evaluation from a stream are those from the device's memory, and resume as exactly."""

import jax
import pytest

from configs import default
from resnet_jax.data import stored
from resnet_jax.data.order import order
from resnet_jax.errors import UserError
from resnet_jax.runtime import mesh
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train import loop
from resnet_jax.train.evaluate import evaluate
from resnet_jax.train.splits import place_dataset
from resnet_jax.train.start import make_network, stored_state
from tests.records import records

STEPS = 9  # two epochs of four, and one more


def tiny():
    """The recipe of CIFAR-10, of a network of three narrow blocks."""
    config = default.get_config()
    config.network.update(stem_width=4, widths=(4, 8, 16), stage_blocks=(1, 1, 1))
    return config


@pytest.fixture(scope='module')
def copy(write_copy, tmp_path_factory):
    root = tmp_path_factory.mktemp('tfds')
    write_copy(root)
    return root


@pytest.fixture(scope='module')
def make_config(copy):
    def make(**run):
        config = tiny()
        config.data.update(data_dir=str(copy), normalize='channel', jitter=(0.2, 0.2, 0.2, 0.05))
        config.train.batch_size = 10
        config.train.update(mixup=0.2, label_smoothing=0.1)
        config.run.update(steps=STEPS, log_every=2, eval_every=3, eval_batch=4, save_every=100, tensorboard=False)
        config.run.update(run)
        return config

    return make


@pytest.fixture(scope='module')
def never_stopped(make_config, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp('runs') / 'resident'
    loop.train(make_config(placement='device'), run_dir, lambda record: None)
    return run_dir


@pytest.mark.parametrize('workers', [0, 1])
def test_a_streamed_run_is_the_resident_one_to_the_bit(make_config, never_stopped, same, tmp_path, workers):
    loop.train(make_config(placement='stream', workers=workers), tmp_path / 'run', lambda record: None)
    assert records(tmp_path / 'run') == records(never_stopped)
    assert same(stored_state(tmp_path / 'run'), stored_state(never_stopped))


def test_a_run_stopped_at_any_step_goes_on_from_a_stream_to_the_bit(make_config, never_stopped, same, tmp_path, figure):
    notes = []
    for until in (*range(1, STEPS), STEPS):  # each start trains one more step
        config = make_config(placement='stream', steps=until)
        loop.train(config, tmp_path / 'run', lambda record: notes.append(record.get('text', '')))
    resumed = [note for note in notes if note.startswith('resumed')]
    assert resumed == [f'resumed exactly at step {step}' for step in range(1, STEPS)]
    assert same(stored_state(tmp_path / 'run'), stored_state(never_stopped))
    figure('stopped at every step, streamed', f'{len(resumed)} of {STEPS - 1} stops resumed to the bit')


def test_control_another_seed_ends_elsewhere(make_config, never_stopped, same, tmp_path):
    config = make_config(placement='stream')
    config.seed = 1
    loop.train(config, tmp_path / 'run', lambda record: None)
    assert not same(stored_state(tmp_path / 'run'), stored_state(never_stopped))


def test_a_record_that_cannot_be_read_stops_the_run_saved_and_mended_it_goes_on(
    make_config, write_copy, same, tmp_path, figure
):
    file = write_copy(tmp_path / 'tfds') / stored.file_name('cifar10', 'train', 0, 1)
    sound = file.read_bytes()
    damaged = bytearray(sound)
    ends = [at for at in range(len(damaged)) if damaged[at : at + 4] == b'IEND']
    damaged[ends[int(order(0, 0, 40)[25])] - 100] ^= 1  # an example of step 2
    file.write_bytes(damaged)
    config = make_config(placement='stream')
    config.data.update(data_dir=str(tmp_path / 'tfds'), normalize='imagenet')
    with pytest.raises(UserError, match='cannot be read') as error:
        loop.train(config, tmp_path / 'run', lambda record: None)
    saved = Checkpoints(tmp_path / 'run', read_only=True).steps[-1]
    assert '\n' not in str(error.value) and saved == 2
    file.write_bytes(sound)
    loop.train(config, tmp_path / 'run', lambda record: None)
    loop.train(config, tmp_path / 'other', lambda record: None)
    assert same(stored_state(tmp_path / 'run'), stored_state(tmp_path / 'other'))
    figure('a corrupt image', f'named, the run saved at step {saved} before its batch; mended, the same to the bit')


def test_what_is_skipped_is_counted_in_the_records(make_config, write_copy, tmp_path, figure):
    file = write_copy(tmp_path / 'tfds') / stored.file_name('cifar10', 'train', 0, 1)
    damaged = bytearray(file.read_bytes())
    ends = [at for at in range(len(damaged)) if damaged[at : at + 4] == b'IEND']
    damaged[ends[5] - 100] ^= 1
    file.write_bytes(damaged)
    config, notes = make_config(placement='stream', steps=8, log_every=4), []
    config.data.update(data_dir=str(tmp_path / 'tfds'), normalize='imagenet', corrupt='skip')
    loop.train(config, tmp_path / 'run', lambda record: notes.append(record.get('text', '')))
    trained = [record for record in records(tmp_path / 'run') if record['kind'] == 'train']
    assert [record['skipped'] for record in trained] == [1, 1]  # the same one in each epoch
    assert any(f'skipped: {file}, record 5' in note for note in notes)
    skipped = sum(record['skipped'] for record in trained)
    figure('a corrupt image, to be skipped', f'named, {skipped} counted in {len(trained)} epochs')


@pytest.mark.parametrize('batch', [1, 3, 10, 64])
def test_evaluation_of_a_stream_counts_every_example_once(make_config, batch):
    config = make_config()
    whole = mesh.whole(mesh.all_devices())
    network = make_network(config)
    variables = jax.jit(network.init_variables)(jax.random.key(0))
    results = []
    for placement in ('device', 'stream'):
        config.run.placement = placement
        splits = place_dataset(config, whole)
        results.append(evaluate(network, variables, splits.test, splits.normalization, batch=batch))
    assert results[0] == results[1] and results[0].examples == 10


def test_placements_that_cannot_be_are_refused_in_one_line(make_config):
    whole = mesh.whole(mesh.all_devices())
    config = make_config(placement='device')
    config.data.crop = 'random_resized'
    with pytest.raises(UserError, match='cuts from the originals') as error:
        place_dataset(config, whole).training_streamed  # noqa: B018
    config = make_config(placement='stream')
    config.data.dataset = 'digits'
    with pytest.raises(UserError, match='pixels in memory already') as error:
        place_dataset(config, whole).streamed  # noqa: B018
    assert '\n' not in str(error.value)


def test_cifar10_streamed_and_resident_give_the_same_evaluation_to_the_last_example(tfds_dir):
    config = tiny()
    config.data.update(data_dir=str(tfds_dir), normalize='imagenet')
    network = make_network(config)
    variables = jax.jit(network.init_variables)(jax.random.key(0))
    results = []
    for placement in ('device', 'stream'):
        config.run.placement = placement
        splits = place_dataset(config, mesh.whole(mesh.all_devices()))
        results.append(evaluate(network, variables, splits.test, splits.normalization, batch=768))
    assert results[0] == results[1] and results[0].examples == 10_000
