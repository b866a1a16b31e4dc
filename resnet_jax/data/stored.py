"""A dataset in a TFDS directory: where it lies, what it states of itself, and how a missing one is made."""

import difflib
import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from resnet_jax.errors import UserError
from resnet_jax.spec import DATASETS

SPLITS = ('train', 'test')
# Sets that `data prepare` makes; imagenet2012's own test split has no labels.
OWN_ARCHIVES = ('cifar10', 'cifar100')
TESTED_ON = {'imagenet2012': ('validation',)}


@dataclass(frozen=True)
class Stored:
    """A prepared copy, `path` = data directory / dataset / version.

    Attributes:
      shards: examples in each file of each split.
      names: what TFDS calls each split.
    """

    dataset: str
    path: Path
    shards: dict[str, tuple[int, ...]]
    names: dict[str, str]

    def files(self, split: str) -> list[Path]:
        shards = len(self.shards[split])
        return [self.path / file_name(self.dataset, self.names[split], shard, shards) for shard in range(shards)]

    def examples(self, split: str) -> int:
        return sum(self.shards[split])

    @property
    def fingerprint(self) -> str:
        """16 hex digits of its version and the sizes of its splits."""
        said = json.dumps([self.dataset, self.path.name, self.shards, self.names], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def file_name(dataset: str, name: str, shard: int, shards: int) -> str:
    """As TFDS names the files of its split `name`."""
    return f'{dataset}-{name}.array_record-{shard:05}-of-{shards:05}'


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
        raise UserError(f'the data directory {root} holds no {dataset}{_nearest(dataset, root)}; set '
                        '--config.data.data_dir or TFDS_DATA_DIR to one that does, or prepare it: '
                        + prepare_command(dataset, root))  # fmt: skip
    infos = {path: _info(path / 'dataset_info.json') for path in versions}
    readable = [path for path in versions if 'array_record' in _formats(infos[path])]
    if not readable:
        path = versions[-1]
        raise UserError(f'{path} is stored as {", ".join(_formats(infos[path]))}, but only ArrayRecord is read without '
                        f'TensorFlow; make another copy: {prepare_command(dataset, Path("OTHER_DIR"))}')  # fmt: skip
    path = max(readable, key=lambda path: tuple(map(int, path.name.split('.'))))
    return Stored(dataset, path, *_splits(dataset, path, infos[path]))


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
    if dataset in OWN_ARCHIVES:
        return f'resnet-jax data prepare {dataset} --data-dir {where}'
    manual = ' --manual_dir DIR' if dataset == 'imagenet2012' else ''
    return (f'tfds build {dataset} --file_format=array_record{manual} --data_dir {where} (with TensorFlow beside '
            'tensorflow-datasets, in an environment of its own)')  # fmt: skip


def _nearest(dataset: str, root: Path) -> str:
    """Of the sets that are there, and those that need no directory."""
    there = {path.parent.parent.name for path in root.glob('*/*/dataset_info.json')}
    near = difflib.get_close_matches(dataset, sorted(there | {*OWN_ARCHIVES, 'digits', 'folder', 'synthetic'}), n=1)
    return f' (the nearest name is {near[0]})' if near and near[0] != dataset else ''


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


def _splits(dataset: str, path: Path, info: dict) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Examples in each file, and TFDS's name, of the splits train and test."""
    tested_on = TESTED_ON.get(dataset, ('test', 'validation'))
    try:
        lengths = {split['name']: tuple(map(int, split['shardLengths'])) for split in info['splits']}
        # A set that states no test split gives a part of the other: `sources.opened` holds it out.
        otherwise = tested_on[0] if dataset in DATASETS else 'train'
        test = next((name for name in tested_on if name in lengths), otherwise)
        return {'train': lengths['train'], 'test': lengths[test]}, {'train': 'train', 'test': test}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path / "dataset_info.json"} does not state the examples in each file of the splits train '
                        f'and {" or ".join(tested_on)}: {error!r}') from None  # fmt: skip
