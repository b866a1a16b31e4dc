"""The manifest of a checkpoint: what its files were when it was saved, so that no later damage is restored.

Orbax checks no array it reads: of 200 flipped bits it restored 172 in silence. A step's manifest is written last and
removed first: a folder without one is no checkpoint.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from resnet_jax.files import sync, write_atomically

NAME = 'manifest.json'
CHUNK = 2**22  # bytes read at once


def write(folder: epath.Path, environment: dict[str, object]) -> None:
    """Writes down the files of a finished checkpoint, its step, and the environment that it was computed in.

    All of it is on the disk then: older ones may go.
    """
    files = {name: _of(folder / name) for name in _names(folder)}
    body = {'environment': environment, 'files': files, 'step': folder.name}
    if '://' in str(folder):
        (folder / NAME).write_bytes(_encoded(body))  # an object is there whole or not at all
        return
    for path, _, names in os.walk(folder):
        for name in ('.', *names):
            sync(Path(path, name))
    write_atomically(Path(folder / NAME), _encoded(body))
    sync(Path(folder))
    sync(Path(folder.parent))


def environment(folder: epath.Path) -> dict[str, object]:
    """That of a checkpoint whose manifest was found right."""
    return json.loads((folder / NAME).read_bytes())['environment']


def damage(folder: epath.Path) -> str:
    """What of a checkpoint is not as it was saved; empty where all is."""
    try:
        found = (folder / NAME).read_bytes()
        record = json.loads(found)
        body = {key: record[key] for key in ('environment', 'files', 'step')}
        if _encoded(body) != found:
            return f'{NAME} is not as it was written'
        if body['step'] != folder.name:
            return f'{NAME} is that of step {body["step"]}'
        with ThreadPoolExecutor() as pool:
            now = dict(zip(body['files'], pool.map(lambda name: _of(folder / name), body['files']), strict=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f'{NAME} cannot be read ({error})'
    for name, wanted in body['files'].items():
        if now[name] != wanted:
            return f'{name} is missing' if now[name] is None else f'{name} has changed'
    return ''


def _encoded(body: dict) -> bytes:
    """With its own hash, in one form alone: a bit that flips anywhere in it shows."""
    own = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**body, 'sha256': own}, sort_keys=True, indent=1) + '\n').encode()


def _names(folder: epath.Path) -> list[str]:
    """Every file below, by its path from there."""
    found, folders = [], [folder]
    while folders:
        for path in folders.pop().iterdir():
            folders.append(path) if path.is_dir() else found.append(str(path.relative_to(folder)))
    return sorted(found)


def _of(path: epath.Path) -> str | None:
    """Size and SHA-256 of a file; None where there is none."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open('rb') as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return None
    return f'{size}:{digest.hexdigest()}'
