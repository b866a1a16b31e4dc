"""How things are timed here: interleaved, warmed up, medians, threads alike, with the machine said."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import jax
from rich.console import Console
from rich.table import Table

from resnet_jax.cores import cores


def interleaved(candidates: Mapping[str, Callable[[], object]], repeats: int = 7) -> dict[str, float]:
    """The median seconds of each candidate, run in turns A B C A B C … after one warm-up each.

    The first candidate is run once more a turn, as `A/A`: its ratio to itself is the noise of the machine.
    """
    first = next(iter(candidates))
    turns = {**candidates, 'A/A': candidates[first]}
    for run in candidates.values():
        wait(run())
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, run in turns.items():
            start = time.perf_counter()
            wait(run())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


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
