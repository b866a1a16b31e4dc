"""Sweeps of runs that take no time: what a run's process would write lies ready, and moving it there is the run."""

import json
import sys

import pytest

from configs import digits
from resnet_jax import spec
from resnet_jax.runtime import result
from resnet_jax.sweep import Sweep, axis, plan, state
from resnet_jax.sweep.work import Task

# Done a second time it fails: what lay ready is gone.
MOVE = ('sh', '-c', 'echo begun >> "$1/begun"; mv "$1/ready.json" "$1/result.json"', 'sh')
# Waits for a file `go` of the sweep. Asked to end before, or left alone, it saves; begun again it is through at once.
# (Not of the shell: in what sh begins no signal is blocked any more.)
WAIT = (sys.executable, '-ISc', """
import os, select, signal, sys

run = sys.argv[1]


def note(name):
    with open(f'{run}/{name}', 'a') as file:
        print(name, file=file)


def save(*_):
    note('saved')
    os._exit(75)


signal.signal(signal.SIGTERM, save)
note('begun')
while not (os.path.exists(f'{run}/saved') or os.path.exists(f'{run}/../go')):
    if select.select([0], [], [], 0.02)[0]:
        save()
os.rename(f'{run}/ready.json', f'{run}/result.json')
""")  # fmt: skip
SLOW = ('sh', '-c', 'echo begun >> "$1/begun"; sleep 0.05; mv "$1/ready.json" "$1/result.json"', 'sh')


# A file of a sweep of one real run, seconds long.
REAL = """
from resnet_jax.sweep import Sweep, seeds
from tests import tiny


def get_sweep():
    config = tiny.get_config()
    config.network.update(widths=(4,), stage_blocks=(1,))
    config.train.schedule.update(name='steps', steps=1000)
    config.run.update(steps=1000, log_every=1, eval_every=1000, save_every=1000)
    return Sweep(config, seeds(1))
"""


@pytest.fixture(scope='session')
def base():
    config = digits.get_config('resnet20')
    config.run.steps = 2
    return config


@pytest.fixture
def make_sweep(base, tmp_path):
    """`make_sweep(count)`: a sweep over so many seeds, of which each run has its result lying ready."""

    def make(count, path=tmp_path / 'sweep'):
        planned = plan.plan(Sweep(base, axis('seed', range(count))), {})
        sweep = state.create(path, 'seeds', '', planned)
        for run in planned:
            result.write(path / run.name, spec.identity(run.config), {'step': 2, 'test_error': 1.0, 'diverged': False})
            (path / run.name / 'result.json').rename(path / run.name / 'ready.json')
        return sweep

    return make


@pytest.fixture
def tasks():
    """`tasks(sweep, command)`: all its runs, to be carried out by that."""
    return lambda sweep, command=MOVE: [Task(sweep.path, name, command) for name in sweep.runs]


@pytest.fixture
def written():
    """`written(sweep, name)`: the record of a run's status, as it is on the disk."""
    return lambda sweep, name: json.loads((sweep.run(name) / 'status.json').read_text())
