"""The house style of figures, and the figures of training.

A figure is read in black and white (series differ in marker, line and hatch, not in colour alone), on a phone (a
column is 4.6 inches wide, its text 10 points) and without its caption (axes have units, series their name beside
them). Draw inside `with style():`; no global state of matplotlib is touched.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_jax.files import check_name, write_atomically

PERCENT = (0, 1, 2, 5, 10, 20, 50, 100)  # ticks
COLUMN = 4.6  # inches
ROW = 3.0
INK, MUTED, GRID = '#222222', '#6b6b6b', '#dddddd'

_STYLE: Any = {
    'font.family': 'DejaVu Sans',  # comes with matplotlib: the same glyphs everywhere
    'font.size': 10,
    'axes.labelsize': 10,
    'axes.titlesize': 10.5,
    'axes.titlelocation': 'left',
    'axes.titleweight': 'bold',
    'axes.edgecolor': MUTED,
    'axes.labelcolor': INK,
    'axes.linewidth': 0.8,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'axes.grid': True,
    'axes.grid.axis': 'y',
    'grid.color': GRID,
    'grid.linewidth': 0.7,
    'xtick.color': MUTED,
    'ytick.color': MUTED,
    'xtick.labelcolor': INK,
    'ytick.labelcolor': INK,
    'xtick.labelsize': 10,
    'ytick.labelsize': 10,
    'text.color': INK,
    'lines.linewidth': 1.6,
    'lines.markersize': 5,
    'lines.markeredgewidth': 0,
    'hatch.linewidth': 0.8,
    'legend.frameon': False,
    'legend.fontsize': 10,
    'figure.facecolor': 'white',
    'savefig.facecolor': 'white',
    'svg.fonttype': 'path',
    'svg.hashsalt': 'resnet_jax',  # the same figure is the same bytes
}


# A figure's bytes tell nothing of when and by what it was drawn.
_METADATA: dict[str, Any] = {'png': {'Software': None}, 'svg': {'Date': None, 'Creator': None}}


@dataclass(frozen=True)
class Series:
    """How one series looks: apart from the others by lightness, marker, line and hatch as well as by hue."""

    color: str
    marker: str
    linestyle: str | tuple[float, tuple[float, ...]]
    hatch: str

    @property
    def line(self) -> dict[str, object]:
        """For `axes.plot`."""
        return {'color': self.color, 'marker': self.marker, 'linestyle': self.linestyle}

    @property
    def bar(self) -> dict[str, object]:
        """For `axes.bar`."""
        return {'color': self.color, 'hatch': self.hatch, 'edgecolor': 'white', 'linewidth': 0}


SERIES = (
    Series('#1f4e79', 'o', '-', ''),
    Series('#d9772b', 's', '--', '////'),
    Series('#2a9d8f', '^', '-.', '....'),
    Series('#8c2f5c', 'D', ':', 'xxxx'),
    Series('#9a9a9a', 'v', (0, (5, 1, 1, 1, 1, 1)), '||||'),
)


def style() -> AbstractContextManager:
    """Within it, whatever is drawn has the house style."""
    return matplotlib.rc_context(_STYLE)


def figure(rows: int, columns: int, *, heights: Sequence[float] | None = None, **subplots) -> tuple[Figure, np.ndarray]:
    """An empty figure and its axes, shape (rows, columns); `heights` in inches, a row; panels side by side only
    where they must be compared so: a phone shows one column. Further arguments are those of `Figure.subplots`.
    """
    heights = [ROW] * rows if heights is None else heights
    with style():
        empty = Figure(figsize=(COLUMN * columns, sum(heights)), layout='constrained')
        return empty, empty.subplots(rows, columns, squeeze=False, height_ratios=heights, **subplots)


def percent_scale(panel: Axes, values: Sequence[float] = (0, 100)) -> None:
    """Of errors, linear up to 1 % and logarithmic above, from the tick below these values to the one above; a line at 0
    is seen whole."""
    panel.set_yscale('symlog', linthresh=1, linscale=0.5)
    low = max((tick for tick in PERCENT if tick <= min(values)), default=0)
    high = min((tick for tick in PERCENT if tick >= max(values)), default=100)
    panel.set_yticks(PERCENT, labels=[str(tick) for tick in PERCENT])
    panel.set_yticks([], minor=True)
    panel.set_ylim(low - 0.04 * (low == 0), high)


def few_ticks(axes: Axes) -> None:
    """Ticks at 1, 2 and 5 for a logarithmic y axis of few decades."""
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter('{x:g}'))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def label_lines(axes: Axes, labels: Iterable[tuple[float, str, str]]) -> None:
    """Names series at the right edge, instead of a legend: (y in data, text, colour) each, moved apart where they
    would touch. Call it when the scale and limits of the axes are final, and the figure laid out.
    """
    labels = sorted(labels, key=lambda label: label[0])
    heights = [axes.transAxes.inverted().transform(axes.transData.transform((0, y)))[1] for y, _, _ in labels]
    line_height = 13 / 72 / (axes.bbox.height / axes.figure.dpi)  # 13 points, as a share of the axes
    heights = _apart(np.clip(heights, 0, 1), line_height)
    for height, (_, text, color) in zip(heights, labels, strict=True):
        axes.annotate(text, (1, height), xycoords='axes fraction', xytext=(6, 0), textcoords='offset points',
                      color=color, va='center', annotation_clip=False)  # fmt: skip


def _apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """Rising heights pushed upwards until neighbours are a gap apart, then down again as a whole where too high."""
    steps = gap * np.arange(len(heights))
    raised = np.maximum.accumulate(heights - steps) + steps
    return np.minimum(raised, 1 - steps[::-1])


def save(drawn: Figure, directory: Path, name: str) -> Path:
    """Writes <name>.svg and <name>.png (150 dpi) into the directory; returns the SVG's path."""
    check_name('figure', name)
    _settle(drawn)
    for kind in _METADATA:
        write_atomically(directory / f'{name}.{kind}', _encode(drawn, kind))
    return directory / f'{name}.svg'


def save_png(drawn: Figure, path: Path) -> None:
    """Writes that one file, of any name."""
    _settle(drawn)
    write_atomically(path, _encode(drawn, 'png'))


def _encode(drawn: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with style():
        drawn.savefig(buffer, format=kind, dpi=150, metadata=_METADATA[kind])
    return buffer.getvalue()


def _settle(drawn: Figure) -> None:
    """Lays the figure out once, rounded: the solver's last digit differs from call to call, and the bytes with it."""
    with style():
        drawn.draw_without_rendering()
    drawn.set_layout_engine('none')
    for axes in drawn.axes:
        left, bottom, width, height = (round(value, 6) for value in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))


def save_numbers(directory: Path, name: str, columns: Mapping[str, Sequence | np.ndarray]) -> Path:
    """Writes the numbers behind the figure of that name as <name>.csv: label with unit -> values, all as long."""
    check_name('figure', name)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows(zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True))
    path = directory / f'{name}.csv'
    write_atomically(path, text.getvalue().encode())
    return path


def saliency(image: np.ndarray, salient: np.ndarray, title: str) -> Figure:
    """An image (h, w, c), of values from 0 to 1, and beside it its saliency (h, w), each on its own scale.

    The brightest hundredth of the pixels is white: one outlier would leave all others black.
    """
    with style():
        drawn, axes = figure(1, 2, heights=(COLUMN,))
        grey = image.shape[-1] == 1
        axes[0, 0].imshow(image[..., 0] if grey else image, cmap='gray', vmin=0, vmax=1)
        axes[0, 1].imshow(salient, cmap='gray', vmin=0, vmax=max(np.percentile(salient, 99), np.finfo(float).tiny))
        for panel, text in zip(axes[0], (title, '|∂ log p / ∂ pixel|'), strict=True):
            panel.set_title(text)
            panel.set_axis_off()
    return drawn


def training_curves(records: Sequence[Mapping]) -> Figure:
    """Error and loss on training batches and on the test split, and the learning rate, against the step.

    `records` are those of metrics.jsonl, of kind 'train' and 'test', in order of steps. The error's axis is linear
    up to 1 % and logarithmic above: it goes from chance to zero.
    """
    kinds = [('train', SERIES[1], 1.2), ('test', SERIES[0], 1.6)]
    with style():
        drawn, axes = figure(3, 1, heights=(2.6, 2.2, 1.2), sharex=True)
        error, loss, rate = axes[:, 0]
        for panel, key in ((error, 'error'), (loss, 'loss')):
            for kind, look, width in kinds:
                steps, values = _series(records, kind, key)
                marker = look.marker if kind == 'test' and len(steps) <= 60 else None
                panel.plot(steps, values, **look.line | {'marker': marker, 'linestyle': '-'}, linewidth=width)
        steps, values = _series(records, 'train', 'learning_rate')
        rate.plot(steps, values, color=MUTED, linewidth=1.4)

        percent_scale(error)
        if any(line.get_ydata().max(initial=0) > 0 for line in loss.lines):
            loss.set_yscale('log')
        error.set_ylabel('error (%)')
        loss.set_ylabel('loss (nats)')
        rate.set_ylabel('rate')
        rate.set_ylim(bottom=0)
        rate.set_xlabel('step')
        drawn.align_ylabels()
        drawn.draw_without_rendering()
        for panel, key in ((error, 'error'), (loss, 'loss')):
            ends = [(_series(records, kind, key)[1], kind, look.color) for kind, look, _ in kinds]
            label_lines(panel, [(values[-1], kind, color) for values, kind, color in ends if len(values)])
    return drawn


def _series(records: Sequence[Mapping], kind: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one kind of record, without those that were not finite (null in the file)."""
    chosen = [record for record in records if record['kind'] == kind]
    steps = np.array([record['step'] for record in chosen], dtype=int)
    values = np.array([record[key] for record in chosen], dtype=float)  # None becomes NaN
    return steps[np.isfinite(values)], values[np.isfinite(values)]
