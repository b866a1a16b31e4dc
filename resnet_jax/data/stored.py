"""A dataset in a TFDS directory: where it lies, what it states of itself, and how a missing one is made."""

import json
import math
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from resnet_jax import memory
from resnet_jax.errors import UserError
from resnet_jax.spec import DATASETS

SPLITS = ('train', 'test')


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
    return f'{dataset}-{tfds_split(dataset, split)}.array_record-{shard:05}-of-{shards:05}'


def tfds_split(dataset: str, split: str) -> str:
    """ImageNet's own test split has no labels: what everyone tests on is its validation split."""
    return 'validation' if (dataset, split) == ('imagenet2012', 'test') else split


def directory(data_dir: str) -> Path:
    """What `data.data_dir` means: itself, or where empty $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def find(dataset: str, root: Path) -> Stored:
    """The newest version under a TFDS directory that is stored as ArrayRecord, whole. Takes milliseconds.

    Raises:
      UserError: there is none, or files are missing; with the command that makes one.
    """
    stored = locate(dataset, root)
    for split in SPLITS:
        check_files(stored, split)
    return stored


def locate(dataset: str, root: Path) -> Stored:
    """The same, whatever of its files is there.

    Raises:
      UserError: there is none; with the command that makes one.
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
    return Stored(dataset, path, _shards(dataset, path, infos[path]))


def check_files(stored: Stored, split: str) -> None:
    """Refuses a split whose files are not all there.

    Raises:
      UserError: the first that is missing, and the command that makes the copy anew.
    """
    for file in stored.files(split):
        if not file.is_file():
            command = prepare_command(stored.dataset, stored.path.parents[1])
            raise UserError(f'{file} is missing; remove its directory, then: {command}')


def prepare_command(dataset: str, root: Path) -> str:
    """What makes a copy; the archives of ImageNet cannot be downloaded without an account."""
    where = shlex.quote(str(root))
    if dataset == 'imagenet2012':
        return f'tfds build imagenet2012 --file_format=array_record --manual_dir DIR --data_dir {where}'
    return f'resnet-jax data prepare {dataset} --data-dir {where}'


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


def _shards(dataset: str, path: Path, info: dict) -> dict[str, tuple[int, ...]]:
    names = {split: tfds_split(dataset, split) for split in SPLITS}
    try:
        lengths = {split['name']: tuple(map(int, split['shardLengths'])) for split in info['splits']}
        return {split: lengths[name] for split, name in names.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path / "dataset_info.json"} does not state the examples in each file of the splits '
                        f'{" and ".join(names.values())}: {error!r}') from None  # fmt: skip


def check_fits(stored: Stored, split: str) -> None:
    """Refuses a split whose images would not fit the memory.

    Raises:
      UserError: with what it takes and what there is.
    """
    count = stored.examples(split)
    memory.check_fits(f'the {count:,} images of the {split} split of {stored.dataset} are kept in memory',
                      count * math.prod(DATASETS[stored.dataset][0]), 'take a machine with more')  # fmt: skip
