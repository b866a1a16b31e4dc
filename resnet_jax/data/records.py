"""The records of a dataset in a TFDS directory, in the order they are stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.data.source import Example, Source, Unreadable, chunks
from resnet_jax.data.stored import Stored, check_files, prepare_command
from resnet_jax.errors import UserError
from resnet_jax.spec import DATASETS

BATCH = 1000  # records at once: one by one is slow


@dataclass(frozen=True)
class Features:
    """What a TFDS dataset states of its examples: the names of the image and the label, the classes in order of
    labels, and (h, w, c), or None where images are of any size."""

    image: str
    label: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int] | None
    channels: int


@dataclass(frozen=True)
class Records(Source):
    """A Source: a split of a prepared copy. `files`: with the records that each holds."""

    dataset: str
    features: Features
    files: tuple[tuple[Path, int], ...]

    def __len__(self) -> int:
        return sum(length for _, length in self.files)

    def read(self, indices: Sequence[int] | np.ndarray) -> list[Example | Unreadable]:
        try:
            return [self._parsed(record) for record in self._stored.__getitems__(list(indices))]
        except Exception:  # of whatever kind: each by itself, so that the one at fault is found
            return [self._one(int(index)) for index in indices]

    def place(self, index: int) -> str:
        ends = list(accumulate(length for _, length in self.files))
        shard = next(shard for shard, end in enumerate(ends) if index < end)
        file, length = self.files[shard]
        return f'{file}, record {index - (ends[shard] - length)}'

    @cached_property
    def labels(self) -> np.ndarray:
        """Of all examples, int32 (n,); -1 where a record cannot be read. Reads everything once."""
        found = [self.read(indices) for indices in chunks(len(self), BATCH)]
        return np.array([-1 if isinstance(each, Unreadable) else each[1] for part in found for each in part], np.int32)

    @property
    def shape(self) -> tuple[int, int, int] | None:
        return self.features.shape

    @cached_property
    def _stored(self) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        return ArrayRecordDataSource(
            [_Instruction(str(file), 0, length, length) for file, length in self.files if length]
        )

    def __getstate__(self) -> dict:
        return {name: self.__dict__[name] for name in ('dataset', 'features', 'files')}

    def _one(self, index: int) -> Example | Unreadable:
        try:
            return self._parsed(self._stored[index])
        except Exception as error:
            return Unreadable(f'cannot be read: {first_line(error)}')

    def _parsed(self, record: bytes) -> Example | Unreadable:
        """Of the raw record: what TFDS itself decodes with depends on what else is installed."""
        from tensorflow_datasets.proto import tf_example_pb2

        values = tf_example_pb2.Example.FromString(record).features.feature
        label = values[self.features.label].int64_list.value[0]
        if not 0 <= label < len(self.features.classes):
            return Unreadable(f'label {label}, where {self.dataset} has 0 to {len(self.features.classes) - 1}')
        return values[self.features.image].bytes_list.value[0], label


@dataclass(frozen=True)
class _Instruction:
    """ArrayRecord's FileInstruction, which spares it opening every file at the start."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def open_split(stored: Stored, split: str, features: Features) -> Records:
    """The records of a split.

    Raises:
      UserError: a file is missing, damaged, or holds another number of records than the dataset's information states.
    """
    check_files(stored, split)
    files = tuple(zip(stored.files(split), stored.shards[split], strict=True))
    for file, length in files:
        _check_file(file, length)
    return Records(stored.dataset, features, files)


def features(stored: Stored) -> Features:
    """What describes the dataset.

    Raises:
      UserError: it is missing, damaged, of another dataset, or not of images with one label each.
    """
    import tensorflow_datasets as tfds

    try:
        found: Any = tfds.builder_from_directory(stored.path).info.features
        image = 'image' if 'image' in found else _only(found, tfds.features.Image)
        label = 'label' if 'label' in found or stored.dataset in DATASETS else _only(found, tfds.features.ClassLabel)
        names, shape = tuple(found[label].names), found[image].shape
    except Exception as error:  # of whatever kind: features.json is missing, damaged, or of another dataset
        raise UserError(f'{stored.path} is not understood by TFDS: {first_line(error)}; prepare it anew elsewhere: '
                        f'{prepare_command(stored.dataset, Path("OTHER_DIR"))}') from None  # fmt: skip
    expected = DATASETS[stored.dataset][1] if stored.dataset in DATASETS else len(names)
    if len(names) != expected:
        raise UserError(f'{stored.path} has {len(names)} classes, where {stored.dataset} has {expected}')
    return Features(image, label, names, None if None in shape else tuple(shape), shape[2] or 3)


def _only(found: Any, kind: type) -> str:
    """The name of the one feature of a kind."""
    names = [name for name, feature in found.items() if isinstance(feature, kind)]
    if len(names) != 1:
        raise ValueError(f'it has {len(names)} features of the kind {kind.__name__}, where one is needed')
    return names[0]


def _check_file(file: Path, length: int) -> None:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(file))
        records = reader.num_records()
        reader.close()
    except RuntimeError as error:
        raise UserError(f'{file} is damaged: {first_line(error)}') from None
    if records != length:
        raise UserError(f'{file} holds {records} records, where dataset_info.json states {length}')


def first_line(error: Exception) -> str:
    return str(error).partition('\n')[0]
