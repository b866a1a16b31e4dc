"""The figures of the identity experiment."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import figures as style

NAMES = {'residual': 'residual', 'plain': 'plain', 'plain_from_identity': 'plain, from the identity'}
DISTANCE = 'distance to the optimum (small maps)'


def settled(values: np.ndarray) -> np.ndarray:
    """What diverged has learned nothing: it counts as at the start."""
    return np.where(np.isfinite(values), values, values[..., :1])


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The distance by depth and by step, and the blocks' distance to the identity."""
    (one,) = measured
    return {
        'by_depth': Drawing(
            _by_depth(one, settled(one['error'])[..., -1], DISTANCE.replace(' (', '\n('), {'identity': 1.0}),
            f'Distance to the optimum after {one["step"][-1]:,} steps, by the number of blocks: every seed (points) '
            'and the median (line). Dotted: the identity, which is one small map away.',
            _columns(one, 'error', DISTANCE, steps=slice(-1, None)),
        ),
        'by_step': Drawing(
            _by_step(one),
            'Distance to the optimum in the course of training, for several numbers of blocks: the median over seeds '
            'and their range (band).',
            _columns(one, 'error', DISTANCE, steps=slice(None)),
        ),
        'blocks': Drawing(
            _by_depth(one, settled(one['change'])[..., -1], 'change by a block\n(lengths of its input)', {}),
            'How far the blocks of trained stacks are from the identity, mean over blocks: every seed (points) and the '
            'median (line).',
            _columns(one, 'change', 'change by a block (lengths of its input)', steps=slice(-1, None)),
        ),
    }


def _by_depth(one: Measured, values: np.ndarray, label: str, levels: dict[str, float]) -> Figure:
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for kind, series, rows in zip(one['kind'], style.SERIES, values, strict=False):
            axes.plot(one['depth'], np.median(rows, axis=1), label=NAMES[kind], **series.line)
            axes.plot(np.repeat(one['depth'], rows.shape[1]), rows.ravel(), series.marker, color=series.color,
                      alpha=0.4, markersize=3)  # fmt: skip
        for name, level in levels.items():
            axes.axhline(level, color=style.INK, linestyle=':', linewidth=1, label=name)
        axes.set(xlabel='blocks', ylabel=label, yscale='log')
        axes.set_xscale('log', base=2)
        axes.set_xticks(one['depth'], labels=map(str, one['depth']))
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def _by_step(one: Measured) -> Figure:
    """A panel a depth: the least of several blocks, the middle, the greatest."""
    chosen = sorted({min(1, len(one['depth']) - 1), len(one['depth']) // 2, len(one['depth']) - 1})
    figure, axes = style.figure(len(chosen), 1, heights=[2.2] * len(chosen), sharex=True, sharey=True)
    with style.style():
        for panel, place in zip(axes[:, 0], chosen, strict=True):
            for kind, series, values in zip(one['kind'], style.SERIES, settled(one['error'])[:, place], strict=False):
                panel.fill_between(one['step'], values.min(axis=0), values.max(axis=0), color=series.color, alpha=0.18,
                                   linewidth=0)  # fmt: skip
                label = NAMES[kind] if place == chosen[0] else None
                panel.plot(one['step'], np.median(values, axis=0), label=label, **series.line)
            panel.axhline(1, color=style.INK, linestyle=':', linewidth=1,
                          label='identity' if place == chosen[0] else None)  # fmt: skip
            panel.set(yscale='log', ylabel='distance', title=f'{one["depth"][place]} blocks')
        panel.set_xscale('symlog', linthresh=10)
        panel.set_xticks(one['step'], labels=map(str, one['step']))
        panel.set_xticks([], minor=True)
        panel.set_xlim(left=0)
        panel.set_xlabel('step')
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def _columns(one: Measured, name: str, label: str, *, steps: slice) -> dict[str, np.ndarray]:
    """Every stack and measured step, with its rate."""
    values = one[name][..., steps]
    kind, depth, seed, step = (index.ravel() for index in np.indices(values.shape))
    return {
        'stack': one['kind'][kind],
        'blocks': one['depth'][depth],
        'rate': one['rate'][kind, depth],
        'seed': seed,
        'step': one['step'][steps][step],
        label: values.ravel(),
    }
