"""Folders and the image files in them, none opened. Names are bytes: they need not be text."""

import errno
import os
import stat
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from resnet_jax.errors import UserError

EXTENSIONS = (b'.jpg', b'.jpeg', b'.png', b'.webp', b'.bmp', b'.gif')
NOWHERE = (errno.ENOENT, errno.ELOOP)  # is where a broken link leads
SETTLED = 2  # seconds, the coarsest clock of a file system: what is younger may change again and not show it

# `length` is the name's; `size` the file's, 0 behind a broken link; device and inode say which file it is.
TABLE = np.dtype(
    [('length', np.int32), ('size', np.int64), ('label', np.int32), ('device', np.uint64), ('inode', np.uint64)]
)


class Images(NamedTuple):
    """Image files by class, and within a class by name."""

    names: bytes  # relative to the root, one after the other
    table: np.ndarray  # TABLE (n,)

    def where(self, chosen: np.ndarray) -> 'Images':
        """Those of a mask, bool (n,)."""
        letters = np.frombuffer(self.names, np.uint8)
        return Images(letters[np.repeat(chosen, self.table['length'])].tobytes(), self.table[chosen])


class Listing(NamedTuple):
    """What lies in a folder itself, hidden names apart."""

    folders: list[tuple[bytes, os.stat_result]]  # by name
    images: list[tuple[bytes, int, int, int]]  # name, size, device, inode
    ignored: int  # files of other kinds


class Walk(NamedTuple):
    """What lies in a folder and below it; names are relative to the root."""

    images: Images
    ignored: int
    times: dict[bytes, int]  # `changed` of each folder that was entered


def join(parts: Iterable[Images]) -> Images:
    """One after the other."""
    names, tables = zip(*parts, strict=True)
    return Images(b''.join(names), np.concatenate(tables))


def listing(folder: bytes) -> Listing:
    """What lies in a folder, links followed.

    Raises:
      UserError: it cannot be read.
    """
    folders, images, ignored = [], [], 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(b'.'):
                    continue
                state = _state(entry)
                mode = state.st_mode if state else stat.S_IFREG  # a broken link stands for a file
                if state and stat.S_ISDIR(mode):
                    folders.append((entry.name, state))
                elif not stat.S_ISREG(mode) or not entry.name.lower().endswith(EXTENSIONS):
                    ignored += 1
                else:
                    images.append((entry.name, *((state.st_size, state.st_dev, state.st_ino) if state else (0, 0, 0))))
    except OSError as error:
        path = shown(os.fsencode(error.filename or folder))
        raise UserError(f'{path} cannot be read: {error.strerror}; give yourself the right to, or move it') from None
    return Listing(sorted(folders), images, ignored)


def walk(root: bytes, folder: bytes, state: os.stat_result, label: int, outside: Iterable[tuple[int, int]]) -> Walk:
    """What lies in `root/folder` and below. A folder is entered once, whatever links lead to it: any loop ends.

    Args:
      state: of the folder.
      label: of its images.
      outside: the `identity` of folders that are not entered.

    Raises:
      UserError: a folder cannot be read.
    """
    entered, waiting = set(outside), [(folder, state)]
    images, ignored, times = [], 0, {}
    while waiting:
        folder, state = waiting.pop()
        if identity(state) in entered:
            continue
        entered.add(identity(state))
        times[folder] = changed(state)
        found = listing(os.path.join(root, folder))
        waiting += [(os.path.join(folder, name), state) for name, state in reversed(found.folders)]
        images += [(os.path.join(folder, image[0]), *image[1:]) for image in found.images]
        ignored += found.ignored
    images.sort()
    rows = [(len(name), size, label, device, inode) for name, size, device, inode in images]
    return Walk(Images(b''.join(image[0] for image in images), np.array(rows, TABLE)), ignored, times)


def identity(state: os.stat_result) -> tuple[int, int]:
    """The same for the same folder, whatever its name."""
    return state.st_dev, state.st_ino


def changed(state: os.stat_result) -> int:
    """When a folder last changed, ns; -1 where that is so recent that its next change may bear the same time."""
    return -1 if abs(time.time() - state.st_mtime) < SETTLED else state.st_mtime_ns


def shown(path: bytes) -> str:
    """A path as one line of text, whatever its bytes."""
    text = path.decode(errors='backslashreplace')
    return ''.join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _state(entry: os.DirEntry) -> os.stat_result | None:
    """Of what a name leads to; None where that is nowhere."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in NOWHERE:
            return None
        raise
