"""Long work shown: a progress bar on a terminal, plain lines elsewhere."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from resnet_jax.progress import Progress

if TYPE_CHECKING:
    from resnet_jax.train.profile import Operation

MOST = 12  # kinds of operations of a trace that are shown
PLAIN_SECONDS = 10.0  # between two lines where there is no terminal
console = Console(soft_wrap=True, highlight=False)


def _bar() -> Bar:
    return Bar(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[note]}'),
        TimeElapsedColumn(), TextColumn('eta'), TimeRemainingColumn(), console=console,
    )  # fmt: skip


@contextmanager
def training(steps: int) -> Iterator[Callable[[dict], None]]:
    """A function that shows the records of a training run, or of those of several seeds, as they come."""
    latest: dict[str, list[dict]] = {}  # by their kind, those of the newest step: one a seed
    with _counter('training', steps) as show:
        show(0, 'compiling')

        def watch(record: dict) -> None:
            if record['kind'] == 'note':
                console.print(_whose(record) + record['text'])
                return
            if record['kind'] == 'diverged' and 'seed' in record:
                console.print(f'{_whose(record)}diverged at step {record["step"]:,}, and stops')
            if record['kind'] == 'layout':
                _show_layout(record)
                return
            if record['kind'] == 'loading':
                show(record['done'], '', record['total'], record['what'])
                return
            there = latest.get(record['kind'], [])
            latest[record['kind']] = [*(each for each in there if each['step'] == record['step']), record]
            if record['kind'] == 'progress':
                show(record['step'], _state(latest))

        yield watch
    for test in latest.get('test', []):
        if 'seed' not in test:
            console.print(
                f'step {test["step"]:,}: test error {test["error"]:.2f} % '
                f'({test["examples"] - test["correct"]} of {test["examples"]} wrong)'
            )


def show_seeds(numbers: Mapping[int, Mapping]) -> None:
    """What the run of each seed came to (see runtime/result.py), and the median of those that did not diverge."""
    table = Table('seed', 'test error', box=None, pad_edge=False)
    errors = {seed: each['test_error'] for seed, each in numbers.items() if each and not each['diverged']}
    for seed, each in numbers.items():
        without = 'diverged' if each else 'no result'
        table.add_row(str(seed), f'{errors[seed]:.2f} %' if seed in errors else without)
    if errors:
        table.add_row('median', f'{statistics.median(errors.values()):.2f} %')
    console.print(table)


def show_operations(folder: Path, found: 'Sequence[Operation]') -> None:
    """What took the time of a trace, and how it is opened."""
    if not found:
        console.print('nothing was traced: the run was over too soon')
        return
    whole = sum(operation.seconds for operation in found)
    table = Table('operation', box=None, pad_edge=False)
    for title in ('times', 'ms', 'share'):
        table.add_column(title, justify='right')
    for name, times, seconds in found[:MOST]:
        table.add_row(name, f'{times:,}', f'{1000 * seconds:,.1f}', f'{100 * seconds / whole:.1f} %')
    console.print(table)
    console.print(f'trace: {folder} (tensorboard --logdir, or ui.perfetto.dev with its .json.gz)')


def _whose(record: dict) -> str:
    return f'seed {record["seed"]}: ' if 'seed' in record else ''


def _show_layout(record: dict) -> None:
    """Where the arrays of a run lie, where there is more than one device."""
    devices, shape = record['mesh'].size, record['mesh'].shape
    if devices == 1:
        return
    across = f' (data {shape["data"]} x fsdp {shape["fsdp"]})' if shape['fsdp'] > 1 else ''
    console.print(f'{devices} devices{across}: a batch is spread over all, '
                  + ('parameters are cut along fsdp' if across else 'parameters are whole on each'))  # fmt: skip
    if not across:
        return
    table = Table('part', 'numbers', 'cut along fsdp', 'MB a device', box=None, pad_edge=False)
    for name, (numbers, cut, size) in record['shares'].items():
        table.add_row(name, f'{numbers:,}', f'{100 * cut / max(1, numbers):.1f} %', f'{size / 1e6:,.3f}')
    console.print(table)


@contextmanager
def progress() -> Iterator[Progress]:
    """Shows whatever work reports how far it is."""
    with _counter('', None) as show:
        yield lambda what, done, total: show(done, '', total, what)


def _state(latest: dict[str, list[dict]]) -> str:
    """In few words; of several seeds the medians."""
    parts = [f'{latest["progress"][-1]["rate"]:.3g} steps/s']
    for kind, key, text in (('train', 'loss', 'loss {:.3f}'), ('test', 'error', 'test error {:.2f} %')):
        if kind in latest:
            parts.append(text.format(statistics.median(record[key] for record in latest[kind])))
    return ', '.join(parts)


@contextmanager
def _counter(what: str, total: int | None) -> Iterator[Callable]:
    """Shows `done` of `total` with a note, on a terminal or as lines."""
    if console.is_terminal:
        with _bar() as bar:
            task = bar.add_task(what, total=total, note='', visible=False)  # until there is something to show

            def move(done: int, note: str, total: int | None = total, what: str = what) -> None:
                bar.update(task, completed=done, note=note, total=total or None, description=what, visible=True)

            yield move
        return
    start = time.monotonic()
    last = start - PLAIN_SECONDS

    def say(done: int, note: str, total: int | None = total, what: str = what) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS or done == total:
            last = now
            known = f' of {total:,}' if total else ''
            console.print(f'{what}: {done:,}{known}' + (f', {note}' if note else '') + f', {now - start:.0f} s')

    yield say
