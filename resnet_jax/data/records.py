"""The records of a dataset in a TFDS directory, in the order they are stored: images and labels, checked."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.data.decode import decode
from resnet_jax.data.stored import Stored, check_files, check_fits, prepare_command, tfds_split
from resnet_jax.data.view import decode_view
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress, silent
from resnet_jax.spec import DATASETS

BATCH = 1000  # records at once: one by one is slow
ANY_SIZE = ('imagenet2012',)  # has images of any size, of which the evaluation view is taken


def read(
    stored: Stored, split: str, crop_fraction: float, progress: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """All of a split: images, uint8 (n, h, w, c); labels, int32 (n,).

    Args:
      crop_fraction: of images of any size, as `evaluation_view` takes it.
      progress: hears of images decoded.

    Raises:
      UserError: it would not fit the memory; a file is missing, damaged or holds another number of records than the
        dataset's information states, or a record is not an image of the dataset's shape with a label of its classes;
        with the file and the record.
    """
    import tensorflow_datasets as tfds

    check_files(stored, split)
    check_fits(stored, split)
    shape, count = DATASETS[stored.dataset][0], stored.examples(split)
    for file, length in zip(stored.files(split), stored.shards[split], strict=True):
        _check_file(file, length)
    builder, _ = _builder(stored)
    # The image is taken as stored: what TFDS itself decodes with depends on what else is installed.
    raw = {'image': tfds.decode.SkipDecoding()}
    name = tfds_split(stored.dataset, split)
    source = partial(builder.as_data_source, name, decoders=raw, file_format='array_record')
    images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)
    example = partial(_example, stored, split, crop_fraction)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, count, BATCH):
            indices = range(start, min(start + BATCH, count))
            records = _records(source, stored, split, indices)
            for index, (pixels, label) in zip(indices, pool.map(example, indices, records), strict=True):
                images[index], labels[index] = pixels, label
            progress(f'decoding {split}', indices.stop, count)
    return images, labels


def classes(stored: Stored) -> tuple[str, ...]:
    """The names of the classes, in order of labels.

    Raises:
      UserError: what describes the dataset is missing, damaged, or of another dataset.
    """
    return _builder(stored)[1]


def _builder(stored: Stored) -> tuple[Any, tuple[str, ...]]:
    """TFDS's builder, and the names of the classes."""
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder_from_directory(stored.path)
        names = tuple(builder.info.features['label'].names)
    except Exception as error:  # of whatever kind: features.json is missing, damaged, or of another dataset
        raise UserError(f'{stored.path} is not understood by TFDS: {_first_line(error)}; prepare it anew elsewhere: '
                        f'{prepare_command(stored.dataset, Path("OTHER_DIR"))}') from None  # fmt: skip
    expected = DATASETS[stored.dataset][1]
    if len(names) != expected:
        raise UserError(f'{stored.path} has {len(names)} classes, where {stored.dataset} has {expected}')
    return builder, names


def _example(stored: Stored, split: str, crop_fraction: float, index: int, record: dict) -> tuple[np.ndarray, int]:
    """Pixels and label of a record."""
    shape, classes, _ = DATASETS[stored.dataset]
    try:
        if stored.dataset in ANY_SIZE:
            pixels = decode_view(record['image'], shape, crop_fraction)
        else:
            pixels = decode(record['image'])
        label = int(record['label'])
        if pixels.shape != shape:
            raise ValueError(f'an image of shape {pixels.shape}, where {stored.dataset} has {shape}')
        if not 0 <= label < classes:
            raise ValueError(f'label {label}, where {stored.dataset} has 0 to {classes - 1}')
    except ValueError as error:
        raise UserError(f'{_place(stored, split, index)}: {error}') from None
    return pixels, label


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
