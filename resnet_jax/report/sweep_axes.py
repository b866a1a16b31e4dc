"""Along what a sweep is drawn: one axis is x, the others make series; and what its runs come to at each point."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from resnet_jax.report.claims import Interval
from resnet_jax.report.figures import SERIES
from resnet_jax.report.intervals import over_seeds
from resnet_jax.report.sweep_runs import Row
from resnet_jax.sweep.grid import Value

WIDE = 20  # the factor from which positive numbers are drawn on a logarithmic axis
ABSENT = '—'  # of a run that stands nowhere on an axis that others have


class Axes(NamedTuple):
    """How the points of a grid are laid out.

    Attributes:
      x: the name of the axis that goes to the right; '' where nothing varies but the seed.
      numeric: are its values numbers?
      places: these values, from left to right.
      others: the axes that make series.
      series: their combinations.
    """

    x: str
    numeric: bool
    places: list[Value]
    others: list[str]
    series: list[tuple[Value, ...]]

    @property
    def crowded(self) -> bool:
        """Too many series to show single runs too?"""
        return len(self.series) > len(SERIES)

    def place(self, row: Row) -> Value:
        return row.at.get(self.x, ABSENT) if self.x else 'all runs'

    def serial(self, row: Row) -> tuple[Value, ...]:
        return tuple(row.at.get(name, ABSENT) for name in self.others)

    def share(self, place: Value) -> float:
        """How far to the right a place is: numbers from 0 to 1, by their logarithm where that is apt; else evenly."""
        if not self.numeric:
            return (self.places.index(place) + 0.5) / len(self.places)
        scale = math.log if spans_decades(map(float, self.places)) else float
        low, high = scale(float(self.places[0])), scale(float(self.places[-1]))
        return (scale(float(place)) - low) / (high - low)

    def label(self, serial: tuple[Value, ...]) -> str:
        """The name of a series: its values, each that is a number with its axis."""
        named = zip(self.others, serial, strict=True)
        return ', '.join(value if isinstance(value, str) else f'{name} {text(value)}' for name, value in named)


class Point(NamedTuple):
    """The runs of one place and series: one a seed.

    Attributes:
      values: of those that have one.
      mean: of these; None where there is none.
      interval: of the mean over seeds, 95 %; of one seed the claim's own; None where neither is known.
      lacking: why others have none -> how many.
    """

    serial: tuple[Value, ...]
    place: Value
    values: list[float]
    mean: float | None
    interval: Interval | None
    lacking: Counter[str]


def lay_out(rows: Sequence[Row]) -> Axes:
    """x is the numeric axis with most values, the first of several; where there is none, the first axis.

    The others make series, but for those that vary with x alone, as zipped ones do.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.at))
    values = {name: list(dict.fromkeys(row.at.get(name, ABSENT) for row in rows)) for name in names}
    varied = [name for name in names if len(values[name]) > 1]
    numeric = [name for name in varied if all(map(_is_number, values[name]))]
    x = max(numeric, key=lambda name: len(values[name])) if numeric else next(iter(varied), '')
    others = [name for name in varied if len({(row.at.get(x), row.at.get(name)) for row in rows}) > len(values[x])]
    made = Axes(x, bool(numeric), [], others, [])
    places = list(dict.fromkeys(map(made.place, rows)))
    return made._replace(
        places=sorted(places, key=float) if numeric else places, series=list(dict.fromkeys(map(made.serial, rows)))
    )


def gather(rows: Iterable[Row], axes: Axes, column: str) -> list[Point]:
    """What the runs come to in that column, series by series, from left to right; no point where there is no run."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault((axes.serial(row), axes.place(row)), []).append(row)
    keys = itertools.product(axes.series, axes.places)
    return [_point(*key, found[key], column) for key in keys if key in found]


def text(value: Value) -> str:
    """A value of an axis as figures and tables have it."""
    return f'{value:g}' if isinstance(value, float) else str(value)


def spans_decades(values: Iterable[float]) -> bool:
    """Are these positive numbers that a linear axis would crowd at its end?"""
    values = list(values)
    return bool(values) and min(values) > 0 and max(values) > WIDE * min(values)


def _point(serial: tuple[Value, ...], place: Value, rows: Sequence[Row], column: str) -> Point:
    with_value = [row for row in rows if not row.lacks(column)]
    values = [value for row in with_value if (value := row.value(column)) is not None]
    lacking = Counter(reason for row in rows if (reason := row.lacks(column)))
    if not values:
        return Point(serial, place, [], None, None, lacking)
    mean, interval = over_seeds(values)
    if len(values) == 1:
        claim = with_value[0].claims.get(column)
        interval = claim.interval if claim else interval
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return Point(serial, place, values, mean, interval if known else None, lacking)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
