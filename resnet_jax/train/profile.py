"""`train --profile`: what the devices do with the time of some training steps."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import jax

SECONDS = 3.0  # of training that are traced


class Operation(NamedTuple):
    """Operations of one kind in the trace: of XLA on a CPU and on a TPU, kernels' on a GPU.

    Attributes:
      name: as XLA has it, without the number that tells it from others of its kind.
      times: how often one was done.
      seconds: that they took, summed over the threads or devices that did them.
    """

    name: str
    times: int
    seconds: float


@contextmanager
def tracing(folder: Path, watch: Callable[[dict], None]) -> Iterator[Callable[[dict], None]]:
    """A `watch` for `loop.train` that traces some seconds of it behind its first call, which compiles, into `folder`;
    TensorBoard's profiler and Perfetto (the .json.gz) show it."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # what Python does between calls is not asked for, and would fill the file
    trace, ends = ExitStack(), None

    def watching(record: dict) -> None:
        nonlocal ends
        watch(record)
        if record['kind'] != 'progress':
            return
        if ends is None:
            trace.enter_context(jax.profiler.trace(folder, profiler_options=options))
            ends = time.monotonic() + SECONDS
        elif time.monotonic() >= ends:
            trace.close()

    with trace:
        yield watching


def operations(folder: Path) -> list[Operation]:
    """The operations of the newest trace in `folder`, kind by kind, the longest first; none: nothing was traced."""
    traces = sorted(folder.glob('plugins/profile/*/*.xplane.pb'))
    found: dict[str, tuple[int, float]] = {}
    for plane in jax.profiler.ProfileData.from_file(str(traces[-1])).planes if traces else ():
        for line in plane.lines:
            for event in line.events:
                if any(name == 'hlo_op' for name, _ in event.stats):
                    name = re.sub(r'[.\d]+$', '', event.name)
                    times, seconds = found.get(name, (0, 0.0))
                    found[name] = times + 1, seconds + event.duration_ns / 1e9
    kinds = [Operation(name, *sums) for name, sums in found.items()]
    return sorted(kinds, key=lambda kind: kind.seconds, reverse=True)
