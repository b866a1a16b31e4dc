"""Training in processes of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope='session', autouse=True)
def compilation_cache(tmp_path_factory):
    """Compiled programs, shared by this process and those it starts."""
    settings = {
        'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('xla')),
        'jax_persistent_cache_min_entry_size_bytes': -1,
        'jax_persistent_cache_min_compile_time_secs': 0.0,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        reset_cache()  # what was compiled before has settled that there is none
        yield
        jax.config.update('jax_compilation_cache_dir', None)
        reset_cache()


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
