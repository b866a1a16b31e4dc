"""The datasets: `load` gives one, each split in memory once it is asked for; `check` says at once whether it can."""

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.data import records, stored
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress, silent
from resnet_jax.spec import DATASETS

# Whatever is held out is drawn with this, never with a run's seed: all runs hold out the same examples.
HELD_OUT_SEED = 1512
DIGITS_TEST = 359  # of 1,797
WHITE = {'digits': 16}  # what a dataset stores for white, where that is not 255


@dataclass(frozen=True, eq=False)
class Split:
    images: np.ndarray  # uint8 (n, h, w, c)
    labels: np.ndarray  # int32 (n,)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What `config.data` asks for. A split is read when it is first asked for: `test` does without the training images.

    How many examples there are is what the copy itself states; that its files hold them is checked.
    """

    data: ConfigDict
    progress: Progress

    @property
    def train(self) -> Split:
        return self._training[0]

    @property
    def selection(self) -> Split:
        """The held-out part of the training examples: what is chosen is chosen on it, never on `test`."""
        return self._training[1]

    @cached_property
    def test(self) -> Split:
        return first_classes(self._read('test'), self.data.classes)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        if self.data.dataset == 'digits':
            return _digits()[2]
        return records.classes(stored.locate(self.data.dataset, stored.directory(self.data.data_dir)))

    @cached_property
    def _training(self) -> tuple[Split, Split]:
        train, selection = (
            first_classes(part, self.data.classes) for part in hold_out(self._read('train'), self.data.selection)
        )
        if self.data.examples > len(train):
            raise UserError(
                f'data.examples is {self.data.examples}, but data.classes {self.data.classes} and data.selection '
                f'{self.data.selection} leave {len(train)} training examples; ask for as many at most'
            )
        count = self.data.examples or len(train)
        return Split(train.images[:count], train.labels[:count]), selection

    def _read(self, split: str) -> Split:
        if self.data.dataset == 'digits':
            train, test, _ = _digits()
            return train if split == 'train' else test
        copy = stored.locate(self.data.dataset, stored.directory(self.data.data_dir))
        return Split(*records.read(copy, split, self.data.crop_fraction, self.progress))


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
      UserError: what is missing, and the command that prepares it; or a split does not fit the memory.
    """
    _check_selection(data)
    if data.dataset != 'digits':
        copy = stored.find(data.dataset, stored.directory(data.data_dir))
        for split in stored.SPLITS:
            stored.check_fits(copy, split)


def _check_selection(data: ConfigDict) -> None:
    _check_known(data.dataset)
    if data.dataset == 'digits':
        examples = DATASETS['digits'][2]
    else:  # as the copy states it: its training images need not be there for its test split
        examples = stored.locate(data.dataset, stored.directory(data.data_dir)).examples('train')
    if not 0 <= data.selection < examples:
        raise UserError(f'data.selection is {data.selection}; it is at least 0, below the {examples} training examples')


def describe(dataset: str, data_dir: str) -> dict:
    """What is found of a dataset: its path, examples a split, classes, image shape, files, bytes on disk.

    Raises:
      UserError: it is unknown, or not found there.
    """
    _check_known(dataset)
    shape, classes, examples = DATASETS[dataset]
    if dataset == 'digits':
        path, splits, files = 'in scikit-learn', {'train': examples, 'test': DIGITS_TEST}, []
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


def _check_known(dataset: str) -> None:
    if dataset not in DATASETS:
        nearest = difflib.get_close_matches(dataset, DATASETS, n=1, cutoff=0)[0]
        raise UserError(f'data.dataset is {dataset!r}; it is one of {", ".join(DATASETS)}; the nearest is {nearest}')


def hold_out(examples: Split, count: int) -> tuple[Split, Split]:
    """(all others, `count` examples), both in the order they came; the same ones for the same labels.

    Every class gives its share to within one example, and a smaller draw is part of every larger one.
    """
    # RandomState, not default_rng: NumPy promises its stream for good.
    permutation = np.random.RandomState(HELD_OUT_SEED).permutation(len(examples))
    labels = examples.labels[permutation]
    turn = np.empty(len(examples))  # when an example would be drawn, were all drawn: from 0 to 1, evenly in its class
    for label in np.unique(labels):
        members = labels == label
        turn[members] = (np.arange(members.sum()) + 0.5) / members.sum()
    held = np.zeros(len(examples), bool)
    held[permutation[np.argsort(turn, kind='stable')[:count]]] = True
    return (Split(examples.images[~held], examples.labels[~held]), Split(examples.images[held], examples.labels[held]))


def first_classes(examples: Split, count: int) -> Split:
    """Those of the first `count` classes alone, in their order; all of them for 0."""
    if count == 0:
        return examples
    chosen = examples.labels < count
    return Split(examples.images[chosen], examples.labels[chosen])


def _digits() -> tuple[Split, Split, tuple[str, ...]]:
    """scikit-learn's handwritten digits, (n, 8, 8, 1): counts of inked pixels, 0 to 16, left as they are."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    examples = Split(bunch.images[..., None].astype(np.uint8), bunch.target.astype(np.int32))
    train, test = hold_out(examples, DIGITS_TEST)
    return train, test, tuple(str(name) for name in bunch.target_names)
