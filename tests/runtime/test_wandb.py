"""What is sent to Weights & Biases, and that nothing it does harms a run. It is stood in for by a module that writes
down what it is told, or fails: the library asks for an account and a network."""

import json
import os
import sys
import time

import pytest

from configs import digits
from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.runtime import directory, wandb

TOLD = """
import json, os, pathlib, time

class Run:
    def log(self, values, step):
        with open(os.environ['TOLD'], 'a') as file:
            file.write(json.dumps([step, values]) + '\\n')
    def finish(self):
        self.log('finished', None)

def init(**settings):
    if os.environ.get('HOW') == 'fails':
        raise RuntimeError('no network')
    if os.environ.get('HOW') == 'hangs':
        time.sleep(600)
    run = Run()
    run.log({key: str(value) for key, value in settings.items() if key != 'config'}, settings['config']['seed'])
    return run
"""


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """A run with two records; and a `wandb` that can be imported."""
    (tmp_path / 'lib').mkdir()
    (tmp_path / 'lib' / 'wandb.py').write_text(TOLD)
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path / "lib"}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
    monkeypatch.setenv('TOLD', str(tmp_path / 'told'))
    path = tmp_path / 'run'
    directory.create(path, digits.get_config())
    for step in (1, 2):
        directory.append_metrics(path, {'kind': 'train', 'step': step, 'loss': step / 2})
    return path


def told(run_dir):
    path = run_dir.parent / 'told'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(condition, seconds=60):
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)


def test_every_record_is_sent_once_as_they_come_and_the_rest_when_the_run_has_ended(run_dir):
    tracker = wandb.Tracker(run_dir, 'mine')
    until(lambda: len(told(run_dir)) == 3)
    directory.append_metrics(run_dir, {'kind': 'test', 'step': 2, 'error': 1.5})
    tracker.close()
    until(lambda: ['finished'] in [values[1:] for values in told(run_dir)])
    (seed, settings), *sent, _ = told(run_dir)
    assert seed == 0 and settings['project'] == 'mine' and settings['name'] == 'run'
    assert settings['id'].startswith(spec.identity(digits.get_config())) and settings['resume'] == 'allow'
    assert sent == [[1, {'train/loss': 0.5}], [2, {'train/loss': 1.0}], [2, {'test/error': 1.5}]]
    tracker._process.wait()
    assert tracker.failure() == ''


def test_a_failure_is_said_once_and_its_reason_is_in_the_log(run_dir, monkeypatch):
    monkeypatch.setenv('HOW', 'fails')
    tracker, said = wandb.Tracker(run_dir, 'mine'), []
    until(lambda: said.append(tracker.failure()) or said[-1])
    assert said[-1] == f'Weights & Biases has ended ({run_dir / "wandb.log"} says why); training goes on without it'
    assert 'RuntimeError: no network' in (run_dir / 'wandb.log').read_text()
    assert tracker.failure() == ''
    tracker.close()


def test_one_that_hangs_keeps_nobody_waiting(run_dir, monkeypatch):
    monkeypatch.setenv('HOW', 'hangs')
    tracker, since = wandb.Tracker(run_dir, 'mine'), time.monotonic()
    assert tracker.failure() == ''
    tracker.close()
    assert time.monotonic() - since < 1
    tracker._process.kill()
    tracker._process.wait()


def test_without_the_library_it_is_one_line_before_anything_begins(monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    wandb.check('')
    with pytest.raises(UserError, match=r'config\.run\.wandb is .mine., but wandb is not installed'):
        wandb.check('mine')
