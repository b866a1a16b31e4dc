"""A dataset in a TFDS directory: where it lies, what its files hold, its records in the order they are stored."""

import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.data.decode import decode
from resnet_jax.errors import UserError
from resnet_jax.spec import DATASETS

SPLITS = ('train', 'test')
BATCH = 1000  # records at once: one by one is slow


@dataclass(frozen=True)
class Stored:
    """A prepared copy, `path` = data directory / dataset / version. `shards`: examples in each file of each split."""

    dataset: str
    path: Path
    shards: dict[str, tuple[int, ...]]

    def files(self, split: str) -> list[Path]:
        shards = len(self.shards[split])
        return [self.path / file_name(self.dataset, split, shard, shards) for shard in range(shards)]

    def examples(self, split: str) -> int:
        return sum(self.shards[split])


def file_name(dataset: str, split: str, shard: int, shards: int) -> str:
    """As TFDS names its files."""
    return f'{dataset}-{split}.array_record-{shard:05}-of-{shards:05}'


def directory(data_dir: str) -> Path:
    """What `data.data_dir` means: itself, or where empty $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def find(dataset: str, root: Path) -> Stored:
    """The newest version under a TFDS directory that is stored as ArrayRecord. Takes milliseconds.

    Raises:
      UserError: there is none, or files are missing; with the command that makes one.
    """
    if not root.is_dir():
        raise UserError(f'the data directory {root} does not exist; set --config.data.data_dir or TFDS_DATA_DIR to one '
                        f'that holds {dataset}, or make it: {prepare_command(dataset, root)}')  # fmt: skip
    versions = [path.parent for path in sorted((root / dataset).glob('*/dataset_info.json'))
                if re.fullmatch(r'\d+\.\d+\.\d+', path.parent.name)]  # fmt: skip
    if not versions:
        raise UserError(f'the data directory {root} holds no {dataset}; set --config.data.data_dir or TFDS_DATA_DIR to '
                        f'one that does, or prepare it: {prepare_command(dataset, root)}')  # fmt: skip
    infos = {path: _info(path / 'dataset_info.json') for path in versions}
    readable = [path for path in versions if 'array_record' in _formats(infos[path])]
    if not readable:
        path = versions[-1]
        raise UserError(f'{path} is stored as {", ".join(_formats(infos[path]))}, but only ArrayRecord is read without '
                        f'TensorFlow; make another copy: {prepare_command(dataset, Path("OTHER_DIR"))}')  # fmt: skip
    path = max(readable, key=lambda path: tuple(map(int, path.name.split('.'))))
    stored = Stored(dataset, path, _shards(path, infos[path]))
    for split in SPLITS:
        for file in stored.files(split):
            if not file.is_file():
                raise UserError(f'{file} is missing; remove its directory, then: {prepare_command(dataset, root)}')
    return stored


def prepare_command(dataset: str, root: Path) -> str:
    return f'resnet-jax data prepare {dataset} --data-dir {shlex.quote(str(root))}'


def _info(path: Path) -> dict:
    try:
        info = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {error}') from None
    if not isinstance(info, dict):
        raise UserError(f'{path} is not what TFDS writes: {str(info)[:50]}')
    return info


def _formats(info: dict) -> list[str]:
    return [info.get('fileFormat', 'tfrecord'), *info.get('alternativeFileFormats', [])]


def _shards(path: Path, info: dict) -> dict[str, tuple[int, ...]]:
    try:
        lengths = {split['name']: tuple(map(int, split['shardLengths'])) for split in info['splits']}
        return {split: lengths[split] for split in SPLITS}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path / "dataset_info.json"} does not state the examples in each file of the splits '
                        f'{" and ".join(SPLITS)}: {error!r}') from None  # fmt: skip


def read(stored: Stored, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """All of a split: images, uint8 (n, h, w, c); labels, int32 (n,); the names of the classes.

    Raises:
      UserError: a file is damaged or holds another number of records than the dataset's information states, or a
        record is not an image of the dataset's shape with a label of its classes; with the file and the record.
    """
    import tensorflow_datasets as tfds

    shape, classes, _ = DATASETS[stored.dataset]
    for file, length in zip(stored.files(split), stored.shards[split], strict=True):
        _check_file(file, length)
    try:
        builder: Any = tfds.builder_from_directory(stored.path)
        names = tuple(builder.info.features['label'].names)
    except Exception as error:  # of whatever kind: features.json is missing, damaged, or of another dataset
        raise UserError(f'{stored.path} is not understood by TFDS: {_first_line(error)}; prepare it anew elsewhere: '
                        f'{prepare_command(stored.dataset, Path("OTHER_DIR"))}') from None  # fmt: skip
    if len(names) != classes:
        raise UserError(f'{stored.path} has {len(names)} classes, where {stored.dataset} has {classes}')
    # The image is taken as stored: what TFDS itself decodes with depends on what else is installed.
    raw = {'image': tfds.decode.SkipDecoding()}
    source = partial(builder.as_data_source, split, decoders=raw, file_format='array_record')
    images = np.empty((stored.examples(split), *shape), np.uint8)
    labels = np.empty(len(images), np.int32)
    for start in range(0, len(images), BATCH):
        indices = range(start, min(start + BATCH, len(images)))
        for index, record in zip(indices, _records(source, stored, split, indices), strict=True):
            try:
                pixels, label = decode(record['image']), int(record['label'])
                if pixels.shape != shape:
                    raise ValueError(f'an image of shape {pixels.shape}, where {stored.dataset} has {shape}')
                if not 0 <= label < classes:
                    raise ValueError(f'label {label}, where {stored.dataset} has 0 to {classes - 1}')
            except ValueError as error:
                raise UserError(f'{_place(stored, split, index)}: {error}') from None
            images[index], labels[index] = pixels, label
    return images, labels, names


def _check_file(file: Path, length: int) -> None:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(file))
        records = reader.num_records()
        reader.close()
    except RuntimeError as error:
        raise UserError(f'{file} is damaged: {_first_line(error)}') from None
    if records != length:
        raise UserError(f'{file} holds {records} records, where dataset_info.json states {length}')


def _records(source: Callable, stored: Stored, split: str, indices: range) -> list[dict]:
    try:
        return source().__getitems__(indices)
    except Exception:  # of whatever kind: the record at fault is looked for, and named
        for index in indices:
            try:
                source().__getitems__([index])
            except Exception as error:
                raise UserError(f'{_place(stored, split, index)}: cannot be read: {_first_line(error)}') from None
        raise


def _place(stored: Stored, split: str, index: int) -> str:
    ends = list(accumulate(stored.shards[split]))
    shard = next(shard for shard, end in enumerate(ends) if index < end)
    first = ends[shard] - stored.shards[split][shard]
    return f'{stored.files(split)[shard]}, record {index - first}'


def _first_line(error: Exception) -> str:
    return str(error).partition('\n')[0]
