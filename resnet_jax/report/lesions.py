"""Figures of lesions, from plain arrays, and what a sweep shows of them. All errors in percent."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from resnet_jax.report import figures as style
from resnet_jax.report.findings import Array

EXPERIMENT = 'lesion'
COST = 'lesion: cost of deleting one block (percentage points)'


def single_deletions(
    blocks: np.ndarray,
    entry: np.ndarray,
    errors: np.ndarray,
    intact: float,
    published: tuple[np.ndarray, np.ndarray, str] | None,
) -> Figure:
    """The error after deleting each block alone.

    Args:
      blocks: (lesions,) numbers; entry: (lesions,) does it enter a stage?; errors: (lesions,).
      intact: the error with all blocks.
      published: numbers of blocks, errors and a label, of a curve to draw beside it.
    """
    figure, ((axes,),) = style.figure(1, 1)
    inner, entering = style.SERIES[:2]
    with style.style():
        for which, series, label in ((~entry, inner, 'other blocks'), (entry, entering, 'entry blocks')):
            if which.any():
                axes.bar(blocks[which], errors[which], label=label, **series.bar)
        highest = errors.max()
        if published is not None:
            places, values, label = published
            axes.plot(places, values, label=label, **style.SERIES[3].line, linewidth=1, markersize=3)
            highest = max(highest, values.max())
        axes.axhline(intact, color=style.INK, linewidth=1, label=f'intact: {intact:.2f} %')
        axes.set(xlabel='deleted block', ylabel='test error (%)', xlim=(0, blocks.max() + 1))
        axes.set_ylim(0, min(100, 1.1 * highest + 1))
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def many_deletions(counts: np.ndarray, draws: dict[str, np.ndarray], intact: float) -> Figure:
    """The error against the number of deleted blocks: median, middle half and every draw.

    Args:
      counts: (counts,) blocks deleted together.
      draws: label -> (counts, draws) errors.
    """
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for (label, errors), series in zip(draws.items(), style.SERIES, strict=False):
            low, middle, high = np.quantile(errors, (0.25, 0.5, 0.75), axis=1)
            axes.fill_between(counts, low, high, color=series.color, alpha=0.18, linewidth=0)
            axes.plot(counts, middle, label=label, **series.line)
            axes.plot(
                np.repeat(counts, errors.shape[1]), errors.ravel(), '.', color=series.color, alpha=0.3, markersize=4
            )
        axes.axhline(intact, color=style.INK, linewidth=1, label='intact')
        axes.set(xlabel='blocks deleted (k)', ylabel='test error (%)', ylim=(0, 100), xticks=counts)
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def each_block(series: dict[str, tuple[np.ndarray, np.ndarray]], intact: float, entries: np.ndarray) -> Figure:
    """The error after each of several things done to a block, by block.

    Args:
      series: label -> (numbers of blocks, errors), both (lesions,).
      entries: numbers of the entry blocks, which are marked.
    """
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for (label, (blocks, errors)), look in zip(series.items(), style.SERIES, strict=False):
            axes.plot(blocks, errors, label=label, **look.line, linewidth=0.8, markersize=4, alpha=0.8)
        for number in entries:
            axes.axvline(number, color=style.GRID, linewidth=3, zorder=0)
        axes.axhline(intact, color=style.INK, linewidth=1, label='intact')
        style.percent_scale(axes)
        axes.set(xlabel='block', ylabel='test error (%)')
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def pairs(numbers: np.ndarray, interaction: np.ndarray, entries: np.ndarray) -> Figure:
    """The interaction of every two blocks, as a matrix.

    Args:
      numbers: (pairs, 2) of blocks; interaction: (pairs,) in percentage points.
      entries: numbers of the entry blocks, at which stages begin. The colours end at the 98th percentile of the size
        of the other pairs'.
    """
    blocks = numbers.max()
    matrix = np.full((blocks, blocks), np.nan)
    matrix[tuple(numbers.T - 1)] = matrix[tuple(numbers.T[::-1] - 1)] = interaction
    others = np.abs(interaction[~np.isin(numbers, entries).any(axis=1)])
    limit = np.quantile(others, 0.98) if others.any() else np.abs(interaction).max(initial=1e-9)
    figure, ((axes,),) = style.figure(1, 1, heights=(3.9,))
    with style.style():
        edges = (0.5, blocks + 0.5)
        image = axes.imshow(matrix, cmap='PuOr', vmin=-limit, vmax=limit, extent=(*edges, *edges[::-1]))
        for number in entries[1:]:
            axes.axvline(number - 0.5, color=style.INK, linewidth=0.8)
            axes.axhline(number - 0.5, color=style.INK, linewidth=0.8)
        axes.grid(visible=False)
        axes.set(xlabel='deleted block', ylabel='deleted block')
        figure.colorbar(image, label='interaction (points)', extend='both')
    return figure


def worth(blocks: np.ndarray, entry: np.ndarray, values: np.ndarray, errors: np.ndarray) -> Figure:
    """Shapley values of blocks with their standard errors, in percentage points of accuracy."""
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for which, look, label in ((~entry, style.SERIES[0], 'other blocks'), (entry, style.SERIES[1], 'entry blocks')):
            if which.any():
                axes.errorbar(blocks[which], values[which], errors[which], label=label, color=look.color,
                              marker=look.marker, linestyle='none', elinewidth=1, markersize=4)  # fmt: skip
        axes.axhline(0, color=style.INK, linewidth=1)
        axes.set(xlabel='block', ylabel='Shapley value (points)')
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def networks(
    names: Sequence[str], plain: Sequence[bool], errors: Sequence[np.ndarray], intact: Sequence[float]
) -> Figure:
    """The error after each single deletion, a column a network: every block, the median, the intact network."""
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for place, (is_plain, values, base) in enumerate(zip(plain, errors, intact, strict=True)):
            series = style.SERIES[int(is_plain)]
            spread = place + np.linspace(-0.25, 0.25, len(values))
            axes.plot(spread, values, series.marker, color=series.color, alpha=0.5, markersize=4)
            axes.hlines(np.median(values), place - 0.35, place + 0.35, color=style.INK, linewidth=2)
            axes.plot(place, base, 'x', color=style.INK, markersize=8, markeredgewidth=1.5)
        axes.set(ylabel='test error (%)', ylim=(0, 100), xticks=range(len(names)))
        axes.set_xticklabels([re.sub('[-_ ]', '\n', name) for name in names])  # side by side they would overlap
    return figure


def cost(arrays: Mapping[str, Array]) -> float | None:
    """By how many points the median error after deleting one block is above the intact network's, entry blocks apart.

    What the claims are about, of plain networks too, which claim nothing. None where this was not measured.

    Args:
      arrays: of a finding; of its main run `single_right` (lesions, examples), `intact_right` (examples,) and
        `is_entry` (lesions,).
    """
    names = [f'run1.{name}' for name in ('single_right', 'intact_right', 'is_entry')]
    if not all(name in arrays for name in names):
        return None
    single, intact, entry = (arrays[name].values for name in names)
    if entry.all():
        return None
    return float(np.median(100 * (1 - single[~entry].mean(axis=1))) - 100 * (1 - intact.mean()))
