"""Writes datasets as TFDS stores them, as ArrayRecord and without TensorFlow: whole or not at all."""

import errno
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_jax.errors import UserError


def make(target: Path, fill: Callable[[Path], None], otherwise: str) -> bool:
    """Makes `target` = data directory / dataset / version: `fill` is given an empty directory in one of its own.

    Args:
      otherwise: what to do where it cannot be written there.

    Returns:
      Whether it is this one's: False where another process was first.

    Raises:
      UserError: it cannot be written there.
    """
    data_dir = target.parents[1]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'.{target.parent.name}-', dir=data_dir) as scratch:
            made = Path(scratch, target.name)  # not the scratch directory itself, which is closed to others
            made.mkdir()
            fill(made)
            target.parent.mkdir(exist_ok=True)
            try:
                made.rename(target)
            except OSError:
                if not target.exists():
                    raise
                return False
    except OSError as error:
        raise UserError(f'{target} cannot be written: {error.strerror or error}; {otherwise}') from None
    return True


def write_records(file: Path, records: Iterable[bytes]) -> int:
    """Writes an ArrayRecord file; returns the bytes of the records.

    Raises:
      OSError: it cannot be written.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    size = 0
    try:
        writer = ArrayRecordWriter(str(file), 'group_size:1')  # each record on its own: read at random in no time
        for record in records:
            writer.write(record)
            size += len(record)
        writer.close()
    except RuntimeError as error:  # what the writer raises, a full disk included
        raise OSError(errno.EIO, str(error)) from None
    return size


def write_description(path: Path, features: Any, splits: Mapping[str, tuple[int, Sequence[int]]], about: dict) -> None:
    """Writes what TFDS asks of a dataset of images with labels: its features and its information.

    Args:
      features: TFDS's.
      splits: bytes of the records of each, and how many records are in each of its files.
      about: `name`, `version`, and what else TFDS should know.
    """
    features.save_config(str(path))
    info = about | {
        'fileFormat': 'array_record',
        'supervisedKeys': {'tuple': {'items': [{'featureKey': 'image'}, {'featureKey': 'label'}]}},
        'splits': [
            {
                'name': split,
                'numBytes': str(size),
                'shardLengths': list(map(str, lengths)),
                'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
            }
            for split, (size, lengths) in splits.items()
        ],
    }
    (path / 'dataset_info.json').write_text(json.dumps(info, indent=2, sort_keys=True))
