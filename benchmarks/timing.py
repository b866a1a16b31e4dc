"""How things are timed here: interleaved, warmed up, medians, threads alike, with the machine said."""

import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from resnet_jax.cores import cores

Calls = dict[str, Callable[[], object]]
END = ''  # what a process that makes calls is asked for last
ENDING_SECONDS = 10


def interleaved(
    candidates: Mapping[str, Callable[[], object]], repeats: int = 7, *, settled: bool = False
) -> dict[str, float]:
    """The median seconds of each candidate, run in turns A B C A B C … after one warm-up each.

    The first candidate is run once more a turn, as `A/A`: its ratio to itself is the noise of the machine.

    Args:
      settled: a candidate's turn begins with a run that is not timed: then caches and memory are its own again, as
        where nothing else runs. After another one's turn memory may have to be had back from a virtual machine's host.
    """
    first = next(iter(candidates))
    turns = {**candidates, 'A/A': candidates[first]}
    for run in candidates.values():
        wait(run())
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, run in turns.items():
            if settled:
                wait(run())
            start = time.perf_counter()
            wait(run())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


@contextmanager
def apart(candidates: Mapping[str, Callable[[], Calls]]) -> Iterator[dict[str, Calls]]:
    """Calls that are run by processes of their own, one a candidate, which makes them and sleeps when not asked.

    For the CPU: processes that use JAX would not share an accelerator.
    """
    if jax.default_backend() != 'cpu':
        sys.exit('this benchmark is for a CPU (JAX_PLATFORMS=cpu); on a GPU: ./launch.sh bench gpu')
    fresh, asking = multiprocessing.get_context('spawn'), {}
    for who, make in candidates.items():
        pipe, theirs = fresh.Pipe()
        asking[who] = fresh.Process(target=_serve, args=(make, theirs), name=who, daemon=True), pipe
        asking[who][0].start()
        theirs.close()
    try:
        yield {who: {what: partial(_ask, *each, what) for what in _ask(*each)} for who, each in asking.items()}
        for process, pipe in asking.values():
            pipe.send(END)
            process.join(ENDING_SECONDS)
    finally:
        for process, _ in asking.values():
            process.terminate()
            process.join()


def _serve(make: Callable[[], Calls], asked: Connection) -> None:
    """In a process of its own: makes calls, says which, and runs each that is asked for."""
    calls = make()
    asked.send(list(calls))
    for what in iter(asked.recv, END):
        wait(calls[what]())
        asked.send(None)


def _ask(process: Any, pipe: Connection, what: str = '') -> Any:
    """Has a call run; or is told which there are."""
    try:
        if what:
            pipe.send(what)
        return pipe.recv()
    except (EOFError, OSError):
        process.join()
        sys.exit(f'the process of {process.name} has ended (exit code {process.exitcode})')


def wait(made: object) -> None:
    """Until it is there: calls give arrays of JAX that are still being made, or nothing."""
    jax.block_until_ready(made)


def show(title: str, columns: tuple[str, ...], rows: list[tuple], how: str = 'medians of interleaved runs') -> None:
    """Prints a table, and under it the machine, the versions and how it was timed."""
    table = Table(*columns, title=title, title_justify='left', box=None)
    for column in table.columns[1:]:
        column.justify = 'right'
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(width=120)
    console.print(table)
    tunables = 'on' if 'hugetlb=1' in os.environ.get('GLIBC_TUNABLES', '') else 'off'
    console.print(
        f'{len(cores())} cores, {jax.devices()[0].device_kind}, {platform.platform()}, jax {jax.__version__}, '
        f'huge pages {tunables}; {how}\n'
    )


def milliseconds(seconds: float) -> str:
    return f'{1000 * seconds:,.0f} ms'
