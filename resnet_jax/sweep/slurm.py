"""The launcher for SLURM: arrays of jobs, one a run, through submitit. They go on without whoever submitted them.

In a sweep's directory:
slurm/jobs.json    run -> the job that has it, or had it last
slurm/JOB_0_log.*  what a job said, beside what its run says in output.log
"""

import difflib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

from resnet_jax.errors import Stopped, UserError
from resnet_jax.files import write_atomically
from resnet_jax.sweep import state, work
from resnet_jax.sweep.slurm_job import Job
from resnet_jax.sweep.work import Stop, Task

DEFAULTS = {'timeout_min': 240, 'signal_delay_s': 120, 'array_parallelism': 256}
OURS = (*DEFAULTS, 'setup')  # sbatch has no options of these names
WHOLE = (*DEFAULTS, 'cpus_per_task')
KEYS = (
    *OURS, 'account', 'comment', 'constraint', 'cpus_per_task', 'exclude', 'gpus_per_node', 'gres', 'mail_type',
    'mail_user', 'mem', 'mem_per_cpu', 'mem_per_gpu', 'nodelist', 'partition', 'qos', 'wckey',
)  # fmt: skip
ARRAY = 1000  # jobs in one: SLURM's own limit
LIMITS = 1000  # times that a run may meet its time limit
LOOKS = 20  # at the runs, for one at SLURM's queue, which many ask

Parameters = Mapping[str, Any]


def parameters(given: Sequence[str]) -> Parameters:
    """What each job is to have, from KEY=VALUE as submitit and sbatch call it.

    Raises:
      UserError: there is no such key (with the nearest), or it has no such value.
    """
    found: dict[str, Any] = {}
    for text in given:
        key, _, value = text.partition('=')
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.4)
            raise UserError(f'--slurm takes no {key!r}' + (f'; the nearest is {near[0]}' if near else
                            f'; it takes {", ".join(sorted(KEYS))}'))  # fmt: skip
        if not value or (key in WHOLE and not (value.isdecimal() and int(value))):
            what = 'a whole number from 1' if key in WHOLE else 'a value'
            raise UserError(f'--slurm {text}: {key} needs {what}, as --slurm {key}=…')
        found[key] = int(value) if key in WHOLE else value
    found = DEFAULTS | found
    if 60 * found['timeout_min'] <= found['signal_delay_s']:
        raise UserError(f'a job of {found["timeout_min"]} min cannot be warned {found["signal_delay_s"]} s before its '
                        'end: change --slurm timeout_min=… or signal_delay_s=…')  # fmt: skip
    return found


def check(chosen: Parameters) -> None:
    """Asks SLURM whether it would take such jobs; none is submitted.

    Raises:
      UserError: there is no SLURM here, or it would not.
    """
    if not shutil.which('sbatch'):
        raise UserError('there is no SLURM here (no sbatch on PATH): start this where sbatch is, or leave out '
                        '--launcher slurm')  # fmt: skip
    gpus = [key for key in chosen if key == 'gpus_per_node' or (key == 'gres' and 'gpu' in chosen[key])]
    if gpus and os.environ.get('RESNET_JAX_PLATFORM') == 'cpu':
        raise UserError(f'--slurm {gpus[0]}={chosen[gpus[0]]}, but RESNET_JAX_PLATFORM is cpu, for the runs too; where '
                        'no GPU is: RESNET_JAX_PLATFORM=cuda ./launch.sh sweep …')  # fmt: skip
    options = [f'--{key.replace("_", "-")}={value}' for key, value in chosen.items() if key not in OURS]
    limits = (f'--time={chosen["timeout_min"]}', f'--signal=USR2@{chosen["signal_delay_s"]}')
    said = _said('sbatch', '--test-only', *limits, *options, '--wrap=true')
    if said.returncode:
        raise UserError(f'SLURM would not take such jobs: {_reason(said.stderr)}; change that with --slurm KEY=VALUE')


def launch(sweep: state.Directory, tasks: Sequence[Task], stop: Stop, chosen: Parameters) -> Iterator[str]:
    """Submits what is not in the queue yet, then looks how it stands, until all is settled. Yields what there is to
    say, and '' now and then, to be shown.

    Raises:
      UserError: SLURM refuses.
      Stopped: `stop` was asked, but the sweep is not cancelled: SLURM goes on.
    """
    jobs, new = _submitted(sweep, tasks, chosen)
    yield f'SLURM has {len(tasks):,} jobs of this sweep, {new:,} of them new; what they say is in {sweep.path}/slurm'
    waiting = list(tasks)
    for look in count():
        since = time.monotonic()
        queue = _queue() if look % LOOKS == 0 else None
        waiting = [task for task in waiting if not _settled(task)]
        if not waiting or stop.asked.is_set() or state.cancelled(sweep.path):
            break
        for task in [task for task in waiting if queue is not None and jobs[task.run] not in queue]:
            waiting.remove(task)
            yield (f'{task.run} is not done, and its job {jobs[task.run]} is gone: cancelled, lost with its node, or '
                   'as its log says; once this has ended the same command submits it again')  # fmt: skip
        yield ''
        stop.asked.wait(work.pause(since))
    yield ''
    if waiting and not state.cancelled(sweep.path):
        raise Stopped(f'SLURM goes on with the {len(waiting):,} runs that are left: the same command waits for them '
                      f'again, resnet-jax sweep status {sweep.path} shows them, sweep cancel stops them')  # fmt: skip


def _settled(task: Task) -> bool:
    found = state.status(task.directory)
    return found.state == 'failed' or (found.state == 'done' and found.then == task.then and not work.lacking(task))


def cancel(sweep: state.Directory) -> None:
    """Takes the jobs that wait out of the queue. Those that run see that the sweep is cancelled, and have the time they
    need to save: SLURM would give them half a minute."""
    queue = _queue() or set()
    arrays = {job.partition('_')[0] for job in _jobs(sweep).values() if job in queue}
    if arrays:
        _said('scancel', '--state=PENDING', *sorted(arrays))


def _submitted(sweep: state.Directory, tasks: Sequence[Task], chosen: Parameters) -> tuple[Mapping[str, str], int]:
    """The job of every run, and how many are new."""
    import submitit
    from submitit.core.utils import FailedJobError

    jobs, queue = _jobs(sweep), _queue()
    if queue is None:
        raise UserError('SLURM does not answer (squeue); try again when it does')
    new = [task for task in tasks if jobs.get(task.run) not in queue]
    # Inside of a job SLURM's variables would be taken for options.
    inside = submitit.helpers.clean_env() if 'SLURM_JOB_ID' in os.environ else nullcontext()
    with inside:
        executor = _executor(sweep, chosen)
        for first in range(0, len(new), ARRAY):
            some = new[first : first + ARRAY]
            try:
                made = executor.submit_array([Job(task) for task in some])
            except FailedJobError as error:
                raise UserError(f'SLURM refuses these jobs: {_reason(str(error))}; change that with --slurm') from None
            jobs |= {task.run: job.job_id for task, job in zip(some, made, strict=True)}
            write_atomically(_record(sweep), (json.dumps(jobs, indent=1) + '\n').encode())
    return jobs, len(new)


def _executor(sweep: state.Directory, chosen: Parameters) -> Any:
    import submitit

    executor = submitit.SlurmExecutor(sweep.path / 'slurm', max_num_timeout=LIMITS)
    more = {key: value for key, value in chosen.items() if key not in ('timeout_min', 'setup')}
    cpus = chosen.get('cpus_per_task')  # which srun does not take from sbatch in every version
    executor.update_parameters(
        job_name=sweep.name, time=chosen['timeout_min'], ntasks_per_node=1, additional_parameters={'requeue': True},
        setup=[chosen['setup']] if 'setup' in chosen else None, srun_args=[f'--cpus-per-task={cpus}'] if cpus else None,
        **more,
    )  # fmt: skip
    return executor


def _record(sweep: state.Directory) -> Path:
    return sweep.path / 'slurm' / 'jobs.json'


def _jobs(sweep: state.Directory) -> dict[str, str]:
    try:
        return dict(json.loads(_record(sweep).read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{_record(sweep)} is damaged ({error}); delete it: a run queued twice is done once') from None


def _queue() -> set[str] | None:
    """The jobs of this user that wait or run; None: SLURM does not say."""
    said = _said('squeue', '--me', '--array', '--noheader', '--format=%i')
    return None if said.returncode else set(said.stdout.split())


def _said(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 127, '', str(error))


def _reason(said: str) -> str:
    """What sbatch says, in one line."""
    return '; '.join(line.partition(': ')[2].removeprefix('error: ') or line for line in said.strip().splitlines())
