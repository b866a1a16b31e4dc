"""Makes a TFDS dataset of a user's folder: few large files, which a disk or a network reads faster than many small."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.data import store, stored
from resnet_jax.data.folder import Files, Folder
from resnet_jax.data.scan import THREADS
from resnet_jax.data.source import Unreadable, chunks
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress

VERSION = '1.0.0'
SHARD = 256 * 2**20  # bytes of images in a file, about
BATCH = 256  # files read at once
NAME = re.compile(r'[a-z][a-z0-9_]*')  # what TFDS finds in the names of files, and what data.dataset may be


def convert(folder: Folder, out: Path, name: str, progress: Progress) -> Path:
    """Makes the dataset `out/name/1.0.0`, whole or not at all, and returns its path.

    Its examples are those of the folder in their order, its images the bytes of the files; `filename` is the path in
    the folder.

    Args:
      progress: told how many of how many examples are written.

    Raises:
      UserError: it is there already, or cannot be written; the name, or that of a class, is none that TFDS reads; an
        image changed since it was indexed.
    """
    target = out / name / VERSION
    if not NAME.fullmatch(name):
        raise UserError(f'the name {name!r} is none that TFDS reads: small letters, digits and _, a letter first; give '
                        'another')  # fmt: skip
    for label in folder.classes:
        if label != label.strip():
            raise UserError(f'the class {label!r} has a space at an end, which TFDS would lose; rename its folder')
    taken = f'{target} exists already; give another name, or remove it'
    if target.exists():
        raise UserError(taken)
    if not store.make(target, lambda path: _write(path, name, folder, progress), 'give another directory'):
        raise UserError(taken)
    return target


def _write(path: Path, name: str, folder: Folder, progress: Progress) -> None:
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            'image': tfds.features.Image(),
            'label': tfds.features.ClassLabel(names=folder.classes),
            'filename': tfds.features.Text(),
        }
    )
    splits = {}
    for split, files in folder.splits.items():
        lengths, size, written = shards(files.sizes), 0, 0
        for shard, length in enumerate(lengths):
            examples = _examples(split, files, range(written, written + length), progress)
            file = path / stored.file_name(name, split, shard, len(lengths))
            size += store.write_records(file, map(features.serialize_example, examples))
            written += length
        splits[split] = (size, lengths)
    store.write_description(path, features, splits, {'name': name, 'version': VERSION})


def shards(sizes: np.ndarray) -> list[int]:
    """How many files of these sizes, in their order, go into each shard: none stays empty."""
    _, lengths = np.unique((np.cumsum(sizes) - sizes) // SHARD, return_counts=True)
    return lengths.tolist()


def _examples(split: str, files: Files, indices: range, progress: Progress) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(THREADS) as pool:
        for part in chunks(len(indices), BATCH):
            batch = indices[part.start : part.stop]
            found = pool.map(lambda index: files.read([index])[0], batch)
            for index, example in zip(batch, found, strict=True):
                if isinstance(example, Unreadable):
                    raise UserError(f'{files.place(index)}: {example}; mend it or move it away')
                encoded, label = example
                yield {'image': encoded, 'label': label, 'filename': files.name(index)}
            progress(f'writing {split}', batch.stop, len(files))
