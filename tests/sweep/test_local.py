"""The launcher of this machine, on runs that take no time; real ones are in test_sweep.py."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from resnet_jax.errors import UserError
from resnet_jax.runtime import result
from resnet_jax.sweep import Sweep, local, plan, seeds, state, work
from resnet_jax.sweep.work import Stop
from tests.sweep.conftest import SLOW

ONE = [local.Slot({}, ())]


def launched(tasks, slots=ONE, stop=None):
    for _ in local.launch(tasks, slots, stop or Stop()):
        pass


def states(sweep):
    return [found.state for found in sweep.statuses().values()]


def begun(sweep):
    """How often each run was begun."""
    return [len((sweep.run(name) / 'begun').read_text().splitlines()) for name in sweep.runs]


def test_every_run_is_done_once_and_none_again(make_sweep, tasks):
    sweep = make_sweep(7)
    launched(tasks(sweep), ONE * 3)
    assert states(sweep) == ['done'] * 7
    launched(tasks(sweep))
    assert begun(sweep) == [1] * 7


def test_a_run_that_fails_stops_no_other_and_tells_its_last_lines(make_sweep, tasks):
    sweep = make_sweep(3)
    (sweep.run('seed-1') / 'ready.json').unlink()
    launched(tasks(sweep))
    assert states(sweep) == ['done', 'failed', 'done']
    said = sweep.statuses()['seed-1'].lines
    assert 'ready.json' in said[-2] and said[-1] == '(exit code 1)'
    launched(tasks(sweep))
    assert begun(sweep) == [1, 1, 1]  # not without being asked to

    assert state.forget_failures(sweep) == ['seed-1']
    assert states(sweep) == ['done', 'pending', 'done']


@pytest.mark.parametrize(
    ('command', 'says'),
    [
        ('true', '(it has no result.json that is whole)'),
        ('echo {} > "$1/result.json"', '(it has no result.json that is whole)'),
        ('mv "$1/ready.json" "$1/result.json"; exit 3', '(exit code 3)'),
        ('kill -9 $$', '(ended by SIGKILL)'),
    ],
    ids=['no result', 'a damaged result', 'a result and a fault', 'killed'],
)
def test_a_run_is_done_only_when_it_ends_well_and_its_result_verifies(make_sweep, tasks, command, says):
    sweep = make_sweep(1)
    launched(tasks(sweep, ('sh', '-c', command, 'sh')))
    assert states(sweep) == ['failed'] and sweep.statuses()['seed-0'].lines[-1] == says


def test_a_run_that_diverged_is_done(make_sweep, tasks):
    """Training ends with a mistake's code then; that it diverged is its result."""
    sweep = make_sweep(1)
    identity = work.spec.identity(work.directory.read_config(sweep.run('seed-0')))
    result.write(sweep.run('seed-0'), identity, {'diverged': True})
    (sweep.run('seed-0') / 'result.json').rename(sweep.run('seed-0') / 'ready.json')
    launched(tasks(sweep, ('sh', '-c', 'mv "$1/ready.json" "$1/result.json"; exit 2', 'sh')))
    assert states(sweep) == ['done']


def test_a_status_that_is_damaged_is_written_anew(make_sweep, tasks):
    sweep = make_sweep(1)
    (sweep.run('seed-0') / 'status.json').write_text('{')
    launched(tasks(sweep))
    assert states(sweep) == ['done']


def test_what_is_done_is_left_again_where_more_is_asked_of_it(base, make_sweep, tasks):
    """More steps, other experiments, or a result that was lost."""
    sweep = make_sweep(3)
    launched(tasks(sweep))
    assert work.left(sweep) == [] and work.left(sweep._replace(then='lesion')) == list(sweep.runs)
    (sweep.run('seed-1') / 'result.json').write_text('{}')
    assert work.left(sweep) == ['seed-1']
    longer = plan.plan(Sweep(base, seeds(3)), {'run.steps': '9'})
    assert work.left(state.create(sweep.path, 'seeds', '', longer)) == list(sweep.runs)


def test_a_cancellation_is_not_the_first_of_two_signals(make_sweep, tasks):
    sweep, stop = make_sweep(1), Stop()
    state.cancel(sweep)
    stop.heed_cancellation(sweep.path)
    assert stop.asked.is_set() and stop.times == 0


def test_each_slot_has_its_cores_and_its_gpus(make_sweep, tasks, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1, 2, 3, 4})
    assert [slot.cores for slot in local.slots(2)] == [(0, 2, 4), (1, 3)]
    assert len(local.slots(0)) == 5
    with pytest.raises(UserError, match='--slots is 6; it must be from 1 to the 5 cores'):
        local.slots(6)
    monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
    monkeypatch.delenv('RESNET_JAX_PLATFORM', raising=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    assert [slot.environment for slot in local.slots(0)] == [
        {'CUDA_VISIBLE_DEVICES': '3'}, {'CUDA_VISIBLE_DEVICES': '5'},
    ]  # fmt: skip


def test_a_run_keeps_to_the_cores_and_has_the_environment_of_its_slot(make_sweep, tasks):
    sweep, core = make_sweep(1), min(os.sched_getaffinity(0))
    command = ('sh', '-c', 'sleep 0.2; echo $WHERE; taskset -pc $$; mv "$1/ready.json" "$1/result.json"', 'sh')
    launched(tasks(sweep, command), [local.Slot({'WHERE': 'here'}, (core,))])
    said = (sweep.run('seed-0') / 'output.log').read_text().splitlines()
    assert said[0] == 'here' and said[1].endswith(f'affinity list: {core}')


def test_two_launchers_on_one_directory_never_run_a_run_twice(make_sweep, tasks):
    sweep = make_sweep(30)
    both = [threading.Thread(target=launched, args=(tasks(sweep, SLOW), ONE * 2)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
        assert not thread.is_alive()
    assert states(sweep) == ['done'] * 30 and begun(sweep) == [1] * 30


def test_asked_to_stop_what_runs_is_told_and_what_is_left_does_not_begin(make_sweep, tasks):
    """A run that saves and exits with 75 is pending again, as is one that dies of the signal."""
    sweep, stop = make_sweep(4), Stop()
    saves = ('sh', '-c', 'trap "exit 75" TERM; touch "$1/up"; while :; do sleep 0.01; done', 'sh')
    thread = threading.Thread(target=launched, args=(tasks(sweep, saves), ONE * 2, stop))
    thread.start()
    while len(list(sweep.path.glob('*/up'))) < 2:
        assert thread.is_alive()
    stop.ask()
    thread.join(timeout=20)
    assert not thread.is_alive() and states(sweep) == ['pending'] * 4
    assert len(list(sweep.path.glob('*/up'))) == 2
    launched(tasks(sweep))
    assert states(sweep) == ['done'] * 4


def test_a_cancelled_sweep_stops_wherever_it_is_carried_out(make_sweep, tasks):
    sweep, stop = make_sweep(2), Stop()
    stop.heed_cancellation(sweep.path)
    thread = threading.Thread(target=launched, args=(tasks(sweep, ('sh', '-c', 'exec sleep 60', 'sh')), ONE, stop))
    thread.start()
    while 'running' not in states(sweep):
        assert thread.is_alive()
    state.cancel(sweep)
    thread.join(timeout=20)
    assert not thread.is_alive() and states(sweep) == ['pending'] * 2


LAUNCHER = """
import sys
from pathlib import Path
from resnet_jax.sweep import local, state
from resnet_jax.sweep.work import Stop, Task

sweep = state.read(Path(sys.argv[1]))
tasks = [Task(sweep.path, name, tuple(sys.argv[2:])) for name in state.left(sweep)]
for _ in local.launch(tasks, [local.Slot({}, ())] * 2, Stop()):
    pass
"""


def children(process):
    found = []
    for path in Path(f'/proc/{process.pid}/task').glob('*/children'):
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended
            found += map(int, path.read_text().split())
    return found


def test_killed_with_its_runs_at_random_moments_every_run_is_done_exactly_once(make_sweep, faults_full, figure):
    """Done twice a run would fail: its result lay ready once. The launcher dies first; then, at once, what it runs."""
    sweep, kills, rng = make_sweep(100), 50 if faults_full else 5, random.Random(0)
    midway = 0
    for _ in range(kills):
        launcher = subprocess.Popen([sys.executable, '-c', LAUNCHER, sweep.path, *SLOW])
        up = time.monotonic()
        while not children(launcher) and launcher.poll() is None:
            assert time.monotonic() < up + 60
        time.sleep(rng.uniform(0, 0.1))
        mine = children(launcher) if launcher.poll() is None else []
        for pid in (launcher.pid, *mine):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        midway += len(mine)
        launcher.wait()
    subprocess.run([sys.executable, '-c', LAUNCHER, sweep.path, *SLOW], check=True)
    assert states(sweep) == ['done'] * 100
    figure('a sweep of 100 runs, launcher and runs killed', f'{kills} kills, {midway} runs midway: each done once')
