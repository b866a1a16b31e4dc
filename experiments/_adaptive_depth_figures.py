"""The figures of the adaptive-depth experiment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from ml_collections import ConfigDict

from experiments._adaptive_depth_claims import cut_to, mean_size, slope
from experiments._adaptive_depth_measure import (
    METHODS,
    depths,
    error_of_fewest,
    fewest,
    gated,
    kinds,
    label,
    stochastic,
)  # fmt: skip
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import figures as style


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """Of the main network what its blocks do; of all kinds how many blocks they need."""
    group = kinds(measured)[0]
    drawn = {
        'sizes': _sizes(depths(measured)),
        'cosines': _cosines(group),
        'estimates': _estimates(group),
        'read_outs': _read_outs(group),
        'removal': _removal(group),
        'fewest': _fewest(measured, config.bound),
    }
    if cut_to(group[0], depths(measured)[0][0]):
        drawn['cut'] = _cut(measured)
    return drawn | ({'gates': _gates(gated(measured))} if gated(measured) else {})


def _band(axes: Any, x: np.ndarray, rows: np.ndarray, series: style.Series, name: str) -> None:
    """The median over seeds (first axis) and the range of all of them."""
    low, middle, high = np.quantile(rows, (0, 0.5, 1), axis=0)
    axes.fill_between(x, low, high, color=series.color, alpha=0.2, linewidth=0)
    axes.plot(x, middle, label=name, markevery=max(1, len(x) // 12), **series.line)


def _columns(name: str, x: np.ndarray, curves: dict[str, np.ndarray]) -> dict[str, np.ndarray | list[str]]:
    """One row a point of every seed's curve: what, seed's place, x, y."""
    return {
        'what': [what for what, rows in curves.items() for _ in range(rows.size)],
        'run': np.concatenate([np.repeat(np.arange(len(rows)), rows.shape[1]) + 1 for rows in curves.values()]),
        name: np.concatenate([np.tile(x[: rows.shape[1]], len(rows)) for rows in curves.values()]),
        'value': np.concatenate([rows.ravel() for rows in curves.values()]),
    }


def _stack(group: Sequence[Measured], name: str) -> np.ndarray:
    return np.stack([run[name] for run in group])


def _sizes(groups: list[list[Measured]]) -> Drawing:
    figure, ((above,), (below,)) = style.figure(2, 1)
    numbers: dict[str, list] = {'layers': [], 'seed': [], 'block': [], '‖F‖/‖h‖': [], '‖y - h‖/‖h‖': []}
    with style.style():
        for group, series in zip(groups, style.SERIES, strict=False):
            arch = group[0].arch
            places = (np.arange(arch.blocks) + 0.5) / arch.blocks
            _band(above, places, _stack(group, 'size'), series, label(group[0]))
            below.plot([arch.blocks] * len(group), [mean_size(run) for run in group], series.marker, color=series.color)
            for run in group:
                numbers['layers'] += [run.depth] * arch.blocks
                numbers['seed'] += [run.seed] * arch.blocks
                numbers['block'] += range(1, arch.blocks + 1)
                numbers['‖F‖/‖h‖'] += run['size'].tolist()
                numbers['‖y - h‖/‖h‖'] += run['change'].tolist()
        above.set(xlabel='place of the block (0: first, 1: last)', ylabel='‖F(h)‖ / ‖h‖', yscale='log')
        every = [run for group in groups for run in group]
        if len(groups) > 1 and len(every) > 2:
            value, _, intercept = slope(every)
            ends = np.array([min(run.arch.blocks for run in every), max(run.arch.blocks for run in every)])
            below.plot(ends, np.exp(intercept) * ends**value, '--', color=style.INK, linewidth=1)
            below.text(0.97, 0.93, f'slope {value:.2f}', transform=below.transAxes, ha='right', va='top')
        below.set(xlabel='blocks', ylabel='mean ‖F(h)‖ / ‖h‖', xscale='log', yscale='log')
        blocks = [group[0].arch.blocks for group in groups]
        below.set_xticks(blocks, labels=[str(each) for each in blocks])
        sizes = [np.mean([mean_size(run) for run in group]) for group in groups]
        below.set_yticks(sizes, labels=[f'{each:.2g}' for each in sizes])
        below.minorticks_off()
        figure.legend(loc='outside upper center', ncols=3)
    return Drawing(
        figure,
        'How much each block adds: the size of its residual branch by that of its input, mean over held-out images. '
        'Above by place in the network (median and range over seeds); below the mean over the blocks that keep the '
        'shape, a point a network, and the power law through them.',
        numbers,
    )


def _by_block(group: Sequence[Measured], curves: dict[str, np.ndarray], ylabel: str, caption: str) -> Drawing:
    figure, ((axes,),) = style.figure(1, 1)
    x = np.arange(1, group[0].arch.blocks + 1)
    with style.style():
        for (name, rows), series in zip(curves.items(), style.SERIES, strict=False):
            _band(axes, x, rows, series, name)
        _stages(axes, group[0])
        axes.axhline(0, color=style.INK, linewidth=0.8)
        axes.set(xlabel='block', ylabel=ylabel)
        if len(curves) > 1:
            figure.legend(loc='outside upper center', ncols=2)
    return Drawing(figure, f'{caption} Median and range over seeds; lines stand between stages.',
                   _columns('block', x, curves))  # fmt: skip


def _stages(axes: Axes, run: Measured) -> None:
    for first in run.arch.entry_blocks[1:]:
        axes.axvline(first + 0.5, color=style.MUTED, linewidth=0.8, linestyle=':')


def _cosines(group: Sequence[Measured]) -> Drawing:
    return _by_block(
        group, {label(group[0]): _stack(group, 'cosine')}, 'cosine of F(h) and ∂L/∂h',
        'Where each block steps to: the cosine of what it adds and the gradient of the loss by its input, mean over '
        'held-out images; below 0 is downhill.',
    )  # fmt: skip


def _estimates(group: Sequence[Measured]) -> Drawing:
    return _by_block(
        group, {'mean of the error': _stack(group, 'estimate_mean'), 'deviation': _stack(group, 'estimate_spread')},
        'error (sd of the stage)',
        "The error of a block's output as an estimate of its stage's output, over all features of all held-out images, "
        "in standard deviations of the stage's output.",
    )  # fmt: skip


def _read_outs(group: Sequence[Measured]) -> Drawing:
    blocks, heads = group[0].arch.blocks, group[0]['read_out_error'].size
    curves = {'linear probe': _stack(group, 'probe_error'), "network's classifier": _stack(group, 'read_out_error')}
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for (name, rows), series in zip(curves.items(), style.SERIES, strict=False):
            _band(axes, np.arange(blocks + 1)[-rows.shape[1] :], rows, series, name)
        _stages(axes, group[0])
        axes.set(xlabel='block (0: stem)', ylabel='test error (%)', ylim=(0, None))
        figure.legend(loc='outside upper center', ncols=2)
    numbers = _columns('block', np.arange(blocks + 1), {'linear probe': curves['linear probe']})
    heads_ = _columns('block', np.arange(blocks - heads + 1, blocks + 1),
                      {"network's classifier": curves["network's classifier"]})  # fmt: skip
    return Drawing(
        figure,
        "What is known behind each block: the test error of a linear probe on its features, and of the network's own "
        'classifier plugged in behind each block of the last stage. Median and range over seeds.',
        {key: np.concatenate([numbers[key], heads_[key]]) for key in numbers},
    )


def _removal(group: Sequence[Measured]) -> Drawing:
    blocks = group[0].arch.blocks
    errors = _stack(group, 'test_error')
    kept = blocks - np.arange(errors.shape[2])
    curves = {method: errors[:, number] for number, method in enumerate(METHODS)}
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for (name, rows), series in zip(curves.items(), style.SERIES, strict=False):
            _band(axes, kept, rows, series, name)
        axes.set(xlabel='blocks kept', ylabel='test error (%)', ylim=(0, 100), xlim=(blocks, 0))
        figure.legend(loc='outside upper center', ncols=3)
    return Drawing(
        figure,
        f'Blocks removed one after the other ({label(group[0])}): always the one that then costs least (greedy), by '
        'what each costs alone, by the size of what it adds. Orders are chosen on the selection split, the error is of '
        'the test split; median and range over seeds.',
        _columns('blocks kept', kept, curves),
    )


def _fewest(measured: Sequence[Measured], bound: float) -> Drawing:
    groups = kinds(measured)
    figure, ((axes,),) = style.figure(1, 1, heights=(0.9 + 0.45 * len(groups),))
    every = [(label(group[0]), run) for group in groups for run in group]
    with style.style():
        series = style.SERIES[0]
        for place, group in enumerate(groups):
            shares = [100 * fewest(run, bound) / run.arch.blocks for run in group]
            axes.plot(shares, [place] * len(group), series.marker, color=series.color, alpha=0.7)
            axes.vlines(np.median(shares), place - 0.3, place + 0.3, color=style.INK, linewidth=1.5)
        axes.set(xlabel='fewest blocks needed (% of all)', xlim=(-2, 102), yticks=range(len(groups)))
        axes.set_yticklabels([f'{label(group[0])} ({group[0].arch.blocks})'.replace(', ', '\n', 1) for group in groups])
        axes.invert_yaxis()
        axes.grid(axis='x')
    return Drawing(
        figure,
        f'The fewest blocks with which the error on the selection split is within {bound:g} point of the whole '
        "network's, by greedy removal: every seed (points) and the median (bar). In brackets: blocks in all.",
        {
            'network': [name for name, _ in every],
            'seed': [run.seed for _, run in every],
            'blocks': [run.arch.blocks for _, run in every],
            'fewest blocks': [fewest(run, bound) for _, run in every],
            'test error, whole (%)': [float(run['test_error'][0, 0]) for _, run in every],
            'test error, fewest (%)': [error_of_fewest(run, bound) for _, run in every],
        },
    )


def _cut(measured: Sequence[Measured]) -> Drawing:
    main, dropped = kinds(measured)[0], stochastic(measured)
    curves = {f'{label(main[0])}, cut': main}
    if dropped:
        curves['stochastic depth, cut'] = dropped
    trained = [group for group in depths(measured) if group[0].depth <= main[0].depth]
    columns: dict[str, list] = {'what': [], 'seed': [], 'blocks of a stage': [], 'test error (%)': []}
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for (name, group), series in zip(curves.items(), style.SERIES, strict=False):
            errors = _stack(group, 'cut_error')
            x = np.arange(1, errors.shape[1] + 1)
            _band(axes, x, errors, series, name)
            for run in group:
                _add(columns, [name] * len(x), [run.seed] * len(x), x, run['cut_error'])
        series = style.SERIES[3]
        for number, group in enumerate(trained):
            errors, x = _stack(group, 'test_error')[:, 0, 0], [group[0].arch.stage_blocks[0]] * len(group)
            axes.plot(x, errors, series.marker, color=series.color, label=None if number else 'trained at that depth')
            _add(columns, ['trained'] * len(x), [run.seed for run in group], x, errors)
        axes.set(xlabel='blocks in each stage', ylabel='test error (%)', ylim=(-2, 100))
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        'A deep network cut to the first blocks of each stage, with nothing trained again, and networks trained at '
        'that depth. Median and range over seeds.',
        columns,
    )


def _add(columns: dict[str, list], *rows) -> None:
    for column, row in zip(columns.values(), rows, strict=True):
        column.extend(row)


def _gates(groups: list[list[Measured]]) -> Drawing:
    curves = {label(group[0]): np.abs(_stack(group, 'gain')) for group in groups}
    return _by_block(
        groups[0], curves, 'size of the learned gate, |α|',
        'The learned number that multiplies each residual branch, 0 at the start of training.',
    )  # fmt: skip
