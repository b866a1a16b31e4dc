"""The official archives of CIFAR-10 and CIFAR-100, in the binary version: nothing in them is ever executed."""

import hashlib
import http.client
import tarfile
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.progress import Progress

SHAPE = (32, 32, 3)
PIXELS = 3 * 32 * 32
CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """Where it comes from, and what is read of it. `names`: label -> the member that lists its classes, in the order
    in which the labels stand before the pixels of an example."""

    url: str
    sha256: str
    size: int  # bytes
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: dict[str, str]
    classes: dict[str, int]


# Address, SHA-256 and size: `url_checksums` of tensorflow_datasets 4.9.10.
ARCHIVES = {
    'cifar10': Archive(
        url='https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
        sha256='c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
        size=170_052_171,
        train=tuple(f'cifar-10-batches-bin/data_batch_{part}.bin' for part in range(1, 6)),
        test=('cifar-10-batches-bin/test_batch.bin',),
        names={'label': 'cifar-10-batches-bin/batches.meta.txt'},
        classes={'label': 10},
    ),
    'cifar100': Archive(
        url='https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz',
        sha256='58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec',
        size=168_513_733,
        train=('cifar-100-binary/train.bin',),
        test=('cifar-100-binary/test.bin',),
        names={
            'coarse_label': 'cifar-100-binary/coarse_label_names.txt',
            'label': 'cifar-100-binary/fine_label_names.txt',
        },
        classes={'coarse_label': 20, 'label': 100},
    ),
}


@dataclass(frozen=True, eq=False)
class Content:
    """`splits`: split -> (images, uint8 (n, 32, 32, 3); label -> numbers, uint8 (n,)). `names`: label -> classes."""

    splits: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]
    names: dict[str, list[str]]


def download(archive: Archive, path: Path, progress: Progress) -> None:
    """Fetches an archive into a file.

    Raises:
      UserError: it cannot be reached, or breaks off.
    """
    done = 0
    try:
        with urllib.request.urlopen(archive.url, timeout=TIMEOUT) as response, path.open('wb') as file:
            while chunk := response.read(CHUNK):
                done += file.write(chunk)
                progress('downloading', done, archive.size)
                if done > archive.size:
                    break  # not this archive, as its checksum will say
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f'{archive.url} cannot be downloaded: {error}; fetch it where that is possible and pass it: '
                        '--archive FILE') from None  # fmt: skip


def verify(path: Path, sha256: str, url: str) -> None:
    """Refuses every file but the one with this SHA-256, before anything in it is looked at."""
    try:
        with path.open('rb') as file:
            found = hashlib.file_digest(file, 'sha256').hexdigest()
    except OSError as error:
        raise UserError(f'the archive {path} cannot be read: {error.strerror}') from None
    if found != sha256:
        raise UserError(f'{path.name} ({path.stat().st_size:,} bytes) has SHA-256 {found}, not the {sha256} of the '
                        f'official binary version; get it again: {url}')  # fmt: skip


def read(archive: Archive, path: Path) -> Content:
    """What a verified archive holds, in its own order.

    Raises:
      UserError: a file is missing, not a plain one, not made of whole examples, or a label names no class.
    """
    members = _members(path, {*archive.train, *archive.test, *archive.names.values()})
    names = {}
    for label, member in archive.names.items():
        names[label] = members[member].decode(errors='replace').split()
        if len(names[label]) != archive.classes[label]:
            raise UserError(f'{member} in {path.name} names {len(names[label])} classes, not {archive.classes[label]}')
    parts = {'train': archive.train, 'test': archive.test}
    splits = {split: _examples(archive, members, parts[split], path.name) for split in parts}
    return Content(splits, names)


def _members(path: Path, wanted: set[str]) -> dict[str, bytes]:
    """The named members alone; nothing is unpacked to disk, and no link is followed."""
    members = {}
    try:
        with tarfile.open(path, 'r:gz') as tar:
            for member in tar:
                if member.name not in wanted:
                    continue
                file = tar.extractfile(member) if member.isreg() else None
                if file is None or member.name in members:
                    raise UserError(f'{member.name} in {path.name} is not one plain file')
                members[member.name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f'{path.name} is not a whole tar.gz archive: {error}') from None
    if missing := sorted(wanted - members.keys()):
        raise UserError(f'{path.name} has no {missing[0]}')
    return members


def _examples(archive: Archive, members: dict[str, bytes], parts: tuple[str, ...], name: str):
    """An example is a byte for each label, then 32x32 red, green and blue."""
    length = len(archive.names) + PIXELS
    for part in parts:
        if not members[part] or len(members[part]) % length:
            raise UserError(f'{part} in {name} is {len(members[part])} bytes, not whole examples of {length}')
    table = np.frombuffer(b''.join(members[part] for part in parts), np.uint8).reshape(-1, length)
    labels = {label: table[:, column] for column, label in enumerate(archive.names)}
    for label, numbers in labels.items():
        if numbers.max() >= archive.classes[label]:
            raise UserError(f'a {label} in {name} is {numbers.max()}, where there are {archive.classes[label]} classes')
    channels_first = table[:, len(archive.names) :].reshape(-1, 3, 32, 32)
    return channels_first.transpose(0, 2, 3, 1), labels
