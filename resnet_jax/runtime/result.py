"""What a run came to: `result.json`, written once it is complete, with a hash of itself. Imports no JAX."""

import hashlib
import json
import math
import statistics
from pathlib import Path

from resnet_jax import spec
from resnet_jax.files import write_atomically
from resnet_jax.runtime import directory

NAME = 'result.json'
Numbers = dict[str, int | float | bool | None]


def conclude(run_dir: Path) -> None:
    """Writes down what a run came to, from its records: where it is complete, or diverged."""
    config, records = directory.read_config(run_dir), directory.read_metrics(run_dir)
    diverged = any(record['kind'] == 'diverged' for record in records)
    if diverged or directory.complete(run_dir, config.run.steps):
        write(run_dir, spec.identity(config), _numbers(records) | {'diverged': diverged})


def write(run_dir: Path, identity: str, numbers: Numbers) -> None:
    """Writes down the numbers that a run ended with, by name, and whose they are."""
    finite = {key: value if value is None or math.isfinite(value) else None for key, value in numbers.items()}
    body = {'identity': identity, 'numbers': finite}
    write_atomically(run_dir / NAME, (json.dumps({**body, 'sha256': _hash(body)}, indent=1) + '\n').encode())


def read(run_dir: Path, identity: str) -> Numbers | None:
    """The numbers; None where there is no result, or it is damaged, or another run's."""
    try:
        record = json.loads((run_dir / NAME).read_bytes())
        body = {key: record[key] for key in ('identity', 'numbers')}
        whole = record['sha256'] == _hash(body) and body['identity'] == identity
        return body['numbers'] if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _numbers(records: list[dict]) -> Numbers:
    """The last record of each kind: never the best one."""
    last = {record['kind']: record for record in records}
    numbers: Numbers = {'step': max((record['step'] for record in records), default=0)}
    for kind in ('train', 'test', 'selection'):
        if kind in last:
            numbers |= {f'{kind}_{key}': last[kind][key] for key in ('error', 'loss')}
    if 'train' in last:
        rates = [record['images_per_second'] for record in records if record['kind'] == 'train']
        numbers |= {'seconds': last['train']['seconds'], 'images_per_second': statistics.median(rates)}
    return numbers


def _hash(body: dict) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
