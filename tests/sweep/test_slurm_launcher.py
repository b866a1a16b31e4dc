"""The launcher for SLURM, on a real one of one node; the runs take no time but where they are made to wait."""

import re
import subprocess
import sys
import time

import pytest

from resnet_jax.errors import Stopped, UserError
from resnet_jax.sweep import slurm as launcher
from resnet_jax.sweep import state
from resnet_jax.sweep.work import Stop
from resnet_jax.train.start import stored_state
from tests.faults.conftest import in_full, needs_faults, same, steps
from tests.slurm import ROOT
from tests.sweep.conftest import MOVE, REAL, WAIT


@pytest.fixture
def cluster(slurm, monkeypatch):
    """SLURM, for this process; what is in its queue at the end is taken out of it."""
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(launcher, 'LOOKS', 1)  # nobody else asks this one
    yield
    subprocess.run(['scancel', '--me'])
    until(lambda: not launcher._queue())


def until(condition):
    last = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)


def begin(tasks, sweep, command, stop=None, *slurm):
    """A launcher that has submitted; and what it said."""
    found = launcher.launch(sweep, tasks(sweep, command), stop or Stop(), launcher.parameters(slurm))
    return found, next(found)


def states(sweep):
    return [found.state for found in sweep.statuses().values()]


def lines(sweep, name):
    """How many each run has written into a file of that name."""
    paths = [sweep.run(run) / name for run in sweep.runs]
    return [len(path.read_text().splitlines()) if path.exists() else 0 for path in paths]


def jobs(sweep):
    return list(launcher._jobs(sweep).values())


def start_soon(job):
    """A job that is queued again waits for two minutes, for its credential was revoked; the next second has another."""
    shown = ['scontrol', 'show', 'job', job]
    until(lambda: 'JobState=PENDING' in subprocess.run(shown, capture_output=True, text=True).stdout)
    subprocess.run(['scontrol', 'update', f'JobId={job}', 'StartTime=now+2'], check=True)


def test_an_array_of_runs_is_done_each_once_by_one_process_each(cluster, make_sweep, tasks, monkeypatch):
    """Submitted from inside of a job too, whose own variables would be options of the new ones."""
    monkeypatch.setenv('SLURM_JOB_ID', '1')
    monkeypatch.setenv('SLURM_NTASKS', '2')
    sweep = make_sweep(4)
    running, said = begin(tasks, sweep, ('sh', '-c', 'echo $SLURM_NTASKS $SLURM_CPUS_PER_TASK; ' + MOVE[2], 'sh'), None,
                          'cpus_per_task=1', 'setup=echo prepared')  # fmt: skip
    assert said == f'SLURM has 4 jobs of this sweep, 4 of them new; what they say is in {sweep.path}/slurm'
    assert set(running) <= {''}
    assert states(sweep) == ['done'] * 4 and lines(sweep, 'begun') == [1] * 4
    assert {(sweep.run(name) / 'output.log').read_text() for name in sweep.runs} == {'1 1\n'}
    assert len({job.partition('_')[0] for job in jobs(sweep)}) == 1  # one array
    assert 'prepared' in (sweep.path / 'slurm' / f'{jobs(sweep)[0]}_0_log.out').read_text()


def test_a_run_that_fails_is_settled_and_stops_no_other(cluster, make_sweep, tasks):
    sweep = make_sweep(2)
    (sweep.run('seed-0') / 'ready.json').unlink()
    running, _ = begin(tasks, sweep, MOVE)
    assert set(running) <= {''} and states(sweep) == ['failed', 'done']


def test_a_launcher_that_leaves_leaves_the_jobs_and_another_one_submits_none_of_them(cluster, make_sweep, tasks):
    sweep, stop = make_sweep(3), Stop()
    running, _ = begin(tasks, sweep, WAIT, stop)
    stop.ask()
    with pytest.raises(Stopped, match=f'^SLURM goes on with the 3 runs that are left: .* status {sweep.path} '):
        list(running)
    before = jobs(sweep)

    grown = make_sweep(4)
    running, said = begin(tasks, grown, WAIT)
    assert 'has 4 jobs of this sweep, 1 of them new' in said and jobs(grown)[:3] == before
    (grown.path / 'go').touch()
    assert set(running) <= {''}
    assert states(grown) == ['done'] * 4 and lines(grown, 'begun') == [1] * 4


def test_runs_submitted_twice_are_done_once(cluster, make_sweep, tasks):
    """By a launcher that has lost the numbers of the jobs."""
    sweep = make_sweep(2)
    begin(tasks, sweep, WAIT)
    (sweep.path / 'slurm' / 'jobs.json').unlink()
    running, said = begin(tasks, sweep, WAIT)
    assert '2 of them new' in said
    (sweep.path / 'go').touch()
    list(running)
    until(lambda: not launcher._queue())
    assert states(sweep) == ['done'] * 2 and lines(sweep, 'begun') == [1] * 2


@pytest.mark.parametrize(
    'how',
    [
        ('scancel', '--signal=USR2'),  # as at the time limit: SLURM's warning reaches every process of the job
        *in_full(
            ('scancel', '--signal=TERM'),  # as when it is preempted and given time
            ('scontrol', 'requeue'),  # as when it is preempted at once
        ),
    ],
    ids=' '.join,
)
def test_jobs_that_are_to_go_save_are_queued_again_and_go_on(cluster, make_sweep, tasks, how, figure):
    sweep = make_sweep(2)
    running, _ = begin(tasks, sweep, WAIT)
    until(lambda: len(list(sweep.path.glob('*/begun'))) == 2)
    for job in jobs(sweep):
        subprocess.run([*how, job], check=True)
    for job in jobs(sweep):
        start_soon(job)
    assert lines(sweep, 'saved') == [1, 1]
    assert set(running) <= {''}
    assert states(sweep) == ['done'] * 2 and lines(sweep, 'begun') == [2, 2] and lines(sweep, 'saved') == [1, 1]
    figure(f'a sweep under SLURM, {" ".join(how)}', 'saved, queued again, done')


def test_a_job_that_is_cancelled_saves_its_run_which_is_said_and_submitted_again(cluster, make_sweep, tasks):
    sweep = make_sweep(2)
    running, _ = begin(tasks, sweep, WAIT)
    until((sweep.run('seed-0') / 'begun').exists)
    subprocess.run(['scancel', *jobs(sweep)], check=True)
    said = [line for line in running if line]
    assert sorted(re.findall(r'^(\S+) is not done, and its job \S+ is gone', '\n'.join(said), re.MULTILINE)) == [
        'seed-0', 'seed-1',
    ]  # fmt: skip
    assert states(sweep) == ['pending'] * 2 and lines(sweep, 'saved')[0] == 1

    (sweep.path / 'go').touch()
    running, said = begin(tasks, sweep, WAIT)
    assert '2 of them new' in said
    assert set(running) <= {''}
    assert states(sweep) == ['done'] * 2


def test_a_sweep_that_is_cancelled_leaves_the_queue_and_what_runs_is_saved(cluster, make_sweep, tasks):
    sweep, stop = make_sweep(3), Stop()
    running, _ = begin(tasks, sweep, WAIT, stop, 'array_parallelism=1')
    until((sweep.run('seed-0') / 'begun').exists)
    stop.heed_cancellation(sweep.path)
    state.cancel(sweep)
    launcher.cancel(sweep)
    assert set(running) <= {''}  # and no word of jobs that go on
    until(lambda: not launcher._queue())
    assert states(sweep) == ['pending'] * 3
    assert lines(sweep, 'begun') == lines(sweep, 'saved') == [1, 0, 0]


def test_what_slurm_would_refuse_is_refused_before_anything_is_submitted(cluster):
    with pytest.raises(UserError, match=r'^SLURM would not take such jobs: invalid partition specified: none; '):
        launcher.check(launcher.parameters(['partition=none']))
    launcher.check(launcher.parameters(['partition=test', 'cpus_per_task=1']))


@needs_faults
def test_a_run_goes_on_through_a_real_time_limit(cluster, make_sweep, tasks, figure):
    sweep = make_sweep(1)
    running, _ = begin(tasks, sweep, WAIT, None, 'timeout_min=1', 'signal_delay_s=20')
    last = time.monotonic() + 100
    while not lines(sweep, 'saved')[0]:
        assert time.monotonic() < last
        time.sleep(0.1)
    start_soon(*jobs(sweep))
    assert set(running) <= {''}
    assert states(sweep) == ['done'] and lines(sweep, 'begun') == [2]
    figure('a sweep under SLURM, a time limit', 'saved, queued again, done')


@needs_faults
def test_a_real_sweep_warned_midway_ends_with_the_bits_of_one_in_peace(cluster, tmp_path, figure):
    (tmp_path / 'one.py').write_text(REAL)
    command = [sys.executable, '-m', 'resnet_jax.cli', 'sweep', tmp_path / 'one.py', '--dir']
    run, peace = tmp_path / 'one' / 'seed-0', tmp_path / 'peace' / 'seed-0'
    with subprocess.Popen([*command, tmp_path / 'one', '--launcher', 'slurm'], stdout=subprocess.PIPE) as launcher:
        until(lambda: max(steps(run), default=0) > 10)
        (job,) = jobs(state.read(tmp_path / 'one'))
        subprocess.run(['scancel', '--signal=USR2', job], check=True)
        start_soon(job)
        said, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 0 and b'report: ' in said, said
    subprocess.run([*command, tmp_path / 'peace', '--slots', '1'], check=True)  # which has all cores too
    assert state.status(run).attempts == 2 and steps(run) == steps(peace)
    assert same(stored_state(run), stored_state(peace))
    figure('a training in a sweep under SLURM, warned', '0 steps lost, the bits of one in peace')
