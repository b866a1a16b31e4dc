"""Large sets stream: batches are read, decoded and cut to size by threads or worker processes, ahead of the step.

Every batch is a pure function of its number, so that neither workers nor a resume change it: the state of a stream is
that one integer. Grain runs it.
"""

import multiprocessing
import os
import re
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from resnet_jax.data.crops import DRAWS, drawing
from resnet_jax.data.decode import cut
from resnet_jax.data.order import Plan
from resnet_jax.data.resident import Masked
from resnet_jax.data.source import Example, Source, Unreadable
from resnet_jax.data.views import check_any, unreadable, view_of
from resnet_jax.errors import UserError

TRIES = 100  # examples that may stand in for one that cannot be read, before it is said that too many cannot
AHEAD = 2  # batches on their way to the device while a step runs
CROPS = 0x63726F70  # sets the draws of crops apart from those of anything else


class Batch(NamedTuple):
    """This process's share of a batch on the host.

    Attributes:
      images: uint8 (n, h, w, c).
      labels: int32 (n,).
      inside: bool (n,): False for what only fills up a last batch of evaluation.
      skipped: where and why examples could not be read.
      error: why there is no such batch; empty for a good one.
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

    def __getitem__(self, number: int) -> Batch:
        indices, pixels = self.plan.batch(number), self.plan.at(number).phase.pixels
        draws = np.random.RandomState([CROPS, self.plan.seed, number]).random_sample((len(indices), DRAWS))
        indices, draws = self.share.of(indices), self.share.of(draws)
        images, labels = (
            np.empty((len(indices), pixels, pixels, self.channels), np.uint8),
            np.empty(len(indices), np.int32),
        )
        skipped = []
        try:
            for at, example in enumerate(self.source.read(indices)):
                found, failed = self._readable(int(indices[at]), example, draws[at], pixels)
                images[at], labels[at] = found
                skipped += failed
        except UserError as error:
            return _failed(str(error))
        return Batch(images, labels, np.ones(len(labels), bool), tuple(skipped), '')

    def _readable(self, index: int, example: Example | Unreadable, draws: np.ndarray, pixels: int):
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
    shape: tuple[int, int, int]
    batch: int
    share: Share

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch)

    def __getitem__(self, number: int) -> Batch:
        indices = self.share.of(range(number * self.batch, (number + 1) * self.batch))
        there = [index for index in indices if index < len(self.source)]
        images, labels = np.zeros((len(indices), *self.shape), np.uint8), np.zeros(len(indices), np.int32)
        inside, skipped = np.zeros(len(indices), bool), []
        try:
            for at, example in enumerate(self.source.read(there)):
                found = view_of(example, self.shape, self.data.crop_fraction, self.source.shape)
                if isinstance(found, Unreadable):
                    skipped.append(unreadable(self.source, there[at], found, self.data.corrupt))
                else:
                    images[at], labels[at] = found
                    inside[at] = True
        except UserError as error:
            return _failed(str(error))
        return Batch(images, labels, inside, tuple(skipped), '')


def _failed(error: str) -> Batch:
    """An exception would come out of a worker process as a traceback."""
    nothing = np.zeros(0, np.uint8)
    return Batch(nothing, nothing, nothing, (), error)


def stream(batches: Batches, start: int, workers: int) -> Generator[Batch, None, None]:
    """The batches from number `start` on, made ahead by threads, or by so many worker processes.

    Raises:
      UserError: a worker process was ended from outside.
    """
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain hands absl's flags to its workers
    threads = 1 if workers else os.cpu_count() or 1
    dataset = grain.MapDataset.source(batches)[start:]
    made = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1))
    if workers:
        # What its workers had made and nobody took, Python removes in the end, and would warn of that.
        sys.warnoptions.append('ignore:resource_tracker:UserWarning')
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        made = made.mp_prefetch(options, worker_init_fn=_begin_worker)
    iterator = iter(made)
    try:
        yield from iterator
    except RuntimeError as error:
        ended = re.search(r'terminated unexpectedly with (exit code -?\d+)', str(error))  # Grain's words for it
        if not ended:
            raise
        raise UserError(f'a worker process that decodes images was ended from outside ({ended[1]}); perhaps memory '
                        'ran out: set --config.run.workers to fewer, and start again to resume') from None  # fmt: skip
    finally:
        iterator.close()


def _begin_worker(worker: int, workers: int) -> None:
    """In a worker, before it works."""
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; it is the run that stops, saved
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """However the run ends: killed, it cannot end its workers."""
    run = multiprocessing.parent_process()
    if run:
        run.join()
        os._exit(0)


def placed(batches: Iterator[Batch], spread: NamedSharding) -> Generator[tuple[Masked, Batch], None, None]:
    """Each batch on the devices, spread over them, and the host's; the next ones are on their way while a step runs.

    Raises:
      UserError: a batch cannot be made; what was made before it has been given.
    """
    waiting: deque[tuple[Masked, Batch]] = deque()
    for batch in batches:
        if batch.error:
            yield from waiting
            raise UserError(batch.error)
        parts = (batch.images, batch.labels, batch.inside)
        waiting.append((Masked(*(jax.make_array_from_process_local_data(spread, part) for part in parts)), batch))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


@dataclass(frozen=True, eq=False)
class Streamed:
    """A split too large for the devices, for evaluation: decoded anew each time.

    Attributes:
      skipped: what could not be read when it was last evaluated, where and why.
    """

    split: str
    source: Source
    data: ConfigDict
    shape: tuple[int, int, int]
    whole: NamedSharding
    workers: int
    skipped: list[str] = field(default_factory=list)

    def batches(self, batch: int) -> Iterator[Masked]:
        """All examples once, `batch` at a time, rounded up to the devices; the last batch is filled up and masked."""
        batch += -batch % self.whole.num_devices
        made = EvaluationBatches(self.source, self.data, self.shape, batch, this_process())
        self.skipped.clear()
        spread = NamedSharding(self.whole.mesh, PartitionSpec('data'))
        for masked, host in placed(stream(made, 0, self.workers), spread):
            self.skipped.extend(host.skipped)
            yield masked
        check_any(len(self) - len(self.skipped), len(self))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def images(self) -> jax.Array:
        raise UserError(f'the {len(self):,} images of the {self.split} split are streamed, and this needs them in '
                        'memory; ask for fewer, or set --config.run.placement=device in training')  # fmt: skip

    labels = images


def this_process() -> Share:
    return Share(jax.process_index(), jax.process_count())
