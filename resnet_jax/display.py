"""Long work shown: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from resnet_jax.progress import Progress

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal
console = Console(soft_wrap=True, highlight=False)


def _bar() -> Bar:
    return Bar(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[note]}'),
        TimeElapsedColumn(), TextColumn('eta'), TimeRemainingColumn(), console=console,
    )  # fmt: skip


@contextmanager
def training(steps: int) -> Iterator[Callable[[dict], None]]:
    """A function that shows the records of a training run as they come."""
    latest: dict[str, dict] = {}
    with _counter('training', steps) as show:
        show(0, 'compiling')

        def watch(record: dict) -> None:
            if record['kind'] == 'note':
                console.print(record['text'])
                return
            if record['kind'] == 'loading':
                show(record['done'], '', record['total'], record['what'])
                return
            latest[record['kind']] = record
            if record['kind'] == 'progress':
                show(record['step'], _state(latest))

        yield watch
    if 'test' in latest:
        test = latest['test']
        console.print(
            f'step {test["step"]:,}: test error {test["error"]:.2f} % '
            f'({test["examples"] - test["correct"]} of {test["examples"]} wrong)'
        )


@contextmanager
def progress() -> Iterator[Progress]:
    """Shows whatever work reports how far it is."""
    with _counter('', None) as show:
        yield lambda what, done, total: show(done, '', total, what)


def _state(latest: dict[str, dict]) -> str:
    parts = [f'{latest["progress"]["rate"]:.3g} steps/s']
    if 'train' in latest:
        parts.append(f'loss {latest["train"]["loss"]:.3f}')
    if 'test' in latest:
        parts.append(f'test error {latest["test"]["error"]:.2f} %')
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
