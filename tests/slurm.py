"""A real SLURM of one node, for the tests."""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    """The environment in which a SLURM answers, started for these tests; one at a time, for its ports are fixed."""
    beside = ROOT.parent / 'shared' / 'slurm' / 'start-slurm'
    script = Path(os.environ.get('RESNET_JAX_TEST_SLURM') or beside)
    if not script.is_file() or os.geteuid():
        pytest.skip('needs root and a script that starts SLURM: set RESNET_JAX_TEST_SLURM to its path')
    folder = tmp_path_factory.mktemp('slurm')
    with Path(tempfile.gettempdir(), 'resnet_jax-test-slurm.lock').open('w') as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            said = subprocess.run([script, folder], capture_output=True, text=True, timeout=120)
            if said.returncode:
                pytest.skip(f'SLURM did not start: {said.stderr[-300:]}')
            told = dict(word.split('=', 1) for word in shlex.split(said.stdout.splitlines()[-1])[1:])
            found = {name: value.replace('$PATH', os.environ['PATH']) for name, value in told.items()}
            yield os.environ | found | {'RESNET_JAX_PLATFORM': 'cpu'}
        finally:
            for path in folder.glob('*.pid'):
                end(int(path.read_text()))


def end(pid):
    """Ends a daemon, and waits for its end: its port is the next one's."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        last = time.monotonic() + 30
        while time.monotonic() < last:
            os.kill(pid, 0)
            time.sleep(0.05)
