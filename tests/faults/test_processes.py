"""Processes that are stopped and killed: what they leave is exact, and the same command goes on from it.

One run is asked to stop, interrupted, killed, and let to its end; another is left in peace. They must agree.
"""

import json
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from resnet_jax import run as runs
from resnet_jax.runtime import directory
from tests.faults.conftest import ROOT, same, saved, steps
from tests.records import records


@pytest.fixture(scope='module')
def story(start, tiny_file, tmp_path_factory):
    """What happened to a run through four processes, and the run that was left in peace."""
    folder = tmp_path_factory.mktemp('story')

    def command(run_dir, last):
        return (
            'train', '--config', tiny_file, '--run', run_dir, f'--config.run.steps={last}',
            '--config.train.schedule.name=steps', '--config.run.save_every=5', '--config.run.eval_every=20',
        )  # fmt: skip

    told = SimpleNamespace(run=folder / 'stopped', peace=folder / 'peace')
    endless = command(told.run, 1_000_000)
    metrics = told.run / 'metrics.jsonl'

    process = start(*endless)
    process.until(metrics.exists)
    told.second = start(*endless).ended()
    process.until(lambda: len(steps(told.run)) > 1)
    process.send_signal(signal.SIGTERM)
    told.terminated = process.ended()
    told.saved_by_terminated = max(saved(told.run))

    process = start(*endless)
    process.until(lambda: max(steps(told.run)) > told.saved_by_terminated + 5)
    process.send_signal(signal.SIGINT)
    told.interrupted = process.ended()
    told.saved_by_interrupted = max(saved(told.run))

    process = start(*endless)
    process.until(lambda: max(saved(told.run)) > told.saved_by_interrupted + 5)
    process.kill()
    told.killed = process.ended()
    told.saved_by_killed = max(saved(told.run))
    with metrics.open('a') as file:  # as if it had been killed in the middle of a line
        file.write('{"kind": "train", "st')

    last = max(steps(told.run)) + 12
    # In peace, and compiled by itself: that two compilations agree is part of what is promised.
    peaceful = start(*command(told.peace, last), JAX_ENABLE_COMPILATION_CACHE='false')
    told.finished, told.peaceful = start(*command(told.run, last)).ended(), peaceful.ended()
    told.last = last
    return told


def step_said(text):
    return int(re.findall(r'at step ([\d,]+)', text)[0].replace(',', ''))


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
def test_a_run_that_is_asked_to_stop_saves_says_its_step_and_exits_with_75(story, name):
    ended, step = {
        'SIGTERM': (story.terminated, story.saved_by_terminated),
        'SIGINT': (story.interrupted, story.saved_by_interrupted),
    }[name]
    code, _, error = ended
    assert code == 75
    assert error == f'resnet-jax: stopped by {name} at step {step:,}, saved; the same command goes on from there\n'


def test_the_same_command_goes_on_from_the_very_step_that_was_saved(story):
    """After each stop, and after a kill from the last checkpoint before it."""
    assert step_said(story.interrupted[1]) == story.saved_by_terminated
    assert step_said(story.finished[1]) == story.saved_by_killed
    assert all('resumed exactly' in ended[1] for ended in (story.interrupted, story.finished))
    assert story.killed[0] == -signal.SIGKILL


def test_stopped_interrupted_and_killed_a_run_ends_with_the_bits_of_one_left_in_peace(story):
    assert story.finished[0] == story.peaceful[0] == 0, (story.finished, story.peaceful)
    one, other = (runs.load(path) for path in (story.run, story.peace))
    assert one.step == other.step == story.last
    assert same(one.state, other.state)


def test_every_step_is_recorded_once_as_in_the_run_left_in_peace_and_no_line_is_broken(story):
    for run_dir in (story.run, story.peace):
        lines = (run_dir / 'metrics.jsonl').read_text().splitlines()
        assert list(map(json.loads, lines)) == directory.read_metrics(run_dir)
    assert records(story.run) == records(story.peace)
    seen = [(record['kind'], record['step']) for record in records(story.run)]
    assert len(set(seen)) == len(seen)


def test_a_second_process_on_a_run_is_refused_and_changes_nothing(story):
    code, _, error = story.second
    assert code == 2
    assert error.startswith('resnet-jax: another process works on') and error.count('\n') == 1


TWICE = """
import os, pathlib, signal, sys, threading, time
from resnet_jax import cli

def interrupt_twice(metrics):
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 1):
        time.sleep(0.005)
    asking = signal.getsignal(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    while signal.getsignal(signal.SIGINT) is asking:  # until the first has been taken in
        time.sleep(0.0001)
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
threading.Thread(target=interrupt_twice, args=(pathlib.Path(sys.argv[1], 'metrics.jsonl'),), daemon=True).start()
sys.exit(cli.main(['train', '--run', *sys.argv[1:]]))
"""


def test_a_second_ctrl_c_ends_a_run_at_once_and_its_last_checkpoint_is_whole(tiny_file, tmp_path):
    arguments = [tmp_path, '--config', tiny_file, '--config.run.steps=1000000', '--config.run.save_every=5']
    ended = subprocess.run(
        [sys.executable, '-c', TWICE, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert ended.returncode in (130, -signal.SIGINT)  # Python may end itself by the signal: the same to a shell
    assert ended.stderr == 'resnet-jax: interrupted\n'
    run = runs.load(tmp_path)
    assert int(run.state.step) == run.step == max(saved(tmp_path))
