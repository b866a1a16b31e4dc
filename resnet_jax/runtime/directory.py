"""A run's directory: what stands in it and how it is read. Imports no JAX.

config.json         the resolved config, the identity of the run and the name of its kind of network
preprocessing.json  what an image passes through before the network, and the names of the classes: a prediction
                    needs no dataset
environment.json    what it computes in
metrics.jsonl       a record a line: {"kind": "train", "test", "selection", "not_finite" or "diverged", "step": …}
checkpoints/        by step, each with a manifest; elsewhere where run.checkpoints says so, in a folder of the run's
                    own, which its identity names
weights.json        where imported weights came from
findings/, figures/, report.html, tensorboard/
"""

import errno
import fcntl
import importlib.util
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from etils import epath
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.files import write_atomically

SCHEMA = 4


def create(run_dir: Path, config: ConfigDict) -> None:
    """Writes down whose directory this is.

    Raises:
      UserError: it cannot be written, or it holds another run (the first setting that differs is named).
    """
    check(run_dir, config)
    title, settings = configuration.title(config.network), config.to_dict()
    if place := config.run.checkpoints:  # whoever reads it may do so in another folder than this process is in
        settings['run']['checkpoints'] = str(checkpoints(run_dir, place))
    record = {'schema': SCHEMA, 'identity': spec.identity(config), 'title': title, 'config': settings}
    try:
        write_atomically(run_dir / 'config.json', (json.dumps(record, indent=2) + '\n').encode())
    except OSError as error:
        raise _unwritable(run_dir, error) from None


def check(run_dir: Path, config: ConfigDict) -> None:
    """Refuses a directory that holds another run than that of this config.

    Raises:
      UserError: the first setting that differs is named; or there are checkpoints that nothing says whose they are.
    """
    if (run_dir / 'config.json').exists():
        _check_same(run_dir, read_config(run_dir), config)
    elif any((there := checkpoints(run_dir, own_place(config))).glob('[0-9]*')):
        raise UserError(
            f'{there} has checkpoints, but {run_dir} no config.json, which says whose they are; restore that, or give '
            'other directories with --run and --config.run.checkpoints'
        )


def read_config(run_dir: Path) -> ConfigDict:
    """The config of a run, as it was resolved when the run started last.

    Raises:
      UserError: this is no run's directory, or it was written by another version.
    """
    record = _read_record(
        run_dir / 'config.json',
        missing=f'{run_dir} holds no run (no config.json); train one: resnet-jax train --run {run_dir}',
    )
    settings = _tuples(record['config'])
    for key, value in spec.ADDED.items():
        section, _, name = key.partition('.')
        settings[section].setdefault(name, value)
    return ConfigDict(settings)


def seeds_in(run_dir: Path) -> list[Path]:
    """The directory of a run; or, of one that trains several seeds, those of each, which may not be there yet."""
    seeds = spec.seeds(read_config(run_dir))
    return [run_dir / f'seed{seed}' for seed in seeds] if len(seeds) > 1 else [run_dir]


def read_title(run_dir: Path) -> str:
    """The name of a run's kind of network, as it was when the run started last."""
    return json.loads((run_dir / 'config.json').read_text())['title']


def write_preprocessing(
    run_dir: Path, normalization: Sequence[ArrayLike], classes: Sequence[str], fingerprint: str
) -> None:
    """Writes down mean and deviation, float32 of shape (h, w, c) or (1, 1, c), the classes in order of labels, and
    the fingerprint of the images, empty where none were seen."""
    mean, deviation = (np.asarray(values, np.float32).tolist() for values in normalization)  # JSON keeps every bit
    record = {
        'schema': SCHEMA, 'classes': list(classes), 'mean': mean, 'deviation': deviation, 'fingerprint': fingerprint,
    }  # fmt: skip
    write_atomically(run_dir / 'preprocessing.json', (json.dumps(record) + '\n').encode())


def read_preprocessing(run_dir: Path) -> tuple[tuple[np.ndarray, np.ndarray], tuple[str, ...]]:
    """((mean, deviation), classes), to the bit as they were written.

    Raises:
      UserError: nothing was written, or by another version.
    """
    path = run_dir / 'preprocessing.json'
    record = _read_record(path, missing=f'there is no {path}; restore it or train anew in another directory')
    mean, deviation = (np.asarray(record[key], np.float32) for key in ('mean', 'deviation'))
    return (mean, deviation), tuple(record['classes'])


def check_data(run_dir: Path, fingerprint: str) -> None:
    """Refuses to go on with a run on other images than it began with.

    Raises:
      UserError: the fingerprint that was written is another one.
    """
    path = run_dir / 'preprocessing.json'
    before = _read_record(path, missing='')['fingerprint'] if path.exists() else ''
    if before not in ('', fingerprint):
        raise UserError(f'{run_dir} was trained on another copy of its dataset; set --config.data.data_dir to that '
                        'one, or give another directory with --run')  # fmt: skip


def own_place(config: ConfigDict) -> str:
    """The place of a run's checkpoints, its own in `run.checkpoints`, which many runs may share; empty: in its
    directory."""
    return config.run.checkpoints and f'{config.run.checkpoints}/{spec.identity(config)}'


def checkpoints(run_dir: Path, place: str) -> epath.Path:
    """Where checkpoints are: in the directory of their run, or in `place`, a folder or gs://….

    Raises:
      UserError: it is of another store, which Orbax cannot write to, or what reads this one is not installed.
    """
    if not place:
        return epath.Path(run_dir.absolute()) / 'checkpoints'
    if '://' not in place:
        return epath.Path(Path(place).absolute())
    if not place.startswith('gs://'):
        raise UserError(f'config.run.checkpoints is {place!r}; it must be a folder or a URL that begins with gs://')
    if importlib.util.find_spec('gcsfs') is None:
        raise UserError(f'config.run.checkpoints is {place!r}, which gcsfs opens; install it: pip install gcsfs')
    return epath.Path(place)


def has_checkpoint(run_dir: Path, step: int) -> bool:
    """Has the run a checkpoint of that step? By its manifest; whether it is whole is seen when it is restored."""
    if not (run_dir / 'config.json').exists():
        return False
    place = checkpoints(run_dir, own_place(read_config(run_dir)))
    return (place / str(step) / 'manifest.json').exists()


def write_environment(run_dir: Path, environment: dict[str, object]) -> None:
    write_atomically(
        run_dir / 'environment.json', (json.dumps({'schema': SCHEMA, **environment}, indent=2) + '\n').encode()
    )


def read_environment(run_dir: Path) -> dict[str, object]:
    """What was written last, or nothing where the run has not begun."""
    path = run_dir / 'environment.json'
    return json.loads(path.read_text()) if path.exists() else {}


def read_metrics(run_dir: Path) -> list[dict]:
    """Every whole record; a line cut off by a crash is left out."""
    path = run_dir / 'metrics.jsonl'
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    try:
        return [json.loads(line) for line in lines if line.endswith('\n')]
    except ValueError as error:
        raise UserError(f'{path} has a damaged line ({error}); delete that line and start again') from None


def complete(run_dir: Path, steps: int) -> bool:
    """Has the run its last evaluation and the checkpoint of its last step, that of `steps`?"""
    evaluated = any(record['kind'] == 'test' and record['step'] >= steps for record in read_metrics(run_dir))
    return evaluated and has_checkpoint(run_dir, steps)


def diverged(run_dir: Path) -> bool:
    """Did its training end with a loss or a parameter that is not finite?"""
    return any(record['kind'] == 'diverged' for record in read_metrics(run_dir))


def imported(run_dir: Path) -> bool:
    """Do its weights come from a file of another library?"""
    return (run_dir / 'weights.json').exists()


def append_metrics(run_dir: Path, record: dict) -> None:
    """Adds a record, whole or not at all."""
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value
              for key, value in record.items() if key != 'kind'}  # fmt: skip
    line = json.dumps({'kind': record['kind'], **finite}, allow_nan=False) + '\n'
    with (run_dir / 'metrics.jsonl').open('ab', buffering=0) as file:
        size = file.tell()
        try:
            if file.write(line.encode()) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size)  # the next record must not stand behind half of this one
            raise


def keep_metrics_until(run_dir: Path, step: int) -> list[dict]:
    """Drops the records of steps that a resumed run will do again; returns what is left."""
    records = read_metrics(run_dir)
    kept = [record for record in records if record['step'] <= step]
    write_atomically(run_dir / 'metrics.jsonl', ''.join(json.dumps(record) + '\n' for record in kept).encode())
    return kept


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Makes the directory, or takes the one that is there, and holds it for one process at a time.

    Raises:
      UserError: it cannot be written, or another process trains in it.
    """
    try:
        descriptor = lock(run_dir)
    except BlockingIOError:
        raise UserError(
            f'another process works on {run_dir}; wait for it, or give another directory with --run'
        ) from None
    except OSError as error:
        raise _unwritable(run_dir, error) from None
    try:
        yield
    finally:
        os.close(descriptor)


def lock(folder: Path) -> int:
    """Makes the folder, or takes the one that is there; the descriptor that holds it until it is closed.

    Raises:
      BlockingIOError: another one holds it.
      OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / '.lock', os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read_record(path: Path, *, missing: str) -> dict:
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(missing) from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}); restore it or train anew in another directory') from None
    if not isinstance(record, dict) or record.get('schema') != SCHEMA:
        raise UserError(f'{path} is not of schema {SCHEMA}, which this version reads; train anew in another directory')
    return record


def _check_same(run_dir: Path, stored: ConfigDict, config: ConfigDict) -> None:
    before, now = spec.definition(stored), spec.definition(config)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            what = ' (the images are not those it was trained on)' if key == 'data.fingerprint' else ''
            raise UserError(
                f'{run_dir} holds another run: its {key} is {before.get(key)!r}, here {now.get(key)!r}{what}; '
                'give another directory with --run'
            )


def _unwritable(run_dir: Path, error: OSError) -> UserError:
    return UserError(f'cannot write to {run_dir} ({error.strerror}); give another directory with --run')


def _tuples(settings: dict) -> dict:
    """JSON has no tuples: every list of a config was one."""
    return {
        key: _tuples(value) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value
        for key, value in settings.items()
    }
