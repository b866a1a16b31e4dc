"""A user's folder of images as a dataset: an index of its files, built once and kept."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_jax.data.hold_out import held_out
from resnet_jax.data.scan import Scan, scan
from resnet_jax.data.source import Example, Source, Unreadable
from resnet_jax.data.walk import Images, shown
from resnet_jax.errors import UserError
from resnet_jax.files import cache_folder, write_npz
from resnet_jax.progress import Progress

INDEX = 1  # version of the index as it is kept
COLUMNS = ('ends', 'sizes', 'labels')  # of Files


@dataclass(frozen=True, eq=False)
class Files(Source):
    """The image files of a split. A million take some 50 MB, in memory and pickled."""

    root: str
    names: bytes  # relative to the root, one after the other
    ends: np.ndarray  # of each name, int64 (n,)
    sizes: np.ndarray  # of each file in bytes, int64 (n,)
    labels: np.ndarray  # int32 (n,)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> None:
        return None

    def read(self, indices: Sequence[int] | np.ndarray) -> list[Example | Unreadable]:
        """Bytes and labels; a file that is not there, is empty, or is of another length than its index says is not."""
        return [self._one(int(index)) for index in indices]

    def name(self, index: int) -> bytes:
        """The path from the root on: its bytes, which need not be text."""
        return self.names[self.ends[index - 1] if index else 0 : self.ends[index]]

    def place(self, index: int) -> str:
        return shown(self._path(index))

    def _one(self, index: int) -> Example | Unreadable:
        try:
            with open(self._path(index), 'rb') as file:
                encoded = file.read()
        except OSError as error:
            return Unreadable(error.strerror)
        if len(encoded) != self.sizes[index]:
            return Unreadable(
                f'changed since it was indexed: {len(encoded):,} bytes, where there were {self.sizes[index]:,} '
                '(touch its folder to have it indexed anew)'
            )
        return (encoded, int(self.labels[index])) if encoded else Unreadable('an empty file')

    def _path(self, index: int) -> bytes:
        return os.path.join(os.fsencode(self.root), self.name(index))


@dataclass(frozen=True, eq=False)
class Folder:
    """`fingerprint`: 16 hexadecimal digits, equal where names, sizes, labels and splits of all files are."""

    classes: tuple[str, ...]
    splits: dict[str, Files]  # train, test
    fingerprint: str
    ignored: int  # files that are neither images nor hidden


def open_folder(root: Path, test_share: float, progress: Progress) -> Folder:
    """Opens `root/train/CLASS/**`, with a folder test, val or validation beside it or without, or `root/CLASS/**`.

    The index is kept in $XDG_CACHE_HOME or ~/.cache, and is good until one of the folders changes.

    Args:
      test_share: of each class what is held out for testing, where there is no folder for that: the same files
        each time, one at least, and all but one at most. Each class is drawn from on its own, so that another class
        beside it changes nothing.
      progress: hears of files while they are indexed.

    Raises:
      UserError: it cannot be read, or leaves open what the classes, the labels or the splits are.
    """
    if not 0 < test_share < 1:
        raise UserError(f'data.test_share is {test_share}; it is above 0 and below 1')
    where = os.fsencode(os.path.abspath(root))
    kept = _kept(where, test_share)
    if kept:
        return kept
    found = scan(where, progress)
    images = found.images if 'test' in found.images else _divided(where, found, test_share)
    splits = {split: _files(where, images[split]) for split in ('train', 'test')}
    _refuse_shared(images, splits)
    folder = Folder(found.classes, splits, _fingerprint(found.classes, splits), found.ignored)
    _keep(where, test_share, folder, found.times)
    return folder


def _divided(root: bytes, found: Scan, share: float) -> dict[str, Images]:
    images = found.images['train']
    counts = np.bincount(images.table['label'])
    if counts.min() < 2:
        name = found.classes[counts.argmin()]
        raise UserError(
            f'the class {name!r} of {shown(root)} has 1 image, of which none can be held out for testing; add another, '
            'or a test folder beside train/'
        )
    wanted = np.clip(np.round(share * counts).astype(int), 1, counts - 1)
    test = np.concatenate([held_out(np.zeros(n, int), held) for n, held in zip(counts, wanted.tolist(), strict=True)])
    return {'train': images.where(~test), 'test': images.where(test)}


def _files(root: bytes, images: Images) -> Files:
    ends = np.cumsum(images.table['length'], dtype=np.int64)
    sizes, labels = (np.ascontiguousarray(images.table[name]) for name in ('size', 'label'))
    return Files(os.fsdecode(root), images.names, ends, sizes, labels)


def _refuse_shared(images: dict[str, Images], splits: dict[str, Files]) -> None:
    """Refuses a file that has a name in both splits, or in two classes: one of its labels would be wrong."""
    table = np.concatenate([images[split].table for split in splits])
    of_split = np.repeat(range(len(splits)), [len(files) for files in splits.values()])
    at = np.lexsort((table['inode'], table['device']))
    one, other = at[:-1], at[1:]
    same = (table['inode'][one] > 0) & (table['inode'][one] == table['inode'][other])
    same &= table['device'][one] == table['device'][other]
    same &= (of_split[one] != of_split[other]) | (table['label'][one] != table['label'][other])
    if not same.any():
        return
    first, second = sorted((int(one[same][0]), int(other[same][0])))
    raise UserError(
        f'{_place(splits, second)} is the same file as {_place(splits, first)}, but of another split or class; remove '
        'one of them'
    )


def _place(splits: dict[str, Files], index: int) -> str:
    """Of a file, counted through all splits."""
    for files in splits.values():
        if index < len(files):
            return files.place(index)
        index -= len(files)
    raise IndexError(index)


def _fingerprint(classes: tuple[str, ...], splits: dict[str, Files]) -> str:
    digest = hashlib.sha256(json.dumps([classes, {split: len(files) for split, files in splits.items()}]).encode())
    for files in splits.values():
        for column in (files.ends.astype('<i8'), files.sizes.astype('<i8'), files.labels.astype('<i4')):
            digest.update(column.tobytes())
        digest.update(files.names)
    return digest.hexdigest()[:16]


# The index as it is kept


def _index_file(root: bytes) -> Path:
    return cache_folder() / 'folders' / f'{hashlib.sha256(os.path.realpath(root)).hexdigest()[:32]}.npz'


def _key(root: bytes, test_share: float) -> list:
    """What an index must be of, to be taken."""
    return [INDEX, os.fsdecode(os.path.realpath(root)), test_share]


def _keep(root: bytes, test_share: float, folder: Folder, times: dict[bytes, int]) -> None:
    """Where it can be kept; nothing but time is lost where it cannot."""
    file = _index_file(root)
    if -1 in times.values() or not file.is_absolute():  # relative: whose home it is, nobody knows
        return
    about = {
        'key': _key(root, test_share),
        'classes': folder.classes,
        'fingerprint': folder.fingerprint,
        'ignored': folder.ignored,
    }
    arrays = {
        'about': np.frombuffer(json.dumps(about).encode(), np.uint8),
        'folders': np.frombuffer(b'\0'.join(times), np.uint8),
        'times': np.array(list(times.values()), np.int64),
    }
    for split, files in folder.splits.items():
        arrays |= {f'{split}_names': np.frombuffer(files.names, np.uint8)}
        arrays |= {f'{split}_{column}': getattr(files, column) for column in COLUMNS}
    with contextlib.suppress(UserError):
        write_npz(file, arrays)


def _kept(root: bytes, test_share: float) -> Folder | None:
    """The index that was kept, if it is of the same and no folder has changed since."""
    try:
        with _index_file(root).open('rb') as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        about = json.loads(arrays['about'].tobytes())
        folders = arrays['folders'].tobytes().split(b'\0')
        times = [os.stat(os.path.join(root, folder)).st_mtime_ns for folder in folders]
        if about['key'] != _key(root, test_share) or times != arrays['times'].tolist():
            return None
        splits = {
            split: Files(os.fsdecode(root), arrays[f'{split}_names'].tobytes(),
                         *(arrays[f'{split}_{column}'] for column in COLUMNS))
            for split in ('train', 'test')
        }  # fmt: skip
        return Folder(tuple(about['classes']), splits, about['fingerprint'], about['ignored'])
    except Exception:  # of whatever kind: absent, damaged, of something else; it is built anew
        return None
