"""A survey as tables for the terminal."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from resnet_jax.data.survey import Extent, Survey, Surveyed

ALL = 20  # classes that are all shown
ENDS = 10  # else so many of the largest and of the smallest
NAMED = 20  # unreadable files that are named


def tables(survey: Survey) -> list[Table]:
    """The splits side by side, their classes by size, and, where there are any, the images that cannot be read."""
    unreadable = [each for part in survey.splits.values() for each in part.unreadable]
    return [_splits(survey), _classes(survey), *([_unreadable(unreadable)] if unreadable else [])]


def _splits(survey: Survey) -> Table:
    table = _table('', *survey.splits)
    columns = [_summary(part) for part in survey.splits.values()]
    for rows in zip(*columns, strict=True):
        table.add_row(rows[0][0], *(value for _, value in rows))
    return table


def _summary(part: Surveyed) -> list[tuple[str, str]]:
    largest, smallest = part.counts.max(), part.counts.min()
    return [
        ('images', f'{part.counts.sum():,}'),
        ('unreadable', f'{len(part.unreadable):,}'),
        ('MB', f'{part.size / 1e6:,.1f}'),
        ('width: least, median, most', _extent(part.widths)),
        ('height: least, median, most', _extent(part.heights)),
        ('formats', _counted(part.formats)),
        ('colour modes', _counted(part.modes)),
        ('unusual', _counted(part.traits)),
        (
            'largest class / smallest',
            f'{largest:,} / {smallest:,}' + (f' = {largest / smallest:.1f}' if smallest else ''),
        ),
        ('mean of red, green, blue', _moment(part.mean)),
        ('deviation', _moment(part.deviation)),
    ]


def _classes(survey: Survey) -> Table:
    """By size in the first split, and by name where they are equal."""
    table = _table('class', *survey.splits)
    counts = np.stack([part.counts for part in survey.splits.values()], axis=1)
    order = np.argsort(-counts[:, 0], kind='stable')
    between = len(order) - 2 * ENDS if len(order) > ALL else 0
    for rank, label in enumerate(order):
        if not between or not ENDS <= rank < ENDS + between:
            table.add_row(Text(survey.classes[label]), *(f'{count:,}' for count in counts[label]))
        elif rank == ENDS:
            table.add_row(f'… {between:,} classes between', *('' for _ in survey.splits))
    return table


def _unreadable(images: Sequence[tuple[str, str]]) -> Table:
    table = Table('unreadable', 'why', box=None, pad_edge=False)
    for place, why in images[:NAMED]:
        table.add_row(Text(place, overflow='fold'), Text(why))
    if len(images) > NAMED:
        table.add_row(f'... and {len(images) - NAMED:,} more', '')
    return table


def _table(first: str, *splits: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for split in splits:
        table.add_column(split, justify='right')
    return table


def _extent(extent: Extent | None) -> str:
    return f'{extent.smallest:,}, {extent.median:,g}, {extent.largest:,}' if extent else ''


def _counted(counter: Counter[str]) -> str:
    return ', '.join(f'{count:,} {name}' for name, count in counter.most_common())


def _moment(channels: Sequence[float] | None) -> str:
    return ' '.join(f'{value:.3f}' for value in channels) if channels else ''
