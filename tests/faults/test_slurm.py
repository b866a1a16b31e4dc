"""`cluster/slurm.sbatch`: when it has the job queued again; and on a real SLURM of one node a job of two tasks, warned,
queued again, goes on to its end."""

import json
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from configs import default
from resnet_jax.runtime import directory
from resnet_jax.train.start import stored_state
from tests.faults.conftest import ROOT, needs_faults, same, saved, steps

LINE = (
    '--config', 'tests/tiny.py', '--config.network.widths=(4,)', '--config.network.stage_blocks=(1,)',
    '--config.train.schedule.name=steps', '--config.run.log_every=1', '--config.run.eval_every=100000',
)  # fmt: skip


@pytest.fixture
def submit(slurm, tmp_path):
    """`submit(name, last, *options)` -> the job that trains up to step `last` in `tmp_path / name`, as two tasks."""
    if not (ROOT / '.venv' / 'installed').is_file():
        pytest.skip('needs .venv of the checkout: ./launch.sh --help, then any command, sets it up')
    jobs = []

    def go(name, last, *options):
        said = subprocess.run(
            ['sbatch', '--nodes=1', '--ntasks-per-node=2', f'--output={tmp_path}/job.txt', *options,
             'cluster/slurm.sbatch', *LINE, '--run', tmp_path / name, f'--config.run.steps={last}'],
            cwd=ROOT, env=slurm, capture_output=True, text=True, check=True,
        )  # fmt: skip
        jobs.append(re.findall(r'Submitted batch job (\d+)', said.stdout)[0])
        return jobs[-1]

    yield go
    for job in jobs:
        subprocess.run(['scancel', job], env=slurm, capture_output=True)
        (ROOT / f'slurm-{job}.starts').unlink(missing_ok=True)


@pytest.fixture
def until(slurm, tmp_path):
    """`until(job, condition, seconds)` waits for the condition, which gets what SLURM says of the job: {key: value}."""

    def wait(job, condition, seconds):
        last = time.monotonic() + seconds
        while True:
            shown = subprocess.run(['scontrol', 'show', 'job', job], env=slurm, capture_output=True, text=True)
            found = dict(word.partition('=')[::2] for word in shown.stdout.split())
            if condition(found):
                return found
            if time.monotonic() > last:
                output = tmp_path / 'job.txt'
                pytest.fail(f'waited too long: {shown.stdout} {output.read_text() if output.exists() else ""}')
            time.sleep(0.2)

    return wait


def ended(job):
    return job['JobState'] in ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT')


def test_two_tasks_of_one_job_train_together(submit, until, tmp_path):
    found = until(submit('run', 5), ended, 120)
    output = (tmp_path / 'job.txt').read_text()
    assert (found['JobState'], found['ExitCode']) == ('COMPLETED', '0:0'), output
    environment = json.loads((tmp_path / 'run' / 'environment.json').read_text())
    assert (environment['processes'], environment['devices']) == (2, 2)
    assert output.count('2 devices: a batch is spread over all') == 1 and 'step 5: test error' in output
    assert steps(tmp_path / 'run') == [1, 2, 3, 4, 5, 5] and max(saved(tmp_path / 'run')) == 5


def test_after_a_fault_a_job_is_queued_again(slurm, submit, until, monkeypatch):
    """XLA ends a process that is given a flag it does not know, with 1: as where a link to another is lost."""
    monkeypatch.setitem(slurm, 'XLA_FLAGS', '--xla_no_such_flag=1')
    until(submit('run', 5), lambda job: job['Restarts'] == '1' and job['JobState'] == 'PENDING', 60)


@needs_faults
def test_a_job_that_is_warned_saves_is_queued_again_and_ends_with_the_bits_of_one_in_peace(
    slurm, submit, until, tmp_path, figure
):
    """By its time limit in its first life, and in its second as SLURM preempts."""
    run_dir = tmp_path / 'run'
    job = submit('run', 1_000_000, '--time=1', '--signal=USR1@20')
    until(job, lambda job: job['Restarts'] == '1' and job['JobState'] == 'PENDING', 120)
    first = max(steps(run_dir))
    assert first == max(saved(run_dir))
    last = first + 200
    peace = submit('peace', last)  # SLURM lets two minutes pass before the other begins again
    assert until(peace, ended, 120)['JobState'] == 'COMPLETED'

    until(job, lambda job: max(steps(run_dir)) > first, 240)
    subprocess.run(['scancel', '--signal=USR1', job], env=slurm, check=True)
    until(job, lambda job: job['Restarts'] == '2' and job['JobState'] == 'PENDING', 60)
    second = max(steps(run_dir))
    assert first < second == max(saved(run_dir)) < last
    subprocess.run(['scancel', job], env=slurm, check=True)

    assert until(submit('run', last), ended, 120)['JobState'] == 'COMPLETED'
    output = (tmp_path / 'job.txt').read_text()
    assert all(f'stopped by SIGUSR1 at step {step:,}, saved' in output for step in (first, second)), output
    assert all(f'resumed exactly at step {step:,}' in output for step in (first, second)), output
    assert same(stored_state(run_dir), stored_state(tmp_path / 'peace'))
    figure('SLURM, a time limit, then a signal', '0 steps lost, queued again twice')


# ---- when it is queued again


@pytest.fixture
def job(tmp_path):
    """`job(code, step)`: the next start of a job, which saves a checkpoint of that step, or none, and ends so. Was it
    queued `again`, what is `left` beside its output, and its `error`s; of SLURM's commands there are stand-ins."""
    for name, does in {
        'launch.sh': 'true',
        '.venv/bin/python': f'cd "{ROOT}" && exec "{sys.executable}" "$@"',
        'bin/srun': '[ -z "$SAVES" ] || { mkdir -p "$SAVES" && touch "$SAVES/manifest.json"; }; exit "$CODE"',
        'bin/scontrol': 'echo "$@" >>"$ASKED"',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'#!/bin/sh\n{does}\n')
        (tmp_path / name).chmod(0o755)
    run_dir, asked = tmp_path / 'a run', tmp_path / 'asked'
    directory.create(run_dir, default.get_config())

    def begin(code, step=None):
        asked.write_text('')
        told = {'SLURM_SUBMIT_DIR': tmp_path, 'SLURM_JOB_ID': 7, 'CODE': code, 'ASKED': asked,
                'SAVES': '' if step is None else run_dir / 'checkpoints' / str(step),
                'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}'}  # fmt: skip
        done = subprocess.run(['bash', ROOT / 'cluster' / 'slurm.sbatch', '--config', 'x.py', '--run', run_dir],
                              env=os.environ | {key: str(value) for key, value in told.items()},
                              capture_output=True, text=True, timeout=60)  # fmt: skip
        assert done.returncode == code and asked.read_text() in ('', 'requeue 7\n'), done
        left = bool([*tmp_path.glob('slurm-*')])
        return SimpleNamespace(again=bool(asked.read_text()), left=left, error=done.stderr)

    return begin


@pytest.mark.parametrize('code', [0, 2, 130])
def test_what_is_done_mistaken_or_interrupted_does_not_start_again_and_leaves_nothing(job, code):
    found = job(code)
    assert (found.again, found.left, found.error) == (False, False, '')


@pytest.mark.parametrize('code', [1, 75, 134, 137])
def test_what_was_stopped_or_broke_starts_again_up_to_three_times_without_a_new_checkpoint(job, code):
    assert [job(code).again for _ in range(2)] == [True, True]
    last = job(code)
    assert not last.again and not last.left
    assert last.error == (f'resnet-jax: ended with {code}, in 3 starts without a new checkpoint; mend that and submit '
                          'it again\n')  # fmt: skip


def test_with_a_new_checkpoint_the_starts_are_counted_anew(job):
    steps = (None, None, 10, None, None, 20, 30, 40, None, None)
    assert all(job(1, step).again for step in steps)
    assert not job(1).again
