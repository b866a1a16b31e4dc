"""The figures of the amplifier experiment: medians over seeds."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments._amplifier_claims import adding, random_layers
from experiments._checkpoints import ends
from experiments._twins import Networks, networks
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import figures as style


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """By depth, by place, by block; and against the mean field."""
    there = networks(measured)
    deepest = max(runs[0].depth for runs in there.values())
    deep = dict([item for item in there.items() if item[1][0].depth == deepest][: len(style.SERIES)])
    drawn = {
        'depth': _depth(there), 'places': _places(deep), 'blocks': _blocks(deep),
        'mean_field': _mean_field(measured, config),
    }  # fmt: skip
    if of_growth := adding(measured):
        drawn['growth'] = _growth(*next(iter(of_growth.items())))
    return drawn


def _kind(run: Measured) -> str:
    if run.arch.plain:
        return 'plain'
    return 'pre-activation' if run.arch.preactivated else 'residual'


def _depth(shown: Networks) -> Drawing:
    """End to end against depth: every seed."""
    rows = (
        ('random_relative', 'relative gain, random'), ('adversarial_relative', 'relative gain, adv.'),
        ('softmax', '‖∂softmax/∂image‖'),
    )  # fmt: skip
    checkpoints, kinds = ends(next(iter(shown.values()))[0]), ('residual', 'plain', 'pre-activation')
    figure, axes = style.figure(3, len(checkpoints), heights=[2.1] * 3, sharex=True, sharey='row')
    columns = {'network': [], 'depth': [], 'seed': [], 'step': [], **{label: [] for _, label in rows}}
    with style.style():
        for column, (checkpoint, when) in enumerate(checkpoints):
            axes[0, column].set_title(when)
            axes[-1, column].set_xlabel('layers')
            for name, runs in shown.items():
                series = style.SERIES[kinds.index(_kind(runs[0]))]
                for run in runs:
                    of_run = [run[quantity][checkpoint].reshape(-1)[-1] for quantity, _ in rows]
                    for panel, value in zip(axes[:, column], of_run, strict=True):
                        panel.plot(run.depth, value, series.marker, color=series.color, alpha=0.7)
                    told = (name, run.depth, run.seed, int(run['step'][checkpoint]), *map(float, of_run))
                    for label, value in zip(columns, told, strict=True):
                        columns[label].append(value)
        for panels, (_, label) in zip(axes, rows, strict=True):
            panels[0].set(ylabel=label, yscale='log', xscale='log')
        depths = sorted({runs[0].depth for runs in shown.values()})
        for panel in axes[-1]:
            panel.set_xticks(depths, labels=[str(depth) for depth in depths])
            panel.set_xticks([], minor=True)
        for kind, series in zip(kinds, style.SERIES, strict=False):
            if any(_kind(runs[0]) == kind for runs in shown.values()):
                axes[0, 0].plot([], [], series.marker, color=series.color, label=kind)
        figure.legend(loc='outside upper center', ncols=3)
    return Drawing(
        figure,
        'By how much a small change of the image is amplified on its way to the logits, relative to the norms of both: '
        'in random directions (root mean square) and in the adversarial one; and the mean norm of ∂softmax/∂image. '
        'A point a seed.',
        columns,
    )


def _places(shown: Networks) -> Drawing:
    """The gain on the way from the image to the logits."""
    rows = {
        'random, relative': 'random_relative', 'adversarial, relative': 'adversarial_relative',
        'on to the logits': 'to_logits',
    }  # fmt: skip
    beside = {'random, absolute': 'random_gain', 'adversarial, absolute': 'adversarial_gain'}
    return _lines(
        shown, 'place', rows, beside,
        'What a small change of the image has become at the input of every block and of the head, and at the logits '
        '(last), relative to the norms there and of the image (place 0): for random directions the gradient scale '
        'coefficient. Below, that coefficient from each place on to the logits. The numbers have the gains that are '
        'not relative, too. Median over images, then over seeds.',
    )  # fmt: skip


def _blocks(shown: Networks) -> Drawing:
    """Every block's own Jacobian."""
    rows = {'gain, random': 'block_rms', 'gain, largest': 'block_largest'}
    return _lines(
        shown, 'block', rows, {},
        "Every block's own Jacobian: by how much it stretches a random change (root mean square: the root of ‖J‖_F² "
        'over the number of inputs), and at most (its largest singular value). Median over images, then over seeds.',
    )  # fmt: skip


def _lines(shown: Networks, axis: str, rows: dict[str, str], beside: dict[str, str], caption: str) -> Drawing:
    """A row a quantity, a column a checkpoint, a line a network.

    Args:
      rows, beside: label -> array; the latter is among the numbers alone.
    """
    quantities, checkpoints = rows | beside, ends(next(iter(shown.values()))[0])
    figure, axes = style.figure(len(rows), len(checkpoints), heights=[2.2] * len(rows), sharex=True, sharey='row')
    columns = {'network': [], 'step': [], axis: [], **{label: [] for label in quantities}}
    with style.style():
        for (checkpoint, when), panels in zip(checkpoints, axes.T, strict=True):
            panels[0].set_title(when)
            panels[-1].set_xlabel(axis)
            for (name, runs), series in zip(shown.items(), style.SERIES, strict=False):
                found = [_median(runs, quantity, checkpoint) for quantity in quantities.values()]
                places = np.arange(len(found[0])) + (axis == 'block')
                for panel, values in zip(panels, found, strict=False):
                    panel.plot(places, values, **series.line, markevery=max(1, len(places) // 8),
                               label=name if panel is axes[0, 0] else None)  # fmt: skip
                columns['network'] += [name] * len(places)
                columns['step'] += [int(runs[0]['step'][checkpoint])] * len(places)
                columns[axis] += list(places)
                for label, values in zip(quantities, found, strict=True):
                    columns[label] += list(values)
        for panels, label in zip(axes, rows, strict=True):
            panels[0].set_ylabel(label)
            for panel in panels:
                panel.set_yscale('log')
                panel.axhline(1, color=style.INK, linewidth=0.8)
                if axis == 'block':
                    style.few_ticks(panel)
        figure.legend(loc='outside upper center', ncols=3)
    return Drawing(figure, caption, columns)


def _median(runs: list[Measured], quantity: str, checkpoint: int) -> np.ndarray:
    """Over seeds."""
    values = np.median([run[quantity][checkpoint] for run in runs], axis=0)
    return np.append(values, np.nan) if quantity == 'to_logits' else values  # the logits themselves are the last place


def _growth(name: str, runs: list[Measured]) -> Drawing:
    """Forward and back, block by block."""
    checkpoints = ends(runs[0])
    figure, axes = style.figure(len(checkpoints), 1, heights=[2.3] * len(checkpoints), sharex=True, sharey=True)
    blocks = np.arange(1, runs[0].arch.blocks + 1)
    columns = {'step': [], 'block': [], 'forward': [], 'back': []}
    with style.style():
        for panel, (checkpoint, when) in zip(axes[:, 0], checkpoints, strict=True):
            drawn = [
                np.median([run[f'growth_{way}'][checkpoint] for run in runs], axis=0) for way in ('forward', 'back')
            ]
            panel.set_title(when)
            labels = ('squared norm, forward', 'squared gradient, back') if checkpoint == -1 else (None, None)
            for values, label, series in zip(drawn, labels, style.SERIES, strict=False):
                panel.plot(blocks, values, **series.line, label=label)
            panel.axhline(1, color=style.INK, linewidth=0.8)
            panel.set(ylabel='factor of a block', yscale='log')
            style.few_ticks(panel)
            columns['step'] += [int(runs[0]['step'][checkpoint])] * len(blocks)
            columns['block'] += list(blocks)
            columns['forward'] += list(drawn[0])
            columns['back'] += list(drawn[1])
        axes[-1, 0].set_xlabel('block')
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        f'By what every block of {name} multiplies the squared norm of the signal, and on the way back that '
        'of ∂logits/∂(input); gaps are blocks that change the shape. In the mean field both are 1 + σ_v²σ_w²/2.',
        columns,
    )


def _mean_field(measured: Sequence[Measured], config: ConfigDict) -> Drawing:
    forward, back = (random_layers(measured, way) for way in ('forward', 'back'))
    expected, (seeds, layers) = 1 + config.variance**2 / 2, np.indices(forward.shape)
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for values, label, aside, series in zip(
            (forward, back), ('squared norm, forward', 'squared gradient, back'), (-0.15, 0.15),
            style.SERIES, strict=False,
        ):  # fmt: skip
            axes.plot(layers.ravel() + 1 + aside, values.ravel(), series.marker, color=series.color, label=label)
        axes.axhline(expected, color=style.INK, linewidth=1, label=f'mean field: {expected:g}')
        axes.set(xlabel='layer', ylabel='factor of a layer')
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        f'By what each random layer x + V relu(W x) of width {config.width} multiplies the squared norm, and on the '
        f'way back the squared gradient, and what the mean field says: {len(forward)} networks of {config.layers} '
        'layers, one for each seed.',
        {
            'seed': np.array(config.seeds)[seeds.ravel()], 'layer': layers.ravel() + 1,
            'forward': forward.ravel(), 'back': back.ravel(),
        },
    )  # fmt: skip
