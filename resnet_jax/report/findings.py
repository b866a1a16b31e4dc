"""Findings: what an experiment measured on a run and what it claims, kept as a JSON file and an .npz beside it.

The JSON is strict: a float that JSON cannot write stands as `{"$float": "inf"}` (or "-inf", "nan"). It holds the
hash of the arrays' file, so that a pair that was not written together is refused and not mixed.
"""

import dataclasses
import hashlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.files import check_name, write_atomically
from resnet_jax.report.claims import Claim, Interval

SCHEMA = 3

_ABOUT = 'about.json'  # beside the arrays of a file, what they are

_Value = str | int | float | bool | None
Plain = _Value | list[_Value]


@dataclass(frozen=True, eq=False)
class Array:
    """Numbers (or strings) with a name for each axis and a unit; `''` for a pure number.

    Raises:
      ValueError: axes do not match the dimensions, or the values are neither numbers, booleans nor strings.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    unit: str

    def __post_init__(self):
        if len(self.axes) != self.values.ndim:
            raise ValueError(f'an array has a name for each axis; got {self.axes} for shape {self.values.shape}')
        if self.values.dtype.kind not in 'biufcU':
            raise ValueError(f'an array holds numbers, booleans or strings; got {self.values.dtype}')


class Subject(NamedTuple):
    """A run that something was measured on."""

    identity: str
    title: str  # the name of its kind of network
    seed: int
    step: int  # of the checkpoint


@dataclass(frozen=True, eq=False)
class Finding:
    """What one experiment found on its runs.

    Raises:
      UserError: the name of the experiment, an array or a figure is no plain file name.
      ValueError: a claim points to a figure that is not listed.
    """

    experiment: str  # its name; one finding of that name a directory
    title: str
    question: str  # what it asks
    tier: str  # cpu or paper: how thoroughly
    settings: dict[str, Plain]  # of the experiment, flat
    code: str  # a hash of what measured, judged and drew
    runs: tuple[Subject, ...]  # what it was measured on, the main run first; none where it needs no run
    data: str  # the dataset it was measured on
    summary: dict[str, Plain]  # the short table: label -> value
    claims: tuple[Claim, ...]
    arrays: dict[str, Array]
    figures: dict[str, str]  # name -> caption, in the order of the page; files are figures/<name>.svg and .png
    notes: tuple[str, ...]  # what a reader must know: deviations, limits

    def __post_init__(self):
        check_name('experiment', self.experiment)
        for name in self.arrays:
            check_name('array', name)
        for name in self.figures:
            check_name('figure', name)
        for claim in self.claims:
            if claim.figure and claim.figure not in self.figures:
                raise ValueError(f'a claim points to a figure of its finding; {claim.figure!r} is not in it')


def save_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Writes arrays with their axes and units as one .npz, whole or not at all."""
    about = np.array(json.dumps({name: _describe(array) for name, array in arrays.items()}))
    write_atomically(path, _pack({name: array.values for name, array in arrays.items()} | {_ABOUT: about}))


def load_arrays(path: Path) -> dict[str, Array] | None:
    """What `save_arrays` wrote; None where there is no such file.

    Raises:
      UserError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as values:
            about = json.loads(values[_ABOUT].item())
            return {name: Array(values[name], tuple(its['axes']), its['unit']) for name, its in about.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, BadZipFile) as error:
        raise _damaged(path, error) from error


def save(finding: Finding, run_dir: Path) -> Path:
    """Writes findings/<experiment>.npz, then .json, each whole or not at all; returns the JSON's path.

    Raises:
      TypeError: a summary holds something else than strings, numbers, booleans, None and lists of these.
    """
    arrays = _pack({name: array.values for name, array in finding.arrays.items()})
    record = {
        'schema': SCHEMA,
        'experiment': finding.experiment,
        'title': finding.title,
        'question': finding.question,
        'tier': finding.tier,
        'settings': finding.settings,
        'code': finding.code,
        'runs': [run._asdict() for run in finding.runs],
        'data': finding.data,
        'summary': finding.summary,
        'claims': [dataclasses.asdict(claim) | {'verdict': claim.verdict} for claim in finding.claims],
        'figures': finding.figures,
        'notes': list(finding.notes),
        'arrays': {name: _describe(array) for name, array in finding.arrays.items()},
        'arrays_sha256': hashlib.sha256(arrays).hexdigest(),
    }
    text = json.dumps(_encode(record), indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    path = run_dir / 'findings' / f'{finding.experiment}.json'
    write_atomically(path.with_suffix('.npz'), arrays)
    write_atomically(path, text.encode())
    return path


def load(run_dir: Path, experiment: str) -> Finding:
    """The finding of that experiment on the run.

    Raises:
      UserError: there is none, it is of another schema, or its files are damaged or not of one piece.
    """
    check_name('experiment', experiment)
    path = run_dir / 'findings' / f'{experiment}.json'
    if not path.is_file():
        there = ', '.join(names(run_dir)) or 'none'
        raise UserError(f'{run_dir} has no finding {experiment!r} (it has: {there}); run that experiment on it first')
    record = _record(path)
    if record['schema'] != SCHEMA:
        raise UserError(
            f'{path} has schema {record["schema"]!r}, this version reads {SCHEMA}; run the experiment again'
        )
    try:
        return _finding(record, path.with_suffix('.npz'))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, BadZipFile) as error:
        raise _damaged(path, error) from error


def load_all(run_dir: Path) -> tuple[Finding, ...]:
    """Every finding of the run that this version reads, by name; errors as in `load`."""
    return tuple(load(run_dir, name) for name in names(run_dir) if readable(run_dir, name))


def outdated(run_dir: Path) -> list[str]:
    """The experiments whose findings another version wrote."""
    return [name for name in names(run_dir) if not readable(run_dir, name)]


def readable(run_dir: Path, experiment: str) -> bool:
    """Is there a finding of that experiment, and of this version?"""
    path = run_dir / 'findings' / f'{experiment}.json'
    return path.is_file() and _record(path)['schema'] == SCHEMA


def names(run_dir: Path) -> list[str]:
    """The experiments that there are findings of, of whatever version."""
    return sorted(path.stem for path in (run_dir / 'findings').glob('[!.]*.json'))


def _record(path: Path) -> dict:
    try:
        record = json.loads(path.read_text(encoding='utf-8'), object_hook=_decode)
        record['schema']
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    return record


def _finding(record: dict, arrays_path: Path) -> Finding:
    data = arrays_path.read_bytes()
    if hashlib.sha256(data).hexdigest() != record['arrays_sha256']:
        raise ValueError(f'{arrays_path.name} is not the file it was saved with')
    with np.load(io.BytesIO(data), allow_pickle=False) as values:
        arrays = {
            name: Array(values[name], tuple(about['axes']), about['unit']) for name, about in record['arrays'].items()
        }
    return Finding(
        experiment=record['experiment'],
        title=record['title'],
        question=record['question'],
        tier=record['tier'],
        settings=record['settings'],
        code=record['code'],
        runs=tuple(Subject(**run) for run in record['runs']),
        data=record['data'],
        summary=record['summary'],
        claims=tuple(_claim(claim) for claim in record['claims']),
        arrays=arrays,
        figures=record['figures'],
        notes=tuple(record['notes']),
    )


def _claim(record: dict) -> Claim:
    fields: dict[str, Any] = {key: value for key, value in record.items() if key != 'verdict'}  # the rule says it anew
    for key in ('accept', 'interval'):
        fields[key] = Interval(**fields[key])
    return Claim(**fields)


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of an .npz; the same for the same arrays, and without pickles."""
    buffer = io.BytesIO()
    with ZipFile(buffer, 'w', ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
    return buffer.getvalue()


def _describe(array: Array) -> dict:
    return {
        'axes': list(array.axes),
        'unit': array.unit,
        'shape': list(array.values.shape),
        'dtype': str(array.values.dtype),
    }


def _encode(value: object) -> object:
    """The value as strict JSON can write it, and `_decode` reads it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {'$float': str(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f'a finding holds strings, numbers, booleans, None and lists of these; got {value!r}')


def _decode(record: dict) -> object:
    return float(record['$float']) if record.keys() == {'$float'} else record


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f'{path} cannot be read ({error!r}); delete it and run the experiment again')
