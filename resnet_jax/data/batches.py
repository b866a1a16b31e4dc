"""Batches on the host by their number: a pure function of it, whoever makes them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.data.crops import DRAWS, drawing
from resnet_jax.data.decode import cut
from resnet_jax.data.order import Plan
from resnet_jax.data.source import Example, Source, Unreadable
from resnet_jax.data.threads import parallel
from resnet_jax.data.views import unreadable, view_of
from resnet_jax.errors import UserError

TRIES = 100  # examples that may stand in for one that cannot be read, before it is said that too many cannot
CROPS = 0x63726F70  # sets the draws of crops apart from those of anything else


class Batch(NamedTuple):
    """This process's share of a batch on the host.

    Attributes:
      images: uint8 (n, h, w, c).
      labels: int32 (n,).
      inside: bool (n,): False for what only fills up: a last batch of evaluation, or one that cannot be made.
      skipped: where and why examples could not be read.
      error: why it cannot be made; empty for a good one. An exception would come out of a worker process as a
        traceback, and other processes would wait for this one's share.
    """

    images: np.ndarray
    labels: np.ndarray
    inside: np.ndarray
    skipped: tuple[str, ...]
    error: str


class Share(NamedTuple):
    """The part of every batch that a process makes: the `index`th of `count`."""

    index: int
    count: int

    def of(self, numbers: Sequence | np.ndarray) -> Sequence | np.ndarray:
        size = len(numbers) // self.count
        return numbers[self.index * size : (self.index + 1) * size]


class Batches(ABC):
    """Batches by number. Small to pickle: worker processes get a copy."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, number: int) -> Batch: ...

    @abstractmethod
    def shape(self, number: int) -> tuple[int, int, int, int]:
        """Of this process's images in a batch."""

    def unmade(self, number: int, error: str) -> Batch:
        """Stands for a batch that cannot be made."""
        images = np.zeros(self.shape(number), np.uint8)
        return Batch(images, np.zeros(len(images), np.int32), np.zeros(len(images), bool), (), error)


@dataclass(frozen=True)
class TrainingBatches(Batches):
    """The batches of the steps of a run. An example that cannot be read is stood in for by the next that can."""

    source: Source
    plan: Plan
    data: ConfigDict
    channels: int
    steps: int
    share: Share

    def __len__(self) -> int:
        return self.steps

    def shape(self, number: int) -> tuple[int, int, int, int]:
        phase = self.plan.at(number).phase
        return phase.batch // self.share.count, phase.pixels, phase.pixels, self.channels

    def __getitem__(self, number: int) -> Batch:
        indices, shape = self.plan.batch(number), self.shape(number)
        draws = np.random.RandomState([CROPS, self.plan.seed, number]).random_sample((len(indices), DRAWS))
        indices, draws = self.share.of(indices), self.share.of(draws)
        images, labels, skipped = np.empty(shape, np.uint8), np.empty(len(indices), np.int32), []
        read = partial(self._readable, shape[1])
        try:
            examples = enumerate(parallel(read, map(int, indices), self.source.read(indices), draws))
            for at, (found, failed) in examples:
                images[at], labels[at] = found
                skipped += failed
        except UserError as error:
            return self.unmade(number, str(error))
        return Batch(images, labels, np.ones(len(labels), bool), tuple(skipped), '')

    def _readable(self, pixels: int, index: int, example: Example | Unreadable, draws: np.ndarray):
        """Pixels and label of an example, or of the first after it that can be read; and what could not be."""
        failed = []
        for _ in range(TRIES):
            found = self._taken(example, draws, pixels)
            if not isinstance(found, Unreadable):
                return found, failed
            failed.append(unreadable(self.source, index, found, self.data.corrupt))
            index = (index + 1) % len(self.source)
            example = self.source.read([index])[0]
        raise UserError(f'{TRIES} images one after the other cannot be read; the last: {failed[-1]}')

    def _taken(self, example: Example | Unreadable, draws: np.ndarray, pixels: int):
        shape = (pixels, pixels, self.channels)
        if self.data.crop == 'view':
            return view_of(example, shape, self.data.crop_fraction, self.source.shape)
        if isinstance(example, Unreadable):
            return example
        encoded, label = example
        try:
            choose = partial(drawing(self.data, pixels), draws)
            return cut(encoded, choose, pixels, self.channels, exact=self.data.decode == 'exact'), label
        except ValueError as error:
            return Unreadable(str(error))


@dataclass(frozen=True)
class EvaluationBatches(Batches):
    """A split in its order, every example once: the last batch is filled up, and its mask says with how many."""

    source: Source
    data: ConfigDict
    image: tuple[int, int, int]
    batch: int
    share: Share

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch)

    def shape(self, number: int) -> tuple[int, int, int, int]:
        return self.batch // self.share.count, *self.image

    def __getitem__(self, number: int) -> Batch:
        indices = self.share.of(range(number * self.batch, (number + 1) * self.batch))
        there = [index for index in indices if index < len(self.source)]
        images, labels = np.zeros(self.shape(number), np.uint8), np.zeros(len(indices), np.int32)
        inside, skipped = np.zeros(len(indices), bool), []
        view = partial(view_of, shape=self.image, crop_fraction=self.data.crop_fraction, stored=self.source.shape)
        try:
            for at, found in enumerate(parallel(view, self.source.read(there))):
                if isinstance(found, Unreadable):
                    skipped.append(unreadable(self.source, there[at], found, self.data.corrupt))
                else:
                    images[at], labels[at] = found
                    inside[at] = True
        except UserError as error:
            return self.unmade(number, str(error))
        return Batch(images, labels, inside, tuple(skipped), '')
