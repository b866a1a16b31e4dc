"""The figures of a sweep: what its runs come to along its axes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure

from resnet_jax.report import figures as style
from resnet_jax.report.sweep_axes import Axes, Point, spans_decades, text
from resnet_jax.report.sweep_quantities import MARKS, Quantity

ACCEPTED = '#d5e4f2'  # as in the strips of the pages
CHARACTER = 0.025  # of the panel's width
EDGE = 0.06  # left of the first number and right of the last, as a share of what is between


def lines(quantity: Quantity, axes: Axes, points: Sequence[Point]) -> Figure:
    """Means with intervals, joined along a numeric axis; every run beside them; those without a value above."""
    shown = [serial for serial in axes.series if any(_seen(point) for point in points if point.serial == serial)]
    labels = [axes.label(serial) for serial in shown] if len(axes.series) > 1 else []
    columns = max(1, 54 // (max(map(len, labels), default=0) + 7))
    figure, ((panel,),) = style.figure(1, 1, heights=(style.ROW + 0.2 * max(0, len(labels) // columns - 1),))
    looks = [_look(axes.series.index(serial)) for serial in shown]
    step = _step(axes, points, len(shown))
    with style.style():
        for number, (serial, look) in enumerate(zip(shown, looks, strict=True)):
            own = [point for point in points if point.serial == serial]
            _draw_series(panel, own, look, axes, step * (number - (len(shown) - 1) / 2), step / 2)
        _draw_marks(panel, points, dict(zip(shown, looks, strict=True)), axes)
        _dress_x(panel, axes)
        _dress_y(panel, quantity, points)
        if labels:
            figure.legend(loc='outside upper center', ncols=columns)
        figure.draw_without_rendering()  # beside a tall legend the ticks change once more
    return figure


def heat(quantity: Quantity, axes: Axes, points: Sequence[Point]) -> Figure:
    """The means of two numeric axes as a map; a place where no run has a value is crossed."""
    rows = sorted(axes.series)
    values = np.full((len(rows), len(axes.places)), np.nan)
    for point in points:
        values[rows.index(point.serial), axes.places.index(point.place)] = np.nan if point.mean is None else point.mean
    figure, ((panel,),) = style.figure(1, 1, heights=(1 + 0.32 * len(rows),))
    with style.style():
        image = panel.imshow(values, cmap='viridis_r', aspect='auto', origin='lower')
        digits = 3 if len(axes.places) <= 7 else 2
        middle = np.nanmean([np.nanmin(values), np.nanmax(values)])
        for (row, column), value in np.ndenumerate(values):
            said = '×' if np.isnan(value) else f'{value:.{digits}g}'
            color = 'white' if value > middle else style.INK
            panel.text(column, row, said, ha='center', va='center', color=color, fontsize=9)
        panel.grid(visible=False)
        panel.set(xlabel=axes.x, ylabel=axes.others[0])
        panel.set_xticks(range(len(axes.places)), labels=map(text, axes.places), rotation=30, ha='right')
        panel.set_yticks(range(len(rows)), labels=[text(value) for (value,) in rows])
        figure.colorbar(image, label=fill(quantity.label, 24))
    return figure


def is_map(axes: Axes) -> bool:
    """Two numeric axes, of so many values each that cells with numbers in them can show them."""
    numbers = all(isinstance(value, int | float) for serial in axes.series for value in serial)
    few = all(3 <= len(values) <= 12 for values in (axes.places, axes.series))
    return axes.numeric and len(axes.others) == 1 and numbers and few


def _draw_series(
    panel: Panel, points: Sequence[Point], look: style.Series, axes: Axes, shift: float, aside: float
) -> None:
    """The points of one series, moved to the right by `shift`: means, intervals and, aside, each run of several."""
    for point in points:
        place = axes.share(point.place) + shift
        if point.interval:
            panel.vlines(place, point.interval.low, point.interval.high, color=look.color, linewidth=1.2)
        if len(point.values) > 1 and not axes.crowded:
            panel.plot(
                [place + aside] * len(point.values), point.values, '.', color=look.color, alpha=0.5, markersize=5
            )
    means = {axes.share(point.place) + shift: point.mean for point in points if point.mean is not None}
    line = look.line | {'label': axes.label(points[0].serial)} | ({} if axes.numeric else {'linestyle': 'none'})
    panel.plot(list(means), list(means.values()), **line)  # pyright: ignore[reportArgumentType]


def _draw_marks(panel: Panel, points: Sequence[Point], looks: Mapping[tuple, style.Series], axes: Axes) -> None:
    """Above each place, how many runs have no value there; in the colour of their series, where they are of one."""
    for place in axes.places:
        height = 1.02
        for mark in dict.fromkeys(MARKS.values()):
            lost = {point.serial: count for point in points if point.place == place and (count := _lost(point, mark))}
            if lost:
                count, color = sum(lost.values()), looks[min(lost)].color if len(lost) == 1 else style.INK
                panel.text(axes.share(place), height, f'{count if count > 1 else ""}{mark}', color=color, weight='bold',
                           ha='center', transform=panel.get_xaxis_transform())  # fmt: skip
                height += 0.08


def _lost(point: Point, mark: str) -> int:
    return sum(point.lacking[reason] for reason in MARKS if MARKS[reason] == mark)


def _seen(point: Point) -> bool:
    return bool(point.values) or any(point.lacking[reason] for reason in MARKS)


def _look(number: int) -> style.Series:
    """Of the n-th series. Beyond the five of the house, their colours with one another's markers and lines."""
    turn, place = divmod(number, len(style.SERIES))
    color, rest = style.SERIES[place], style.SERIES[(place + turn) % len(style.SERIES)]
    return style.Series(color.color, rest.marker, rest.linestyle, rest.hatch)


def _step(axes: Axes, points: Sequence[Point], series: int) -> float:
    """From one series to the next, as a share of the panel's width: intervals must not cover one another."""
    if not axes.numeric:
        return min(0.06, 0.6 / len(axes.places) / series)
    if not any(point.interval or len(point.values) > 1 for point in points):
        return 0.0
    apart = min(after - before for before, after in itertools.pairwise(map(axes.share, axes.places)))
    return min(0.02, apart / 2 / series)


def _dress_x(panel: Panel, axes: Axes) -> None:
    """Ticks at the places, named where the names fit; the names of no numbers are slanted instead."""
    labels, shares = [text(place) for place in axes.places], [axes.share(place) for place in axes.places]
    slanted = {}
    if axes.numeric:
        kept = _that_fit(labels, shares)
        labels = [label if number in kept else '' for number, label in enumerate(labels)]
    elif sum(map(len, labels)) > 1 / CHARACTER:
        slanted = {'rotation': 30, 'ha': 'right'}
    edge = EDGE if axes.numeric else 0
    panel.set(xlabel=axes.x, xlim=(-edge, 1 + edge))
    panel.set_xticks(shares, labels=labels, **slanted)


def _that_fit(labels: Sequence[str], middles: Sequence[float]) -> list[int]:
    """The numbers of those that do not touch the one kept before; `middles` in shares of the width."""
    kept, end = [], -1.0
    for number, (label, middle) in enumerate(zip(labels, middles, strict=True)):
        half = CHARACTER * len(label) / 2
        if middle - half > end:
            kept.append(number)
            end = middle + half + CHARACTER / 2
    return kept


def _dress_y(panel: Panel, quantity: Quantity, points: Sequence[Point]) -> None:
    values = [value for point in points for value in point.values]
    panel.set_ylabel(fill(quantity.label.replace('$', r'\$'), 34))  # a dollar would begin a formula
    if quantity.unit == '%' and max(values) > 20 * max(1, min(values)):
        style.percent_scale(panel, values)
    elif quantity.unit in ('nats', 's') and spans_decades(values):
        panel.set_yscale('log')
        style.few_ticks(panel)
    else:
        panel.set_ylim(_range(quantity, points, values))
    if quantity.accept:
        low, high = panel.get_ylim()
        panel.axhspan(max(quantity.accept.low, low), min(quantity.accept.high, high), color=ACCEPTED, zorder=0)


def _range(quantity: Quantity, points: Sequence[Point], values: Sequence[float]) -> tuple[float, float]:
    """Of a linear axis: all values, and of intervals, which two seeds make huge, as much again on each side."""
    low, high = min(values), max(values)
    room = (high - low) or abs(high) / 10 or 1.0
    ends = [end for point in points if point.interval for end in (point.interval.low, point.interval.high)]
    ends = [min(max(end, low - room), high + room) for end in (*ends, low, high)]
    if quantity.accept:
        ends += [end for end in (quantity.accept.low, quantity.accept.high) if math.isfinite(end)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.05 * room
    bottom, top = min(ends) - margin, max(ends) + margin
    return (max(bottom, -margin), min(top, 100 + margin)) if quantity.unit == '%' else (bottom, top)
