"""A sweep on the terminal: its runs before they begin, and how they stand."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.models import counts
from resnet_jax.runtime import directory
from resnet_jax.sweep import estimate
from resnet_jax.sweep.plan import Planned
from resnet_jax.sweep.state import Directory, Status

ROWS = 40  # of runs shown one by one: beyond that those that run and failed come first
ORDER = ('running', 'failed', 'pending', 'done')


def planned(runs: Sequence[Planned], rate: float) -> Table:
    """What will be trained, and what each costs; `rate` in operations a second."""
    table = Table('run', 'parameters', 'multiply-adds', 'steps', 'time', box=None, pad_edge=False)
    for run in runs:
        arch = spec.architecture(run.config)
        table.add_row(
            run.name, f'{counts.parameters(arch):,}', f'{counts.multiply_adds(arch):,}', f'{run.config.run.steps:,}',
            duration(estimate.work(run.config) / rate),
        )  # fmt: skip
    return table


def total(runs: Sequence[Planned], rate: float, slots: int) -> str:
    seconds = sum(estimate.work(run.config) for run in runs) / rate
    return (
        f'{len(runs):,} runs, about {duration(seconds / slots)} of training with {slots} at a time; to start, '
        'compile and measure takes more'
    )


def status(sweep: Directory, statuses: Mapping[str, Status]) -> Table:
    """How the runs stand; of many, those that there is something to say of."""
    found = count(statuses)
    title = ', '.join(f'{found[state]:,} {state}' for state in reversed(ORDER) if found[state])
    table = Table('run', 'state', 'step', 'time', 'where', title=f'{sweep.name}: {title}', title_justify='left',
                  box=None, pad_edge=False)  # fmt: skip
    names = sorted(statuses, key=lambda name: ORDER.index(statuses[name].state)) if len(statuses) > ROWS else statuses
    for name in list(names)[:ROWS]:
        one = statuses[name]
        ran = (one.ended or time.time()) - one.started if one.ended or one.state == 'running' else 0.0
        table.add_row(
            name, one.state, _step(sweep, name) if one.state == 'running' else '', duration(ran) if ran else '',
            Text(f'{one.host} {one.pid}' if one.state == 'running' else one.lines[-1] if one.lines else ''),
        )  # fmt: skip
    if len(statuses) > ROWS:
        table.add_row(f'and {len(statuses) - ROWS:,} more')
    return table


def count(statuses: Mapping[str, Status]) -> Counter[str]:
    return Counter(one.state for one in statuses.values())


def settled(statuses: Mapping[str, Status]) -> set[str]:
    return {name for name, one in statuses.items() if one.state in ('done', 'failed')}


def failures(sweep: Directory, statuses: Mapping[str, Status]) -> Iterator[str]:
    """Of each run that failed, its last lines."""
    for name, one in statuses.items():
        if one.state == 'failed':
            yield f'{name} failed; {sweep.run(name) / "output.log"} ends with'
            yield from (f'  {line}' for line in one.lines)


def _step(sweep: Directory, name: str) -> str:
    """How far a run has come, of how many steps."""
    try:
        records = directory.read_metrics(sweep.run(name))
        steps = directory.read_config(sweep.run(name)).run.steps
    except UserError:  # whoever looks is not to stop for it
        return '?'
    return f'{max((record["step"] for record in records), default=0):,} of {steps:,}'


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours:,} h {minutes:02} min' if hours else f'{minutes} min {rest:02} s' if minutes else f'{rest} s'
