"""The figures of the gradient flow experiment: medians over seeds."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments._twins import Networks, has_body, networks
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import figures as style


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The gradient and its direction by block, its terms, and the responses; of what there is."""
    there = networks(measured)
    deep = dict([item for item in there.items() if has_body(item[1][0])][: len(style.SERIES)])
    drawn = {'gradient': _gradient(deep), 'cosine': _cosine(deep)}
    if decomposed := [name for name, runs in there.items() if 'gap' in runs[0].arrays]:
        drawn['terms'] = _terms(decomposed[0], there[decomposed[0]])
    if responding := {name: runs for name, runs in there.items() if 'response' in runs[0].arrays}:
        drawn['responses'] = _responses(responding)
    return drawn


def _median(runs: Sequence[Measured], name: str, checkpoint: int) -> np.ndarray:
    return np.median([run[name][checkpoint] for run in runs], axis=0)


def _ends(shown: Networks) -> list[tuple[int, str]]:
    """First and last checkpoint, with what is said of them."""
    steps = next(iter(shown.values()))[0]['step']
    return [(place, f'step {steps[place]}') for place in ((0, -1) if len(steps) > 1 else (-1,))]


def _by_block(shown: Networks, quantity: str, columns: dict, unit: str) -> tuple[Figure, np.ndarray]:
    """A panel a checkpoint, a line a network; position from the first block (0) to the last (1)."""
    ends = _ends(shown)
    figure, axes = style.figure(len(ends), 1, heights=[2.4] * len(ends), sharex=True)
    with style.style():
        for panel, (checkpoint, when) in zip(axes[:, 0], ends, strict=True):
            panel.set_title(when)
            for (name, runs), series in zip(shown.items(), style.SERIES, strict=False):
                values = _median(runs, quantity, checkpoint)
                values = values / values[-1] if quantity == 'gradient' else values
                places = np.linspace(0, 1, len(values))
                panel.plot(places, values, **series.line, markevery=max(1, len(values) // 9),
                           label=name if checkpoint == -1 else None)  # fmt: skip
                columns['network'] += [name] * len(values)
                columns['step'] += [int(runs[0]['step'][checkpoint])] * len(values)
                columns['position'] += list(places)
                columns[unit] += list(values)
        axes[-1, 0].set_xlabel('position (0: first block, 1: last)')
        figure.legend(loc='outside upper center', ncols=2)
    return figure, axes[:, 0]


def _gradient(shown: Networks) -> Drawing:
    unit = 'gradient, relative to that behind the last block'
    columns = {'network': [], 'step': [], 'position': [], unit: []}
    figure, panels = _by_block(shown, 'gradient', columns, unit)
    with style.style():
        for panel in panels:
            panel.set(yscale='log', ylabel='relative gradient')
    return Drawing(
        figure,
        'Norm of ∂loss/∂(input) by block, relative to that of what the head is given: root mean square over examples, '
        "median over seeds. At a stage's end the input has another shape, and its norm another meaning.",
        columns,
    )


def _cosine(shown: Networks) -> Drawing:
    columns = {'network': [], 'step': [], 'position': [], 'cosine': []}
    figure, panels = _by_block(shown, 'cosine', columns, 'cosine')
    with style.style():
        for panel in panels:
            panel.axhline(0, color=style.INK, linewidth=0.8)
            panel.set(ylim=(-0.3, 1.05), ylabel='cosine')
    return Drawing(
        figure,
        "Cosine between the gradient at a block's input and that at its stage's end: 1 where the gradient comes back "
        'as it was. Mean over examples, median over seeds; gaps are blocks that change the shape.',
        columns,
    )


def _terms(name: str, runs: Sequence[Measured]) -> Drawing:
    """What the branches add, by block and checkpoint."""
    steps, (figure, axes) = runs[0]['step'], style.figure(2, 1, heights=[2.6, 2.4], sharex=True)
    columns = {'step': [], 'block': [], 'along the identity term': [], 'size': []}
    blocks = np.arange(1, runs[0].arch.blocks + 1)
    along, size = (np.median([np.median(run[quantity], axis=-1) for run in runs], axis=0)
                   for quantity in ('residual_along', 'residual_size'))  # fmt: skip
    with style.style():
        top, bottom = axes[:, 0]
        for place, (step, series) in enumerate(zip(steps, style.SERIES, strict=False)):
            top.plot(blocks, along[place], **series.line, label=f'step {step}')
            bottom.plot(blocks, size[place], **series.line)
            columns['step'] += [int(step)] * len(blocks)
            columns['block'] += list(blocks)
            columns['along the identity term'] += list(along[place])
            columns['size'] += list(size[place])
        top.axhline(-1, color=style.INK, linewidth=1)
        top.annotate('cancels the identity term', (blocks[-1], -1), xytext=(0, 4), textcoords='offset points',
                     ha='right', color=style.INK)  # fmt: skip
        top.set(ylabel='along the identity', ylim=(-1.2, None))
        bottom.set(xlabel='block', ylabel='size', yscale='log')
        few_ticks(bottom)
        figure.legend(loc='outside upper center', ncols=3)
    return Drawing(
        figure,
        f'The sum of all residual terms of the gradient at each block of {name}, in units of the identity '
        'term: its component along that (-1 would cancel it) and its norm. Median over examples, then over seeds; '
        'gaps are blocks that enter a stage.',
        columns,
    )


def few_ticks(panel: Axes) -> None:
    """On a logarithmic axis of few decades."""
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(ticker.StrMethodFormatter('{x:g}'))
    panel.yaxis.set_minor_formatter(ticker.NullFormatter())


def _responses(shown: Networks) -> Drawing:
    """Figure 7: in network order, and sorted."""
    columns = {'network': [], 'layer': [], 'response': []}
    figure, axes = style.figure(2, 1, heights=[2.6, 2.6])
    depths = sorted({runs[0].depth for runs in shown.values()}, reverse=True)
    with style.style():
        for name, runs in shown.items():
            values, arch = _median(runs, 'response', -1), runs[0].arch
            look = style.SERIES[depths.index(runs[0].depth) % len(style.SERIES)]
            line = {'color': look.color, 'linestyle': '--' if arch.plain else '-', 'linewidth': 1.2}
            layers = np.arange(1, len(values) + 1)
            axes[0, 0].plot(layers, values, **line, label=name)
            axes[1, 0].plot(layers, np.sort(values)[::-1], **line, marker=look.marker, markersize=3,
                            markevery=max(1, len(values) // 8))  # fmt: skip
            columns['network'] += [name] * len(values)
            columns['layer'] += list(layers)
            columns['response'] += list(values)
        for panel, what in zip(axes[:, 0], ('in network order', 'sorted'), strict=True):
            panel.set(ylabel='response (std)', xlabel=f'3x3 layer, {what}', yscale='log')
            few_ticks(panel)
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        'Standard deviation of the response of every 3x3 layer, after BN and before ReLU and addition, in network '
        'order and sorted by size (He et al. 2015, figure 7); after training, median over seeds. Plain networks are '
        'dashed.',
        columns,
    )
