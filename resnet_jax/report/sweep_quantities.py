"""What is drawn of a sweep's runs, and what is said below each figure."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from resnet_jax.report import lesions
from resnet_jax.report.claims import Interval
from resnet_jax.report.sweep_axes import Axes, Point
from resnet_jax.report.sweep_runs import Row
from resnet_jax.report.text import span

# What stands above the figure for a run that has no value.
MARKS = {'diverged': '×', 'not finite': '×', 'failed': '!'}


class Quantity(NamedTuple):
    """What is drawn of every run.

    Attributes:
      column: of runs.csv.
      figure: the name of its files.
      name: what the axis is called.
      unit: %, nats, s; '' where the name has it.
      about: what the caption begins with.
      claimed: is it what a claim is about?
      accept: where a claim wants it, where all runs agree on that.
      as_map: its means as a map instead of lines, where the axes make one.
    """

    column: str
    figure: str
    name: str
    unit: str
    about: str
    claimed: bool = False
    accept: Interval | None = None
    as_map: bool = False

    @property
    def label(self) -> str:
        return f'{self.name} ({self.unit})' if self.unit else self.name


AUGMENTED = 'of the last training batches, as they were augmented'

ERRORS = (
    Quantity('test_error', 'test_error', 'test error', '%', 'Test error'),
    Quantity('train_error', 'train_error', 'training error', '%', f'Error {AUGMENTED}'),
    Quantity('test_error', 'test_error_map', 'test error', '%', 'Test error, as a map', as_map=True),
)
DERIVED = (
    Quantity(
        lesions.COST, 'lesion_cost', 'cost of deleting one block', 'percentage points',
        'Resilience: by how much deleting one block raises the error, as the median over blocks that enter no stage. '
        'A network that is wrong anyway has little to lose',
    ),
)  # fmt: skip
FURTHER = (
    Quantity('selection_error', 'selection_error', 'error on held-out images', '%', 'Error on held-out images'),
    Quantity('test_loss', 'test_loss', 'test loss', 'nats', 'Test loss'),
    Quantity('train_loss', 'train_loss', 'training loss', 'nats', f'Loss {AUGMENTED}'),
    Quantity('selection_loss', 'selection_loss', 'loss on held-out images', 'nats', 'Loss on held-out images'),
    Quantity('seconds', 'seconds', 'training time', 's', 'Time of training'),
)


def claimed(rows: Iterable[Row]) -> list[Quantity]:
    """What is claimed of some run, by experiment, in the order of their claims."""
    found: dict[str, Quantity] = {}
    for row in rows:
        for column, claim in row.claims.items():
            before = found.get(column)
            if before is None:
                name = _figure_name(column, {quantity.figure for quantity in found.values()})
                found[column] = Quantity(column, name, claim.quantity, '', column, True, claim.accept)
            elif before.accept != claim.accept:
                found[column] = before._replace(accept=None)
    return sorted(found.values(), key=lambda quantity: quantity.column.partition(': ')[0])


def caption(quantity: Quantity, axes: Axes, points: Sequence[Point]) -> str:
    """What the figure shows, how sure it is, and of how many runs."""
    if quantity.as_map:
        return f'{quantity.about}: the same means; ×: there is none.'
    against = f'Against {axes.x}' if axes.x else ''
    by = f', by {" and ".join(axes.others)}' if axes.others else ''
    accepted = f' Shaded: where it is accepted ({span(quantity.accept)}).' if quantity.accept else ''
    sure = _sure(quantity, axes, points)
    sure = f'{against}{by}: {sure}' if against else sure[0].upper() + sure[1:]
    return f'{quantity.about.rstrip(".")}. {sure}{accepted} {_counted(points)}'


def numbers(axes: Axes, points: Sequence[Point]) -> dict[str, list]:
    """The columns of the figure's CSV: a row a place and series; how many runs, and how many without a value."""
    columns: dict[str, list] = {
        name: [point.serial[number] for point in points] for number, name in enumerate(axes.others)
    }
    columns |= {axes.x or 'place': [point.place for point in points]}
    columns |= {'mean': [point.mean for point in points]}
    columns |= {end: [point.interval and getattr(point.interval, end) for point in points] for end in ('low', 'high')}
    columns |= {'runs': [len(point.values) for point in points]}
    reasons = dict.fromkeys(reason for point in points for reason in point.lacking)
    return columns | {reason: [point.lacking[reason] for point in points] for reason in reasons}


def _sure(quantity: Quantity, axes: Axes, points: Sequence[Point]) -> str:
    """'means over 3 seeds …', of which runs its interval is."""
    counts = {len(point.values) for point in points if point.values}
    if counts == {1}:
        return 'one seed each, ' + ('the bars are the intervals of the claims.' if quantity.claimed else 'no interval.')
    alone = ' One seed alone has ' + ('the interval of its claim.' if quantity.claimed else 'no interval.')
    several = sorted(counts - {1})
    said = str(several[0]) if len(several) == 1 else f'{several[0]} to {several[-1]}'
    dots = '' if axes.crowded else '; each run is a faint dot'
    return f'means over {said} seeds with 95 % intervals (Student’s t){dots}.{alone if 1 in counts else ""}'


def _counted(points: Sequence[Point]) -> str:
    """'27 of 30 runs; × above: 2 diverged; ! above: 1 failed.'"""
    lacking = sum((point.lacking for point in points), Counter())
    there = sum(len(point.values) for point in points)
    said = [f'{there:,} of {there + lacking.total():,} runs']
    for reason, count in lacking.items():
        said.append(f'{count:,} {reason}' + (f' ({MARKS[reason]} above)' if reason in MARKS else ''))
    return '; '.join(said) + '.'


def _figure_name(column: str, taken: set[str]) -> str:
    """A file name made of the first words of a claim's column."""
    base = re.sub(r'[^a-z0-9]+', '_', column.lower()).strip('_')[:60].rstrip('_')
    name, number = base, 1
    while name in taken:
        number += 1
        name = f'{base}_{number}'
    return name
