"""The figures of the permutation experiment."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments._networks import names
from experiments._permutation_claims import networks
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import figures as style

# The median error (%) by τ, from each number to WIDTH above it: the paper only plots it; of the authors' raw runs.
PUBLISHED = ((0.80, 69.0), (0.85, 49.0), (0.90, 22.0), (0.95, 8.2))
WIDTH = 0.05


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The error against τ and Σ|a - b|, against the number of swaps, and of one swap in each network."""
    run, every = measured[0], networks(measured)
    drawn = {'order': _order(run), 'swaps': _swaps(run)}
    return drawn | ({'networks': _compared(every)} if len(every) > 1 else {})


def _order(run: Measured) -> Drawing:
    count = np.repeat(run['swaps'], run['error'].shape[1])
    return Drawing(
        _scatters(run),
        "Test error of each order drawn, against Kendall's τ with the trained order (1: the same) and against the sum "
        'of the distances of the swapped pairs; the thin line is the trained order. Bars: medians by τ, of these draws '
        'and of the paper (pre-activation ResNet-110 on CIFAR-10).',
        {
            'pairs swapped': count, 'τ': run['tau'].ravel(), 'Σ|a - b| (blocks)': run['distance'].ravel(),
            'test error (%)': run['error'].ravel(),
        },
    )  # fmt: skip


def _scatters(run: Measured) -> Figure:
    figure, ((left,), (right,)) = style.figure(2, 1)
    ours, theirs = style.SERIES[:2]
    with style.style():
        for axes, name, label in ((left, 'tau', "Kendall's τ"), (right, 'distance', 'Σ|a - b| (blocks)')):
            axes.plot(run[name].ravel(), run['error'].ravel(), ours.marker, color=ours.color, alpha=0.4, markersize=4)
            axes.axhline(run['intact_error'], color=style.INK, linewidth=1)
            axes.set(xlabel=label, ylabel='test error (%)', ylim=(0, 100))
        paper, here = ({'color': look.color, 'linestyle': line, 'linewidth': 3} for look, line in (
            (theirs, (0, (1, 0.5))), (ours, '-'),
        ))  # fmt: skip
        for low, median in PUBLISHED:
            within = (run['tau'] >= low) & (run['tau'] < low + WIDTH)
            left.plot([low, low + WIDTH], [median] * 2, **paper)
            if within.any():
                left.plot([low, low + WIDTH], [np.median(run['error'][within])] * 2, **here)
        for label, look in (('median, paper', paper), ('median, here', here)):
            left.plot([], [], label=label, **look)
        left.set_xticks(sorted({round(edge, 2) for low, _ in PUBLISHED for edge in (low, low + WIDTH)}))
        left.invert_xaxis()
        left.legend(loc='upper left')
    return figure


def _swaps(run: Measured) -> Drawing:
    low, middle, high = np.quantile(run['error'], (0.25, 0.5, 0.75), axis=1)
    figure, ((axes,),) = style.figure(1, 1)
    look = style.SERIES[0]
    with style.style():
        axes.fill_between(run['swaps'], low, high, color=look.color, alpha=0.18, linewidth=0)
        axes.plot(run['swaps'], middle, **look.line)
        axes.axhline(run['intact_error'], color=style.INK, linewidth=1)
        axes.set(xlabel='pairs swapped (k)', ylabel='test error (%)', ylim=(0, 100), xticks=run['swaps'])
    columns = {'k': run['swaps'], 'lower quartile (%)': low, 'median (%)': middle, 'upper quartile (%)': high}
    return Drawing(
        figure, 'Test error after k swaps: the median over draws and the middle half; the line below is the trained '
        'order.', columns,
    )  # fmt: skip


def _compared(every: Sequence[Measured]) -> Drawing:
    figure, ((axes,),) = style.figure(1, 1)
    counts = np.concatenate([[0], every[0]['swaps']])
    medians = {
        name: np.concatenate([[run['intact_error']], np.median(run['error'], axis=1)])
        for name, run in zip(names(every), every, strict=True)
    }
    with style.style():
        for (name, median), look in zip(medians.items(), cycle(style.SERIES), strict=False):
            axes.plot(counts, median, label=name, **look.line)
        axes.set(xlabel='pairs swapped (k)', ylabel='median test error (%)', ylim=(0, 100), xticks=counts)
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        'Median test error after k swaps, of networks trained alike; at 0 the trained order.',
        {'k': counts} | {f'{name} (%)': median for name, median in medians.items()},
    )
