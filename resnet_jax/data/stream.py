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
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import jax
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from resnet_jax.data.batches import Batch, Batches, EvaluationBatches, Share
from resnet_jax.data.resident import Masked
from resnet_jax.data.source import Source
from resnet_jax.data.views import check_any
from resnet_jax.errors import TogetherError, UserError

AHEAD = 2  # batches on their way to the device while a step runs


def stream(batches: Batches, start: int, workers: int) -> Generator[Batch, None, None]:
    """The batches from number `start` on, made ahead by threads, or by so many worker processes.

    Raises:
      UserError: a worker process was ended from outside.
    """
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain hands absl's flags to its workers
    dataset = grain.MapDataset.source(batches)[start:]
    made = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1 if workers else 2, prefetch_buffer_size=2))
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
    """Each batch on the devices, spread over them, and the host's; the next ones are on their way while a step runs."""
    waiting: deque[tuple[Masked, Batch]] = deque()
    for batch in batches:
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
      errors: why batches of it could not be made then.
    """

    split: str
    source: Source
    data: ConfigDict
    shape: tuple[int, int, int]
    whole: NamedSharding
    skipped: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def batches(self, batch: int) -> Iterator[Masked]:
        """All examples once, `batch` at a time, rounded up to the devices; the last batch is filled up and masked.

        What this process could not read is in `skipped` and `errors` then, and is to be heard by all: `check`.
        """
        batch += -batch % self.whole.num_devices
        made = EvaluationBatches(self.source, self.data, self.shape, batch, this_process())
        self.skipped.clear()
        self.errors.clear()
        spread = NamedSharding(self.whole.mesh, PartitionSpec(self.whole.mesh.axis_names))
        for masked, host in placed(stream(made, 0, 0), spread):
            self.skipped.extend(host.skipped)
            self.errors.extend(filter(None, [host.error]))
            yield masked
            if host.error and made.share.count == 1:  # else the others go on, and so does this one
                return

    def check(self, told: Sequence[Sequence[list[str]]]) -> None:
        """Takes what each process could not read, (skipped, errors).

        Raises:
          TogetherError: a batch could not be made, or nothing could be read.
        """
        for own, all_of_it in zip((self.skipped, self.errors), zip(*told, strict=True), strict=True):
            own[:] = [line for lines in all_of_it for line in lines]
        if self.errors:
            raise TogetherError(self.errors[0])
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
