"""Training in processes of its own, and what its faults are tried on."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from resnet_jax.runtime import directory
from tests.faults.disks import done
from tests.faults.together import HEARTBEAT, SETTINGS

ROOT = Path(__file__).parents[2]

needs_faults = pytest.mark.skipif("not config.getoption('faults')", reason='needs --faults')


class Process(subprocess.Popen):
    """`resnet-jax …` in a process of its own, whose output is read when it has ended."""

    def __init__(self, *arguments, **environment):
        super().__init__(
            [sys.executable, '-m', 'resnet_jax.cli', *map(str, arguments)],
            cwd=ROOT, env=os.environ | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def until(self, condition, seconds=120):
        """Waits until the condition holds, and no longer than the process lives."""
        last = time.monotonic() + seconds
        while not condition():
            if self.poll() is not None or time.monotonic() > last:
                self.kill()
                pytest.fail(f'ended or waited too long: {self.returncode}, {self.communicate()}')
            time.sleep(0.02)

    def ended(self):
        """(exit code, stdout, stderr)."""
        out, error = self.communicate(timeout=120)
        return self.returncode, out, error


def in_full(*values):
    """Parameters of a test that are tried with `--faults` alone."""
    return [pytest.param(value, marks=needs_faults) for value in values]


def steps(run_dir):
    """The steps recorded so far."""
    return [record['step'] for record in directory.read_metrics(run_dir)]


def saved(run_dir):
    """The steps saved so far."""
    return [int(path.parent.name) for path in run_dir.glob('checkpoints/*/manifest.json')
            if path.parent.name.isdecimal()]  # fmt: skip


def same(one, other):
    """Are two states the same to the bit?"""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in leaves)


def members(supervisor):
    """The pids of the processes that it has together in a run, by number."""
    found = {}
    for pid in Path(f'/proc/{supervisor.pid}/task/{supervisor.pid}/children').read_text().split():
        with contextlib.suppress(OSError):  # gone meanwhile
            environ = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
            found |= {int(each.split(b'=')[1]): int(pid) for each in environ if each.startswith(b'RESNET_JAX_PROCESS=')}
    return found


def alive(pid):
    """And no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.fixture(scope='session')
def start():
    """`start(*arguments, **environment)` -> Process; those still alive at the end are killed."""
    started = []

    def go(*arguments, **environment):
        started.append(Process(*arguments, **environment))
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope='session')
def tiny_file():
    return ROOT / 'tests' / 'tiny.py'


@pytest.fixture(scope='session')
def settings(write_copy, tmp_path_factory):
    """Of a run that streams its images, from a small copy of CIFAR-10."""
    copy = tmp_path_factory.mktemp('tfds')
    write_copy(copy)
    return SETTINGS | {'data.data_dir': str(copy)}


@pytest.fixture(scope='session')
def command(settings):
    """`command(run_dir, last)`: trains in `run_dir` up to step `last`."""

    def make(run_dir, last, **more):
        given = {**settings, 'run.steps': last, **more}
        return ('train', '--config', ROOT / 'configs' / 'default.py', '--run', run_dir, '--heartbeat', HEARTBEAT,
                *(f'--config.{key}={value}' for key, value in given.items()))  # fmt: skip

    return make


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 7 MB."""
    path = tmp_path / 'disk'
    path.mkdir()
    if not done('mount', '-t', 'tmpfs', '-o', 'size=7m', 'tmpfs', path):
        pytest.skip('needs root and a kernel that lets it mount a tmpfs')
    yield path
    while done('umount', '--lazy', path):  # mounted once more by a test that ended in between
        pass
