"""The datasets: `load` gives one, `check` says at once whether it is there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.data import records, stored
from resnet_jax.data.arrays import MADE_BY, PLACES, TESTS, Split
from resnet_jax.data.hold_out import held_out
from resnet_jax.data.source import Part, Source
from resnet_jax.data.views import views
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress, silent
from resnet_jax.spec import DATASETS, PIXELS_ALREADY


@dataclass(frozen=True, eq=False)
class Dataset:
    """What `config.data` asks for. A split is read when it is first asked for: `test` does without the training images.

    How many examples there are is what the copy itself states; that its files hold them is checked.

    Attributes:
      skipped: of each split that was read, the examples that could not be, where and why; empty lists where
        `data.corrupt` is stop.
    """

    data: ConfigDict
    progress: Progress
    skipped: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def train(self) -> Split:
        return self._views('train')

    @cached_property
    def selection(self) -> Split:
        """The held-out part of the training examples: what is chosen is chosen on it, never on `test`."""
        return self._views('selection')

    @cached_property
    def test(self) -> Split:
        return self._views('test')

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Their names, in order of labels; where the head has more outputs than there are classes, of those too."""
        arrays = self.data.dataset in PIXELS_ALREADY
        names = MADE_BY[self.data.dataset](self.data)[2] if arrays else self._opened.classes
        return names + tuple(f'output {label}' for label in range(len(names), spec.outputs(self.data)))

    @property
    def fingerprint(self) -> str:
        """Of the files it is read from; empty where there are none."""
        return '' if self.data.dataset in PIXELS_ALREADY else self._opened.fingerprint

    def source(self, split: str) -> Source:
        """The encoded images of a split (train, selection or test).

        Raises:
          UserError: files are missing or damaged, or the settings leave too few examples.
        """
        whole = self._opened.split('test' if split == 'test' else 'train')
        chosen = self._chosen(split, len(whole), lambda: whole.labels)
        return whole if chosen is None else Part(whole, chosen)

    def count(self, split: str) -> int:
        """The examples of a split, without reading more than must be."""
        if self.data.dataset in PIXELS_ALREADY:
            return len(getattr(self, split))
        return len(self.source(split))

    @cached_property
    def _opened(self) -> 'Opened':
        found = opened(self.data, self.progress)
        _check_fingerprint(self.data, found.fingerprint)
        return found

    def _views(self, split: str) -> Split:
        if self.data.dataset in PIXELS_ALREADY:
            train, test, _ = MADE_BY[self.data.dataset](self.data)
            whole = test if split == 'test' else train
            chosen = self._chosen(split, len(whole), lambda: whole.labels)
            return whole if chosen is None else Split(whole.images[chosen], whole.labels[chosen])
        images, labels, self.skipped[split] = views(
            self.source(split), split, spec.image_shape(self.data), self.data.crop_fraction, self.data.corrupt,
            self.progress,
        )  # fmt: skip
        return Split(images, labels)

    def _chosen(self, split: str, count: int, labels: Callable[[], np.ndarray]) -> np.ndarray | None:
        """Which examples of a stored split, in their order; None for all. Labels are read only if they matter."""
        data, chosen = self.data, np.arange(count)
        if split != 'test' and data.selection >= count:
            raise UserError(f'data.selection is {data.selection}; it must be below the {count} training examples')
        if split != 'test' and data.selection:
            held = held_out(labels(), data.selection)
            chosen = chosen[held if split == 'selection' else ~held]
        elif split == 'selection':
            return chosen[:0]
        if data.classes:
            chosen = chosen[labels()[chosen] < data.classes]
        if split == 'train':
            if data.examples > len(chosen):
                raise UserError(
                    f'data.examples is {data.examples}, but data.classes {data.classes} and data.selection '
                    f'{data.selection} leave {len(chosen)} training examples; ask for as many at most'
                )
            chosen = chosen[: data.examples or len(chosen)]
        return None if len(chosen) == count else chosen


@dataclass(frozen=True, eq=False)
class Opened:
    """A stored dataset. `shape`: (h, w) of all images, None where they are of any size; `split`: its Source by name."""

    classes: tuple[str, ...]
    shape: tuple[int, int] | None
    channels: int
    fingerprint: str
    split: Callable[[str], Source]


def opened(data: ConfigDict, progress: Progress = silent) -> Opened:
    """The stored dataset of `config.data`.

    Raises:
      UserError: it is not there, with the command that prepares it, or not what it should be.
    """
    if data.dataset == 'folder':
        from resnet_jax.data.folder import open_folder

        folder = open_folder(folder_path(data), data.test_share, progress)
        return Opened(folder.classes, None, 3, folder.fingerprint, folder.splits.__getitem__)
    copy = stored.locate(data.dataset, stored.directory(data.data_dir))
    features = records.features(copy)
    return Opened(
        features.classes, features.shape and features.shape[:2], features.channels, copy.fingerprint,
        cache(lambda split: _stored_split(copy, split, features, data.test_share)),  # its labels are read once
    )  # fmt: skip


def _stored_split(copy: stored.Stored, split: str, features: records.Features, test_share: float) -> Source:
    """A split of a prepared copy; of one that has no test split, its part of what there is."""
    whole = records.open_split(copy, split, features)
    if copy.names['test'] != 'train':
        return whole
    held = held_out(whole.labels, round(test_share * len(whole)))
    return Part(whole, np.flatnonzero(held if split == 'test' else ~held))


def folder_path(data: ConfigDict) -> Path:
    if not data.data_dir:
        raise UserError('config.data.data_dir is empty; set it to the folder of images: --config.data.data_dir=DIR')
    return Path(data.data_dir).expanduser()


def load(data: ConfigDict, progress: Progress = silent) -> Dataset:
    """The dataset that `config.data` asks for.

    Raises:
      UserError: an unknown or missing dataset, a selection that leaves nothing to train on; when a split is asked for,
        damaged files, that it does not fit the memory, or that `data.classes` leave fewer than `data.examples`.
    """
    _check_selection(data)
    return Dataset(data.copy_and_resolve_references(), progress)


def check(data: ConfigDict) -> None:
    """Refuses, within milliseconds, what training would be refused without having read a record.

    Raises:
      UserError: what is missing, and the command that prepares it; or it is not what the run began with.
    """
    _check_selection(data)
    if data.dataset in PIXELS_ALREADY:
        return
    if data.dataset == 'folder':
        found = opened(data).fingerprint
    else:
        found = stored.find(data.dataset, stored.directory(data.data_dir)).fingerprint
    _check_fingerprint(data, found)


def _check_fingerprint(data: ConfigDict, found: str) -> None:
    if data.fingerprint not in ('', found):
        raise UserError(f'{data.dataset} is not what this run began with: files of {data.data_dir or "its directory"} '
                        'were added, removed or changed; restore them, or train anew in another --run')  # fmt: skip


def _check_selection(data: ConfigDict) -> None:
    if data.dataset == 'folder':
        return  # how many there are its index says, when it is opened
    if data.dataset in PIXELS_ALREADY:
        examples = DATASETS[data.dataset][2]
    else:  # as the copy states it: its training images need not be there for its test split
        examples = stored.locate(data.dataset, stored.directory(data.data_dir)).examples('train')
    if not 0 <= data.selection < examples:
        raise UserError(f'data.selection is {data.selection}; it is at least 0, below the {examples} training examples')


def describe(dataset: str, data_dir: str) -> dict:
    """What is found of a dataset of the list: its path, examples a split, classes, image shape, files, bytes on disk.

    Raises:
      UserError: it is not found there.
    """
    shape, classes, examples = DATASETS[dataset]
    if dataset in PIXELS_ALREADY:
        path, splits, files = PLACES[dataset], {'train': examples, 'test': TESTS[dataset]}, []
    else:
        copy = stored.find(dataset, stored.directory(data_dir))
        path, splits = str(copy.path), {split: copy.examples(split) for split in stored.SPLITS}
        files = [file for split in stored.SPLITS for file in copy.files(split)]
    return {
        'dataset': dataset,
        'path': path,
        'splits': splits,
        'classes': classes,
        'image_shape': shape,
        'files': [file.name for file in files],
        'bytes': sum(file.stat().st_size for file in files),
    }
