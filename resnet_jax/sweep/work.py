"""One run of a sweep, carried out by whoever has its claim: what every launcher does, on whatever machine."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_jax import spec
from resnet_jax.errors import Stopped, UserError
from resnet_jax.runtime import directory, result
from resnet_jax.sweep import state
from resnet_jax.sweep.state import Status

LINES = 5  # that are kept of what a run said before it failed
LOOK = 0.5  # seconds between two looks for what other machines did: a cancellation, a claim given back
HURRY = 2  # signals after which the runs are not asked any more, but ended


# A run ends, saved, with whoever started it; and the last line it says of a fault is the fault.
RUNS = {'RESNET_JAX_SUPERVISED': '1', 'JAX_TRACEBACK_FILTERING': 'off'}


class Task(NamedTuple):
    """A run as launchers hand it on.

    Attributes:
      command: what carries it out, behind which comes its directory.
      then: the experiments whose findings belong to its result, as `train --then` takes them.
    """

    sweep: Path
    run: str
    command: tuple[str, ...]
    then: str = ''

    @property
    def directory(self) -> Path:
        return self.sweep / self.run


def tasks(sweep: state.Directory, names: Iterable[str]) -> list[Task]:
    """Those runs, to be trained; then their experiments, each on the run alone. One seed of everything comes before the
    second of anything: the picture is whole early, and the second finds its programs compiled."""
    then = ('--then', sweep.then, '--alone') if sweep.then else ()
    command = (sys.executable, '-m', 'resnet_jax.cli', 'train', *then, '--run')
    seeds = {name: sweep.runs[name].get('seed', 0) for name in names}
    ordered = sorted(seeds, key=lambda name: seed if isinstance(seed := seeds[name], int) else 0)
    return [Task(sweep.path.absolute(), name, command, sweep.then) for name in ordered]


def left(sweep: state.Directory) -> list[str]:
    """The names of the runs that are still to be done, or to be done anew: their results are checked."""
    begun = set(state.left(sweep))
    done = (name for name, found in sweep.statuses().items() if found.state == 'done' and name not in begun)
    begun |= {name for name in done if lacking(Task(sweep.path, name, (), sweep.then))}
    return [name for name in sweep.runs if name in begun]


def pause(since: float) -> float:
    """Seconds from now to the next look at all runs: of a large sweep one takes long, and is to be a tenth of the time.

    Args:
      since: when the last look began (`time.monotonic()`).
    """
    return max(LOOK, 9 * (time.monotonic() - since))


class Stop:
    """Whether to stop: then what runs is asked to, and nothing more begins."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._running: set[subprocess.Popen] = set()
        self._lock, self.times = threading.RLock(), 0  # a signal may come while one is being heeded

    def ask(self, times: int = 1) -> None:
        """Asks the runs to save and end; asked again, it ends them. A cancellation counts as no time."""
        with self._lock:
            self.times += times
            self.asked.set()
            for process in self._running:
                process.send_signal(signal.SIGKILL if self.times >= HURRY else signal.SIGTERM)

    def wait_for(self, process: subprocess.Popen) -> int:
        """Its exit code."""
        with self._lock:
            self._running.add(process)
            if self.asked.is_set():
                process.send_signal(signal.SIGTERM)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)

    def heed_cancellation(self, sweep: Path) -> None:
        """Asks too when the sweep is cancelled, from wherever."""
        if state.cancelled(sweep):
            self.ask(times=0)

        def watch() -> None:
            while not self.asked.wait(LOOK):
                if state.cancelled(sweep):
                    self.ask(times=0)

        threading.Thread(target=watch, daemon=True).start()


def carry_out(task: Task, stop: Stop, environment: Mapping[str, str] | None = None, cores: Sequence[int] = ()) -> bool:
    """Does a run that is left to be done, and writes down how it ended. False: another process is at it.

    Args:
      environment: what its process has besides this one's.
      cores: those of this machine that it keeps to; none: all.
    """
    with state.claim(task.directory) as claimed:
        if claimed is None:
            return False
        before = _before(task)
        if before.state == 'failed' or stop.asked.is_set():
            return True
        if before.then == task.then and not lacking(task):
            if before.state != 'done':  # whoever did it was gone before it could say so
                state.write_status(task.directory, before._replace(state='done', ended=time.time()))
            return True
        with _start(task, claimed, environment or {}, cores) as process:
            running = Status(
                'running', socket.gethostname(), process.pid, time.time(), 0.0, before.attempts + 1, task.then
            )  # fmt: skip
            state.write_status(task.directory, running)
            code = stop.wait_for(process)
        state.write_status(task.directory, _ended(task, running._replace(ended=time.time()), code, stop))
        return True


def _before(task: Task) -> Status:
    """How the run stood, for whoever has its claim; a record that cannot be read is none."""
    try:
        return state.read_status(task.directory)
    except UserError:
        return Status()


def wait_for_others(task: Task, stop: Stop) -> None:
    """Carries a run out though another process may be at it: waits until that is gone."""
    while not carry_out(task, stop) and not stop.asked.wait(LOOK):
        pass


def lacking(task: Task) -> str:
    """What a run lacks to be done; empty where its result, and its findings, are there and whole: of several seeds,
    those of each."""
    names = [text.partition(':')[0] for text in task.then.split(',') if text]
    try:
        found = [_lacking(run_dir, names) for run_dir in directory.seeds_in(task.directory)]
    except UserError as error:
        return str(error)
    return next(filter(None, found), '')


def _lacking(run_dir: Path, then: Iterable[str]) -> str:
    if not (run_dir / 'config.json').exists():
        return f'{run_dir.name} has not begun'
    config = directory.read_config(run_dir)
    numbers = result.read(run_dir, spec.identity(config))
    if numbers is None:
        return 'it has no result.json that is whole'
    if numbers['diverged']:
        return ''
    if (numbers['step'] or 0) < config.run.steps:
        return f'its result is that of step {numbers["step"]} of {config.run.steps}'
    absent = [name for name in then if not (run_dir / 'findings' / f'{Path(name).stem}.json').exists()]
    return f'it has no findings of {", ".join(absent)}' if absent else ''


def _start(task: Task, claimed: int, environment: Mapping[str, str], cores: Sequence[int]) -> subprocess.Popen:
    """It has a session of its own, ends saved when this process is gone, and holds the claim until it has ended."""
    with (task.directory / 'output.log').open('ab') as log:
        process = subprocess.Popen(
            [*task.command, str(task.directory)], stdin=subprocess.PIPE, stdout=log, stderr=log,
            start_new_session=True, pass_fds=(claimed,),
            env=os.environ | RUNS | dict(environment),
        )  # fmt: skip
    if cores:
        os.sched_setaffinity(process.pid, cores)
    return process


def _ended(task: Task, status: Status, code: int, stop: Stop) -> Status:
    missing = lacking(task)
    if not missing and code in (0, 2):  # 2: its training diverged, which is a result
        return status._replace(state='done')
    if code in (Stopped.exit_code, -signal.SIGTERM) or stop.asked.is_set():  # -: asked before it could listen
        return status._replace(state='pending')
    how = missing if code == 0 else f'ended by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
    return status._replace(state='failed', lines=(*_last_lines(task.directory / 'output.log'), f'({how})'))


def _last_lines(log: Path) -> tuple[str, ...]:
    with log.open('rb') as file:
        file.seek(max(0, log.stat().st_size - 4000))
        text = file.read().decode(errors='replace')
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())[-LINES:]
