"""A disk that fills up: one line, nothing lost, and training goes on once there is space."""

import contextlib
import resource
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import cli
from resnet_jax import config as configuration
from resnet_jax.errors import UserError
from resnet_jax.runtime import directory
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train import loop

TINY = Path(__file__).parents[1] / 'tiny.py'

# When Orbax fails on one array, it closes its event loop upon what it still does with the others.
ABANDONED = 'ignore::pytest.PytestUnraisableExceptionWarning'


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 7 MB."""
    path = tmp_path / 'disk'
    path.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=7m', 'tmpfs', str(path)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip('needs root and a kernel that lets it mount a tmpfs')
    yield path
    subprocess.run(['umount', '--lazy', str(path)], check=True)


def fill(disk):
    with (disk / 'ballast').open('wb', buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


# Training


@pytest.mark.filterwarnings(ABANDONED)
def test_a_disk_that_fills_up_while_training_costs_no_more_than_the_last_steps(small_disk):
    config, run_dir = configuration.load(str(TINY)), small_disk / 'run'
    config.run.tensorboard = True

    def fill_after_ten(record):
        if record['kind'] == 'train' and record['step'] == 10:
            fill(small_disk)

    with pytest.raises(UserError, match=r'step 12 could not be saved in .*No space left.* step 6 is whole') as error:
        loop.train(config, run_dir, fill_after_ten)
    assert '\n' not in str(error.value)
    assert Checkpoints(run_dir, read_only=True).steps == [0, 6]

    (small_disk / 'ballast').unlink()
    notes = []
    loop.train(config, run_dir, lambda record: notes.append(record.get('text')))
    assert 'resumed exactly at step 6' in notes
    assert Checkpoints(run_dir, read_only=True).steps == [0, 12, 13]
    records = [(record['kind'], record['step']) for record in directory.read_metrics(run_dir)]
    assert records == [('train', 5), ('test', 6), ('train', 10), ('test', 12), ('train', 13), ('test', 13)]


def test_a_disk_that_cannot_take_a_record_is_said_in_one_line_and_no_record_is_lost(small_disk):
    recorder = loop.Recorder(small_disk, 0, lambda record: None, tensorboard=True)
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
    steps = [record['step'] for record in directory.read_metrics(small_disk)]
    assert steps[:written] == list(range(written))

    (small_disk / 'ballast').unlink()
    again = loop.Recorder(small_disk, written - 1, lambda record: None, tensorboard=True)
    again('train', written, loss=0.5)
    assert [record['step'] for record in directory.read_metrics(small_disk)] == list(range(written + 1))


def test_a_disk_that_is_full_from_the_start_is_said_in_one_line(small_disk, capsys):
    (small_disk / 'run').mkdir()
    fill(small_disk)
    assert cli.main(['train', '--config', str(TINY), '--run', str(small_disk / 'run')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'No space left on device' in error


# Checkpoints

LARGE = np.random.default_rng(0).integers(0, 2**31 - 99, 500_000, dtype=np.int32)  # 2 MB that cannot be compressed


def refused(action, *arguments):
    with pytest.raises(UserError) as error:
        action(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


def bits(state):
    return np.asarray(state['leaf']).tobytes()


def large(number):
    return {'leaf': jnp.asarray(LARGE + np.int32(number))}


@pytest.mark.filterwarnings(ABANDONED)
def test_a_full_disk_is_said_in_one_line_and_costs_no_checkpoint_that_was_there(small_disk):
    run_dir = small_disk / 'run'
    checkpoints = Checkpoints(run_dir, keep=9)
    checkpoints.save(0, large(0))
    checkpoints.save(5, large(5))
    (small_disk / 'ballast').write_bytes(bytes(2_500_000))
    message = refused(checkpoints.save, 10, large(10))
    assert 'the checkpoint of step 10 could not be saved' in message and 'No space left on device' in message
    assert 'step 5 is whole' in message
    for opened in (checkpoints, Checkpoints(run_dir, read_only=True), Checkpoints(run_dir, keep=9)):
        assert opened.steps == [0, 5]
        for step in (0, 5):
            assert bits(opened.restore(step, large(1))) == bits(large(step))

    (small_disk / 'ballast').unlink()
    for opened in (checkpoints, Checkpoints(run_dir, keep=9)):
        opened.save(10, large(10))
        assert bits(opened.restore(10, large(1))) == bits(large(10))


@pytest.mark.filterwarnings(ABANDONED)
def test_a_full_disk_at_the_first_save_says_that_there_is_nothing_yet(small_disk):
    (small_disk / 'ballast').write_bytes(bytes(6_000_000))
    message = refused(Checkpoints(small_disk / 'run').save, 0, large(0))
    assert 'No space left on device' in message and 'no checkpoint was saved before' in message


@pytest.mark.filterwarnings(ABANDONED)
def test_a_file_size_limit_is_said_in_one_line_and_costs_no_checkpoint_that_was_there(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9)
    checkpoints.save(0, large(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        message = refused(checkpoints.save, 5, large(5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 'the checkpoint of step 5 could not be saved' in message and 'File too large' in message
    assert checkpoints.steps == [0]
    assert bits(Checkpoints(tmp_path, read_only=True).restore(0, large(1))) == bits(large(0))
    checkpoints.save(5, large(5))
    assert bits(Checkpoints(tmp_path).restore(5, large(1))) == bits(large(5))
