"""The report of a run, or of a laboratory: one HTML file that needs nothing but itself. It has no script and asks for
nothing outside. That of a sweep is made by `resnet_jax.report.sweep`.
"""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.files import write_atomically
from resnet_jax.models import counts
from resnet_jax.report import figures, findings
from resnet_jax.report.page import SYMBOLS, gauge, image, read_settings, template
from resnet_jax.runtime.directory import diverged

__all__ = ['gauge', 'write']

_RECORD_KEYS = {
    'train': {'step', 'epoch', 'loss', 'error', 'learning_rate', 'images_per_second'},
    'test': {'step', 'loss', 'error', 'correct', 'examples'},
}


def write(directory: Path) -> Path:
    """Writes report.html into the directory of a run, a laboratory or a sweep, from the files there; returns its path.

    A run that is not finished, or has no findings, has a report that says so.

    Raises:
      UserError: it is none of these, or a file in it is damaged.
    """
    if (directory / 'sweep.json').is_file():
        from resnet_jax.report import sweep  # with it comes SciPy, a second that the other pages do not need
        from resnet_jax.sweep import state

        return sweep.write(state.read(directory))
    if (directory / 'config.json').is_file():
        page = _run_page(directory)
    elif (directory / 'findings').is_dir():
        page = _laboratory_page(directory)
    else:
        raise UserError(f'{directory} is neither a run (config.json) nor a laboratory (findings) nor a sweep '
                        '(sweep.json); give the directory that one of them wrote')  # fmt: skip
    path = directory / 'report.html'
    write_atomically(path, page.encode())
    return path


def _run_page(run_dir: Path) -> str:
    config = read_settings(run_dir, 'config.json') or {}
    records = _read_records(run_dir / 'metrics.jsonl')
    if records:
        _save_training_curves(records, run_dir / 'figures')
    try:
        overview = _overview(config, records)
        identity = config['identity']
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(f'{run_dir}/config.json is no run of this version ({error!r}); train it again') from error
    return template('run').render(
        name=run_dir.resolve().name,
        identity=identity,
        overview=overview,
        settings=spec.flatten(config['config']),
        environment=spec.flatten(read_settings(run_dir, 'environment.json') or {}),
        curves=image(run_dir, 'training_curves') if records else None,
        training=_training(records),
        findings=[_section(finding, run_dir) for finding in findings.load_all(run_dir)],
        outdated=findings.outdated(run_dir),
        symbols=SYMBOLS,
    )


def _laboratory_page(lab: Path) -> str:
    found = findings.load_all(lab)
    named = {run.identity for finding in found for run in finding.runs}
    return template('laboratory').render(
        name=lab.resolve().name,
        runs=[run for run in map(_row, sorted(lab.glob('*/config.json'))) if run['identity'] in named],
        findings=[_section(finding, lab) for finding in found],
        outdated=findings.outdated(lab),
        symbols=SYMBOLS,
    )


def _row(path: Path) -> dict[str, object]:
    """A run of a laboratory, in short."""
    record, records = json.loads(path.read_text()), _read_records(path.with_name('metrics.jsonl'))
    tests = [each for each in records if each['kind'] == 'test']
    return {
        'title': record['title'],
        'identity': record['identity'],
        'seed': record['config']['seed'],
        'step': max((each['step'] for each in records), default=0),
        'error': tests[-1]['error'] if tests else None,
        'diverged': diverged(path.parent),
        'directory': path.parent.name,
    }


def _overview(record: Mapping, records: list[dict]) -> dict[str, object]:
    """What the page says of the run at first sight."""
    config, arch = record['config'], spec.architecture(ConfigDict(record['config']))
    steps = config['run']['steps']
    tests = [record for record in records if record['kind'] == 'test']
    return {
        'network': record['title'],
        'blocks': f'{arch.blocks} {arch.block} blocks, {arch.placement.replace("_", " ")}, shortcut {arch.shortcut}',
        'parameters': counts.parameters(arch),
        'multiply_adds': counts.multiply_adds(arch),
        'dataset': config['data']['dataset'],
        'seed': config['seed'],
        'steps': steps,
        'done': max((record['step'] for record in records), default=0),
        'finished': any(record['step'] >= steps for record in tests),
        'test': tests[-1] if tests else None,
    }


def _training(records: list[dict]) -> dict[str, object]:
    """The short table beside the curves: the state at the last records, never the best one."""
    table: dict[str, object] = {}
    if train := [record for record in records if record['kind'] == 'train']:
        last = train[-1]
        table |= {'steps': last['step'], 'epochs': last['epoch']}
        table |= {'training error, last record (%)': last['error'], 'training loss, last record': last['loss']}
        rates = [record['images_per_second'] for record in train if record['images_per_second'] is not None]
        table |= {'images a second, median': statistics.median(rates) if rates else None}
    if test := [record for record in records if record['kind'] == 'test']:
        table |= {'test error, last (%)': test[-1]['error'], 'test loss, last': test[-1]['loss']}
    return table


def _section(finding: findings.Finding, run_dir: Path) -> dict[str, object]:
    images = {name: image(run_dir, name) for name in finding.figures}
    return {'finding': finding, 'images': images}


def _save_training_curves(records: list[dict], directory: Path) -> None:
    figures.save(figures.training_curves(records), directory, 'training_curves')
    keys = ('kind', 'step', 'loss', 'error', 'learning_rate')
    figures.save_numbers(directory, 'training_curves', {key: [record.get(key) for record in records] for key in keys})


def _read_records(path: Path) -> list[dict]:
    """The records of training and evaluation in order of steps; of a step done twice (a resumed run) the last one.

    A last line without its end is one that is just being written, or was cut short: it is left out.
    """
    lines = path.read_bytes().split(b'\n')[:-1] if path.is_file() else []
    records = {}
    for line_number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            kind = record['kind']
            if kind not in _RECORD_KEYS:
                continue  # not of the curves
            if not all(isinstance(record[key], int | float | None) for key in _RECORD_KEYS[kind]):
                raise TypeError('a value is no number')
            records[int(record['step']), kind] = record
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} line {line_number} is no record ({error!r}); delete that line') from error
    return [records[key] for key in sorted(records)]
