"""A sweep's directory: its runs, and how each of them stands.

sweep.json         the sweep's name and axes; by name its runs: where each stands on the axes, and its identity
RUN/               a run's directory, as training makes it; config.json is there from the beginning
RUN/status.json    how the run stands, written whole by whoever holds RUN/.claim
RUN/output.log     what its processes said
slurm/             what submitit keeps, and jobs.json: the job that has each run, or had it last
cancelled          is there from `sweep cancel` to `sweep resume`
report.html, runs.csv, figures/
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.files import write_atomically
from resnet_jax.runtime import directory
from resnet_jax.sweep.grid import Value
from resnet_jax.sweep.plan import Planned

SCHEMA = 1
State = Literal['pending', 'running', 'done', 'failed']


class Status(NamedTuple):
    """How a run stands.

    Attributes:
      host, pid: of the process that carries it out, or did last.
      started, ended: seconds since 1970; 0: not yet.
      attempts: how often it was begun.
      then: the experiments that its result has.
      lines: the last ones that it said before it failed.
    """

    state: State = 'pending'
    host: str = ''
    pid: int = 0
    started: float = 0.0
    ended: float = 0.0
    attempts: int = 0
    then: str = ''
    lines: tuple[str, ...] = ()


class Directory(NamedTuple):
    """A sweep as sweep.json has it."""

    path: Path
    name: str
    then: str
    runs: dict[str, dict[str, Value]]  # by name, where each stands on the axes

    def run(self, name: str) -> Path:
        return self.path / name

    def statuses(self) -> dict[str, Status]:
        """How every run stands now; one whose process is gone is pending again."""
        return {name: status(self.path / name) for name in self.runs}


def create(path: Path, name: str, then: str, planned: Sequence[Planned]) -> Directory:
    """Writes a sweep down, or adds to the one that is there what it has more.

    Raises:
      UserError: the directory holds another sweep (the first run that differs is named), or cannot be written.
    """
    runs = {run.name: {'at': run.at, 'identity': spec.identity(run.config)} for run in planned}
    if (path / 'sweep.json').exists():
        _check_same(path, runs)
    elif path.is_dir() and any(path.iterdir()):
        raise UserError(f'{path} is there, and holds no sweep (no sweep.json); give another directory with --dir')
    record = {'schema': SCHEMA, 'name': name, 'then': then, 'runs': runs}
    write_atomically(path / 'sweep.json', (json.dumps(record, indent=1) + '\n').encode())
    for run in planned:
        _write_config(path / run.name, run.config)
    return read(path)


def _write_config(run_dir: Path, config: ConfigDict) -> None:
    """Where it is not there yet, or how the run is carried out has changed."""
    there = (run_dir / 'config.json').exists()
    if not there or spec.flatten(directory.read_config(run_dir)) != spec.flatten(config):
        directory.create(run_dir, config)


def read(path: Path) -> Directory:
    """The sweep of a directory.

    Raises:
      UserError: it holds none, or one of another version.
    """
    try:
        record = json.loads((path / 'sweep.json').read_text())
    except FileNotFoundError:
        raise UserError(
            f'{path} holds no sweep (no sweep.json); begin one: resnet-jax sweep NAME --dir {path}'
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path}/sweep.json cannot be read ({error}); begin the sweep again, which writes it') from None
    if not isinstance(record, dict) or record.get('schema') != SCHEMA:
        raise UserError(f'{path}/sweep.json is not of schema {SCHEMA}, which this version reads; give another --dir')
    return Directory(path, record['name'], record['then'], {name: run['at'] for name, run in record['runs'].items()})


def _check_same(path: Path, runs: dict[str, dict]) -> None:
    read(path)
    for name, before in json.loads((path / 'sweep.json').read_text())['runs'].items():
        if name not in runs or runs[name]['identity'] != before['identity']:
            how = 'has settings of its own there' if name in runs else 'is none of this one'
            raise UserError(f'{path} holds another sweep: its run {name} {how}; give another directory with --dir')


def status(run_dir: Path) -> Status:
    """How a run stands; one that nobody holds, though its record says it is running, is pending."""
    try:
        found = read_status(run_dir)
        if found.state == 'running' and not _held(run_dir):
            found = read_status(run_dir)  # it may have ended meanwhile
            return found._replace(state='pending') if found.state == 'running' else found
    except UserError as error:  # whoever looks is not to stop for it
        return Status('failed', lines=(str(error),))
    return found


def read_status(run_dir: Path) -> Status:
    """As it was written, which is right for whoever holds the run's claim.

    Raises:
      UserError: it cannot be read.
    """
    try:
        record = json.loads((run_dir / 'status.json').read_bytes())
        found = Status(**{**record, 'lines': tuple(record['lines'])})
    except FileNotFoundError:
        return Status()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f'{run_dir}/status.json is damaged ({error}); delete it: the run is looked at anew') from None
    if found.state not in get_args(State):
        raise UserError(f'{run_dir}/status.json says {found.state!r}; delete it: the run is looked at anew')
    return found


def write_status(run_dir: Path, new: Status) -> None:
    """For whoever holds the run's claim."""
    write_atomically(run_dir / 'status.json', (json.dumps(new._asdict()) + '\n').encode())


@contextmanager
def claim(run_dir: Path) -> Iterator[int | None]:
    """The right to carry a run out, one process at a time has it; None: another one does.

    A process that inherits the descriptor has it for as long as it lives, whatever becomes of this one.
    """
    descriptor = os.open(run_dir / '.claim', os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def _held(run_dir: Path) -> bool:
    try:
        with (run_dir / '.claim').open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def forget_failures(sweep: Directory) -> list[str]:
    """Makes the runs that failed pending again; returns their names."""
    failed = {name: found for name, found in sweep.statuses().items() if found.state == 'failed'}
    for name, found in failed.items():
        with claim(sweep.run(name)) as held:
            if held is not None:
                write_status(sweep.run(name), Status(attempts=found.attempts))
    return list(failed)


def cancel(sweep: Directory) -> None:
    """Asks whoever works on it, on any machine, to stop."""
    (sweep.path / 'cancelled').touch()


def uncancel(sweep: Directory) -> None:
    (sweep.path / 'cancelled').unlink(missing_ok=True)


def cancelled(path: Path) -> bool:
    return (path / 'cancelled').exists()


def left(sweep: Directory) -> list[str]:
    """The names of the runs that are neither done, with the experiments that the sweep has now, nor failed."""
    return [name for name, found in sweep.statuses().items()
            if found.state != 'failed' and (found.state, found.then) != ('done', sweep.then)]  # fmt: skip
