"""Figures of lesions, from plain arrays. All errors in percent."""

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from resnet_jax.report import figures as style


def single_deletions(blocks: np.ndarray, entry: np.ndarray, errors: np.ndarray, intact: float) -> Figure:
    """The error after deleting each block alone.

    Args:
      blocks: (lesions,) numbers; entry: (lesions,) does it enter a stage?; errors: (lesions,).
      intact: the error with all blocks.
    """
    figure, ((axes,),) = style.figure(1, 1)
    inner, entering = style.SERIES[:2]
    with style.style():
        for which, series, label in ((~entry, inner, 'other blocks'), (entry, entering, 'entry blocks')):
            if which.any():
                axes.bar(blocks[which], errors[which], label=label, **series.bar)
        axes.axhline(intact, color=style.INK, linewidth=1, label=f'intact: {intact:.2f} %')
        axes.set(xlabel='deleted block', ylabel='test error (%)', xlim=(0, blocks.max() + 1))
        axes.set_ylim(0, min(100, 1.1 * errors.max() + 1))
        figure.legend(loc='outside upper center', ncols=3)
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
        figure.legend(loc='outside upper center', ncols=3)
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
        axes.set_xticklabels([re.sub('[-_]', '\n', name) for name in names])  # side by side they would overlap
    return figure
