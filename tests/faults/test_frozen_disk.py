"""A disk that hangs: a run that is to go on trains on, says what is not saved, and saves again once it answers.

Whatever writes to a frozen file system waits and cannot even be killed. So these run with `--faults` alone, and before
each freeze a process of its own has begun that thaws the disk, whatever becomes of this one.
"""

import contextlib
import os
import shlex
import signal
import subprocess

import pytest

from resnet_jax import config as configuration
from resnet_jax.runtime import directory, manifest
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train import loop
from tests.faults.conftest import needs_faults
from tests.faults.disks import done

pytestmark = needs_faults


@pytest.fixture(scope='module')
def ext4(tmp_path_factory):
    """A file system that can be frozen: whoever writes to it waits."""
    image, path = tmp_path_factory.mktemp('image') / 'image', tmp_path_factory.mktemp('disk')
    image.write_bytes(bytes(32 * 2**20))
    if not (done('mkfs.ext4', '-q', image) and done('mount', '-o', 'loop', image, path)):
        pytest.skip('needs root, mkfs.ext4 and a kernel that lets it mount a loop device')
    yield path
    thaw(path)
    done('umount', '--lazy', path)


def thaw(disk):
    done('fsfreeze', '--unfreeze', disk)


@contextlib.contextmanager
def thawing(disk, seconds):
    """The disk is thawed after so long by a process that outlives this one, or else when the context ends."""
    command = f'sleep {seconds}; fsfreeze --unfreeze {shlex.quote(str(disk))}'
    with subprocess.Popen(['sh', '-c', command], start_new_session=True, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            thaw(disk)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def freeze_within_a_save(disk, thaws):
    """Freezes the disk if something is being saved there: the steps for which it was in time."""
    saving = list(disk.glob('checkpoints/*/*.orbax-checkpoint-tmp'))
    if not saving:
        return []
    thaws.enter_context(thawing(disk, 60))  # should all else fail
    if not done('fsfreeze', '--freeze', disk):
        return []
    hung = [int(path.name.partition('.')[0]) for path in saving if path.exists()]
    if not hung:  # it was quicker
        thaw(disk)
    return hung


@pytest.fixture(scope='module')
def stuck(ext4, tiny_file, tmp_path_factory):
    """What a run said whose disk hung from within a save to a second behind its last step: the step of that save,
    [(step, note)] and the checkpoints."""
    config, run_dir = configuration.load(str(tiny_file)), tmp_path_factory.mktemp('run')
    config.run.update(unsaved='go_on', log_every=1, save_every=2, eval_every=0, keep=20)
    config.run.checkpoints = str(ext4 / 'checkpoints')
    hung, told, at = [], [], [0]

    def watch(record):
        if record['kind'] == 'note':
            told.append((at[0], record['text']))
        elif record['kind'] == 'train':
            at[0] = record['step']
            hung.extend(freeze_within_a_save(ext4, thaws) if not hung else ())
            if at[0] == config.run.steps:
                thaws.enter_context(thawing(ext4, 1))

    with contextlib.ExitStack() as thaws:
        loop.train(config, run_dir, watch)
    if not hung:
        pytest.skip('needs fsfreeze, and a disk slower than it')
    return hung[0], told, Checkpoints(run_dir, directory.own_place(config), read_only=True)


def test_a_run_that_is_to_go_on_does_not_wait_for_a_disk_that_hangs_and_says_what_is_not_saved(stuck, figure):
    hung, told, checkpoints = stuck
    due = range(hung + 2, 13, 2)
    for step in due:
        assert (step, f'step {step} is not saved: the checkpoint before is still being written') in told
    assert hung in checkpoints.steps
    assert all(manifest.damage(checkpoints.directory / str(step)) == '' for step in checkpoints.steps)
    figure('a disk frozen within a save', f'{len(due)} of {len(due)} saves due meanwhile said to be left out; '
           f'{len(checkpoints.steps)} checkpoints, none damaged')  # fmt: skip


def test_it_does_not_say_of_a_step_that_is_being_saved_that_it_is_not(stuck):
    assert not [note for step, note in stuck[1] if step == 0 and 'not saved' in note]


def test_its_last_step_is_saved_though_that_takes_waiting(stuck):
    assert stuck[2].steps[-1] == 13
