"""Training on a disk that is full or read-only: one line, nothing lost, and it goes on as `run.unsaved` says."""

import re
import signal
import time

import pytest

from resnet_jax import cli
from resnet_jax import config as configuration
from resnet_jax.errors import Diverged, UserError
from resnet_jax.runtime import directory, manifest
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train import loop
from resnet_jax.train.recorder import Recorder
from tests.faults.conftest import steps
from tests.faults.disks import empty, fill, leave, read_only, writable
from tests.faults.together import ONE_DEVICE, TOGETHER
from tests.mistakes import refused


@pytest.fixture
def config(tiny_file):
    return configuration.load(str(tiny_file))


def wait_for(checkpoint):
    """It is written while training goes on."""
    while not (checkpoint / manifest.NAME).exists():
        time.sleep(0.001)


# Training that stops


def test_a_disk_that_fills_up_while_training_costs_no_more_than_the_last_steps(config, small_disk):
    config.run.tensorboard, run_dir = True, small_disk / 'run'

    def fill_after_ten(record):
        if record['kind'] == 'train' and record['step'] == 10:
            wait_for(run_dir / 'checkpoints' / '6')
            fill(small_disk)

    message = refused(loop.train, config, run_dir, fill_after_ten)
    assert re.search(r'step 12 could not be saved in .*No space left.* step 6 is whole', message)
    assert Checkpoints(run_dir, read_only=True).steps == [0, 6]

    empty(small_disk)
    notes = []
    loop.train(config, run_dir, lambda record: notes.append(record.get('text')))
    assert 'resumed exactly at step 6' in notes
    assert Checkpoints(run_dir, read_only=True).steps == [0, 12, 13]
    records = [(record['kind'], record['step']) for record in directory.read_metrics(run_dir)]
    assert records == [('train', 5), ('test', 6), ('train', 10), ('test', 12), ('train', 13), ('test', 13)]


def test_a_disk_that_cannot_take_a_record_is_said_in_one_line_and_no_record_is_lost(small_disk):
    recorder = Recorder(small_disk, 0, lambda record: None, tensorboard=True, unsaved='stop')
    fill(small_disk)
    message, written = '', 0
    while not message and written < 500:  # until the pages that the files have are full
        try:
            recorder('train', written, loss=0.5)
            written += 1
        except UserError as error:
            message = str(error)
    assert f'step {written} could not be recorded in {small_disk} (No space left on device)' in message
    assert '\n' not in message
    assert steps(small_disk)[:written] == list(range(written))

    empty(small_disk)
    again = Recorder(small_disk, written - 1, lambda record: None, tensorboard=True, unsaved='stop')
    again('train', written, loss=0.5)
    assert steps(small_disk) == list(range(written + 1))


def test_records_that_a_full_disk_did_not_take_are_said_and_damage_none_of_those_that_follow(small_disk):
    notes = []
    recorder = Recorder(small_disk, 0, notes.append, tensorboard=False, unsaved='go_on')
    recorder('train', 0, loss=0.5)
    fill(small_disk)
    for step in range(1, 500):  # beyond the page that the file has: a line falls across its end
        recorder('train', step, loss=0.5)
    empty(small_disk)
    recorder('train', 500, loss=0.5)
    said = [note['text'] for note in notes if note['kind'] == 'note']
    assert said[0].endswith('training goes on without that record, as config.run.unsaved says')
    assert steps(small_disk) == [*range(500 - len(said)), 500]


def test_a_disk_that_is_full_from_the_start_is_said_in_one_line(tiny_file, small_disk, capsys):
    (small_disk / 'run').mkdir()
    fill(small_disk)
    assert cli.main(['train', '--config', str(tiny_file), '--run', str(small_disk / 'run')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'No space left on device' in error


@pytest.mark.parametrize('pages', [0, 16])
def test_a_process_whose_checkpoint_finds_no_space_ends_and_says_so_once(small_disk, tmp_path, start, tiny_file, pages):
    """What Orbax's threads print of a loop that is closed upon them may stand beside it."""
    place = small_disk / 'checkpoints'
    place.mkdir()
    leave(small_disk, pages)
    code, _, error = start(
        'train', '--config', tiny_file, '--run', tmp_path / 'run', f'--config.run.checkpoints={place}'
    ).ended()  # fmt: skip
    (said,) = [line for line in error.splitlines() if line.startswith('resnet-jax:')]
    assert said.startswith(f'resnet-jax: the checkpoint of step 0 could not be saved in {place}/')
    assert '(No space left on' in said
    assert code == 2 and 'ERROR:absl' not in error


# Training that goes on

DUE = {0, 3, 6, 9, 12, 13}


def harmed(config, run_dir, reason, harm, mend):
    """Trains though the disk is harmed, behind step 4 and until the first word of it: (what it said, steps saved)."""
    config.run.update(unsaved='go_on', log_every=1, save_every=3, keep=9, snapshots=())
    place, notes = directory.own_place(config), []
    folder = directory.checkpoints(run_dir, place)

    def watch(record):
        if record['kind'] == 'train' and record['step'] == 4:
            wait_for(folder / '3')
            harm()
        if record['kind'] == 'note':
            notes.append(record['text'])
            if reason in record['text'] and 'checkpoint' in record['text']:
                mend()

    loop.train(config, run_dir, watch)
    whole = Checkpoints(run_dir, place, read_only=True).steps
    assert all(manifest.damage(folder / str(step)) == '' for step in whole)
    return [note for note in notes if 'save' in note], set(whole)


def check_said(notes, whole, reason):
    """Each step that was due was saved or is spoken of; that behind the harm was not."""
    said = {step for step in DUE for note in notes if f'step {step} ' in note.partition(';')[0]}
    assert whole | said == DUE and not whole & said
    assert {0, 3} < whole and 6 in said
    (told,) = [note for note in notes if reason in note]
    assert 'the checkpoint of step 6 could not be saved' in told and 'step 3 is whole' in told
    assert told.endswith('Training goes on, as config.run.unsaved says') and '\n' not in told


def test_a_run_that_is_to_go_on_outlives_a_full_disk_and_saves_again_once_there_is_space(config, small_disk):
    reason = 'No space left on device'
    found = harmed(config, small_disk / 'run', reason, lambda: fill(small_disk), lambda: empty(small_disk))
    check_said(*found, reason)


def test_a_run_that_is_to_go_on_outlives_a_disk_that_is_read_only_for_a_while(config, small_disk, tmp_path):
    config.run.checkpoints, reason = str(small_disk / 'checkpoints'), 'Read-only file system'
    run_dir = tmp_path / 'run'
    found = harmed(config, run_dir, reason, lambda: read_only(small_disk), lambda: writable(small_disk))
    check_said(*found, reason)


@ONE_DEVICE
def test_a_run_of_two_processes_that_is_to_go_on_outlives_a_read_only_disk_too(
    small_disk, tmp_path, start, command, faults_full
):
    """Only the first of them makes a checkpoint's folder, and meets the disk there."""
    if not faults_full:
        pytest.skip('needs --faults')
    run_dir, more = tmp_path / 'run', {'run.unsaved': 'go_on', 'run.checkpoints': small_disk, 'run.save_every': 30}

    def saved():
        return max((int(path.parent.name) for path in small_disk.glob('*/[0-9]*/manifest.json')), default=-1)

    process = start(*TOGETHER, *command(run_dir, 1_000_000, **more))
    process.until(lambda: saved() >= 30)
    read_only(small_disk)
    since = max(steps(run_dir))
    process.until(lambda: max(steps(run_dir)) > since + 35)  # a save was due
    newest = saved()
    writable(small_disk)
    process.until(lambda: saved() > newest)
    process.send_signal(signal.SIGTERM)
    code, out, error = process.ended()
    assert code == 75 and error.count('\n') == 1 and 'stopped by SIGTERM' in error
    assert 'could not be saved' in out and 'Read-only file system' in out and 'Training goes on' in out


def test_a_run_that_diverges_before_anything_could_be_saved_says_so_in_one_line(config, small_disk, tmp_path):
    config.train.schedule.update(learning_rate=1e30, warmup='none')
    config.run.update(unsaved='go_on', checkpoints=str(small_disk / 'checkpoints'))
    read_only(small_disk)
    with pytest.raises(Diverged) as error:
        loop.train(config, tmp_path / 'run', lambda record: None)
    assert '\n' not in str(error.value)
