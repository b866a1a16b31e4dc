"""Training in processes of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


class Process(subprocess.Popen):
    """`resnet-jax …` in a process of its own, whose output is read when it has ended."""

    def __init__(self, *arguments, **environment):
        super().__init__(
            [sys.executable, '-m', 'resnet_jax.cli', *map(str, arguments)],
            cwd=TESTS.parent, env=os.environ | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def until(self, condition, seconds=120):
        """Waits until the condition holds, and no longer than the process lives."""
        last = time.monotonic() + seconds
        while not condition():
            if self.poll() is not None or time.monotonic() > last:
                self.kill()
                pytest.fail(f'ended or waited too long: {self.returncode}, {self.communicate()}')
            time.sleep(0.005)

    def ended(self):
        """(exit code, stdout, stderr)."""
        out, error = self.communicate(timeout=120)
        return self.returncode, out, error


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
    return TESTS / 'tiny.py'
