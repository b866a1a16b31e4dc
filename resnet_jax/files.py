"""Files of a run: names that are safe as file names, and files that are whole or absent."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

import numpy as np

from resnet_jax.errors import UserError

_NAME = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}')


def check_name(kind: str, name: str) -> None:
    """Refuses a name that is no plain file name (it becomes one, and an anchor in the page).

    Raises:
      UserError: one line with the name and the rule.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f'{kind} {name!r}: a name has 1 to 128 of A-Z a-z 0-9 . _ - and no dot in front; rename it')


def cache_folder() -> Path:
    """Of what only costs time when it is lost: in $XDG_CACHE_HOME or ~/.cache. Relative where nobody knows the home."""
    return Path(os.path.expanduser(os.environ.get('XDG_CACHE_HOME') or '~/.cache'), 'resnet_jax')


def write_atomically(path: Path, data: bytes) -> None:
    """Writes the file whole or not at all, creating its directory; a reader never meets half of it."""
    with _replacing(path) as file:
        file.write(data)


def sync(path: Path) -> None:
    """Until a file, or what a folder's names stand for, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name as an .npz, whole or not at all.

    Raises:
      UserError: it cannot be written there.
    """
    try:
        with _replacing(path) as file, ZipFile(file, 'w') as archive:
            for name, values in arrays.items():
                with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
    except OSError as error:
        raise _unwritable(path, error.strerror) from None


def check_writable(path: Path) -> None:
    """Refuses, before it is worth anything, a file that cannot be written; makes its directory.

    Raises:
      UserError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror) from None
    if path.is_dir():
        raise _unwritable(path, os.strerror(errno.EISDIR))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unwritable(path, os.strerror(errno.EACCES))


def _unwritable(path: Path, reason: str | None) -> UserError:
    return UserError(f'cannot write {path} ({reason}); give another file')


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        with partial.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
