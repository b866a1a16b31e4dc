"""The figures of the gradient flow experiment: medians over seeds."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments._checkpoints import ends
from experiments._gradient_flow_claims import RESIDUAL_TERM, decomposed
from experiments._twins import Networks, has_body, networks
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import figures as style


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The gradient and its direction by block, its terms, and the responses; of what there is."""
    there, taken_apart = networks(measured), list(decomposed(measured).items())
    beside = [name for name, _ in taken_apart[1:]]  # their terms are drawn, and no more
    deep = [item for item in there.items() if has_body(item[1][0]) and item[0] not in beside][: len(style.SERIES)]
    drawn = {'gradient': _gradient(dict(deep)), 'cosine': _cosine(dict(deep))}
    if taken_apart:  # of the deepest, beside the shallowest
        drawn |= {'terms': _terms(dict([taken_apart[0], taken_apart[-1]])), 'branches': _branches(*taken_apart[0])}
    if responding := {name: runs for name, runs in there.items() if 'response' in runs[0].arrays}:
        drawn['responses'] = _responses(responding)
    return drawn


def _median(runs: Sequence[Measured], name: str, checkpoint: int) -> np.ndarray:
    """Over seeds; gradients are relative to the last place."""
    values = np.median([run[name][checkpoint] for run in runs], axis=0)
    return values / values[-1] if name == 'gradient' else values


def _by_block(shown: Networks, quantities: dict[str, str]) -> tuple[Figure, np.ndarray, dict[str, list]]:
    """A panel a checkpoint, a line a network; position from the first block (0) to the last (1).

    Args:
      quantities: label -> array; the first is drawn, all are among the numbers.

    Returns:
      Figure, panels, numbers.
    """
    checkpoints = ends(next(iter(shown.values()))[0])
    figure, axes = style.figure(len(checkpoints), 1, heights=[2.4] * len(checkpoints), sharex=True)
    columns = {'network': [], 'step': [], 'position': [], **{label: [] for label in quantities}}
    with style.style():
        for panel, (checkpoint, when) in zip(axes[:, 0], checkpoints, strict=True):
            panel.set_title(when)
            for (name, runs), series in zip(shown.items(), style.SERIES, strict=False):
                found = [_median(runs, quantity, checkpoint) for quantity in quantities.values()]
                places = np.linspace(0, 1, len(found[0]))
                panel.plot(places, found[0], **series.line, markevery=max(1, len(places) // 9),
                           label=name if checkpoint == -1 else None)  # fmt: skip
                columns['network'] += [name] * len(places)
                columns['step'] += [int(runs[0]['step'][checkpoint])] * len(places)
                columns['position'] += list(places)
                for label, values in zip(quantities, found, strict=True):
                    columns[label] += list(values)
        axes[-1, 0].set_xlabel('position (0: first block, 1: last)')
        figure.legend(loc='outside upper center', ncols=2)
    return figure, axes[:, 0], columns


def _gradient(shown: Networks) -> Drawing:
    figure, panels, columns = _by_block(shown, {'gradient, relative to that behind the last block': 'gradient'})
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
    quantities = {'cosine': 'cosine', 'along it, in units of its norm': 'carried'}
    figure, panels, columns = _by_block(shown, quantities)
    with style.style():
        for panel in panels:
            panel.axhline(0, color=style.INK, linewidth=0.8)
            panel.set(ylim=(-0.3, 1.05), ylabel='cosine')
    return Drawing(
        figure,
        "Cosine between the gradient at a block's input and that at its stage's end: 1 where the gradient comes back "
        'as it was. The numbers have the component along the latter, too. Mean over examples, median over seeds; gaps '
        'are blocks that change the shape.',
        columns,
    )


def _terms(shown: Networks) -> Drawing:
    """What all branches add together; a column a network, a line a checkpoint."""
    figure, axes = style.figure(3, len(shown), heights=(2.3, 2.0, 2.4), sharex='col', sharey='row')
    columns = {'network': [], 'step': [], 'block': [], **{label: [] for label in RESIDUAL_TERM}}
    with style.style():
        for (along, cosine, size), (name, runs) in zip(axes.T, shown.items(), strict=True):
            blocks = np.arange(1, runs[0].arch.blocks + 1)
            for place, (step, series) in enumerate(zip(runs[0]['step'], style.SERIES, strict=False)):
                columns['network'] += [name] * len(blocks)
                columns['step'] += [int(step)] * len(blocks)
                columns['block'] += list(blocks)
                for panel, (label, of) in zip((along, cosine, size), RESIDUAL_TERM.items(), strict=True):
                    values = np.median([np.median(of(run)[place], axis=-1) for run in runs], axis=0)
                    panel.plot(blocks, values, **series.line, label=f'step {step}' if panel is axes[0, 0] else None)
                    columns[label] += list(values)
            along.axhline(-1, color=style.INK, linewidth=1)
            along.annotate('cancels the identity term', (blocks[-1], -1), xytext=(0, 4), textcoords='offset points',
                           ha='right', color=style.INK)  # fmt: skip
            along.set(title=name, ylim=(-1.2, None))
            cosine.axhline(0, color=style.INK, linewidth=0.8)
            size.set(xlabel='block', yscale='log')
            style.few_ticks(size)
        for panel, label in zip(axes[:, 0], RESIDUAL_TERM, strict=True):
            panel.set_ylabel(label)
        figure.legend(loc='outside upper center', ncols=4 if len(shown) > 1 else 2)
    return Drawing(
        figure,
        'The sum of all residual terms of the gradient at each block, against the identity term: its component along '
        'that, in units of its norm (-1 would cancel it), the cosine of the two, and its norm in the same units. '
        'Median over examples, then over seeds; gaps are blocks that enter a stage.',
        columns,
    )


def _branches(name: str, runs: Sequence[Measured]) -> Drawing:
    """The term of every branch alone, after training; a panel a stage."""
    arch, size, along = runs[0].arch, _median(runs, 'term_size', -1), _median(runs, 'term_along', -1)
    there = np.triu(~np.isnan(size))  # of one stage, and i ≥ l
    bodies = [(first + 1, first + blocks) for first, blocks in zip(arch.entry_blocks, arch.stage_blocks, strict=True)
              if blocks > 1]  # fmt: skip
    figure, axes = style.figure(len(bodies), 1, heights=[2.6] * len(bodies))
    with style.style():
        for panel, (start, end) in zip(axes[:, 0], bodies, strict=True):
            body, edges = slice(start, end), (start + 0.5, end + 0.5)
            image = panel.imshow(np.where(there, size, np.nan)[body, body], cmap='Greys', vmin=0,
                                 vmax=size[there].max(), extent=(*edges, *edges[::-1]))  # fmt: skip
            panel.grid(visible=False)
            panel.locator_params(integer=True)
            panel.set_ylabel('at block')
        axes[-1, 0].set_xlabel('through the branch of block')
        figure.colorbar(image, ax=axes[:, 0].tolist(), label='‖term of the branch‖ / ‖identity term‖')
    at, of = np.nonzero(there)
    return Drawing(
        figure,
        f'The term of the gradient that each branch of {name} brings by itself, stage by stage: '
        '∂loss/∂x_L · ∂F_i/∂x_l at the input of block l (down) through the branch of block i ≥ l (across), relative '
        'to the identity term ∂loss/∂x_L. After training, mean over examples, median over seeds.',
        {
            'at block': at + 1, 'branch of block': of + 1,
            'size, relative to the identity term': size[there], 'along the identity term': along[there],
        },
    )  # fmt: skip


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
            style.few_ticks(panel)
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        'Standard deviation of the response of every 3x3 layer, after BN and before ReLU and addition, in network '
        'order and sorted by size (He et al. 2015, figure 7); after training, median over seeds. Plain networks are '
        'dashed.',
        columns,
    )
