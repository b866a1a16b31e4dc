"""The figures of the paths experiment."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments._paths_claims import active_blocks, contributions, fitted, linearity, pairs
from resnet_jax.analysis.paths import shares
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import figures as style


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """Norms and contributions by length of the main run, and the errors of what was trained with a subset."""
    drawn = {'norms': _norms(measured[0]), 'contributions': _contributions(measured[0])}
    return drawn | ({'training': _training(pairs(measured))} if pairs(measured) else {})


def _norms(main: Measured) -> Drawing:
    norms, summed = main['path_norm_image'], main['sum_norm_image'].mean(axis=1)
    lengths, mean = np.arange(len(norms)), norms.mean(axis=1)
    fit, factor = fitted(norms)
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        path, line, total = style.SERIES[:3]
        axes.plot(lengths, mean, path.marker, color=path.color, label='along one path')
        axes.plot(lengths, fit, line.linestyle, color=line.color,
                  label=f'x {factor:.2f} a block (R² {abs(linearity(norms)):.3f})')  # fmt: skip
        axes.plot(lengths, summed, **total.line | {'linestyle': '-'}, label='sum of all paths')
        axes.set(xlabel='length of the path (blocks)', ylabel='norm of the gradient', yscale='log')
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        'Norm of the gradient by the image against the length of the path: mean over examples along one random path '
        'each, the exponential that fits it, and, on the first of these examples, the norm of the vector sum of all '
        'paths of that length.',
        {'length (blocks)': lengths, 'norm along one path': mean, 'fit': fit, 'norm of the sum': summed},
    )


def _contributions(main: Measured) -> Drawing:
    columns = {
        'number of paths': 100 * shares(main.arch.blocks),
        'number x mean norm': 100 * contributions(main, 'path_norm', 'image'),
        'norm of the sum': 100 * contributions(main, 'sum_norm', 'image'),
    }
    lengths = np.arange(main.arch.blocks + 1)
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for (label, values), series in zip(columns.items(), style.SERIES, strict=False):
            axes.plot(lengths, values, **series.line, markevery=3, label=label)
        axes.set(xlabel='length of the path (blocks)', ylabel='share (%)', ylim=(0, None))
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        'What paths of each length contribute: how many there are, that times their mean norm (the paper), and the '
        'norm of their exact sum. Each adds up to 100 %. The mean norm is that of drawn paths, few of which bring most '
        'of it: hence the spikes.',
        {'length (blocks)': lengths, **{f'{label} (%)': values for label, values in columns.items()}},
    )


def _training(trained: list[tuple[Measured, Measured]]) -> Drawing:
    subset = trained[0][1]
    active, blocks = active_blocks(subset), subset.arch.blocks
    columns = {
        'all blocks': [whole['test_error'] for whole, _ in trained],
        f'{active} of {blocks}': [subset['test_error'] for _, subset in trained],
        f'{active} of {blocks}, BN anew': [subset['test_error_fresh'] for _, subset in trained],
        f'{active} of {blocks}, weighted': [subset['test_error_weighted'] for _, subset in trained],
    }
    errors = {name: np.array(values, float) for name, values in columns.items()}
    return Drawing(
        _errors(errors),
        f'Test error of the network of {subset.depth} layers after training with all blocks and with a random subset a '
        'batch; of the latter also with BN statistics taken anew, and with each branch weighted by the share of the '
        'batches that it was trained in. Every seed (points), and the mean (bar).',
        {'seed': [whole.seed for whole, _ in trained], **{f'{name} (%)': values for name, values in errors.items()}},
    )


def _errors(errors: dict[str, np.ndarray]) -> Figure:
    """errors: what -> (seeds,)."""
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for place, (values, series) in enumerate(zip(errors.values(), style.SERIES, strict=False)):
            axes.plot(np.full(len(values), place), values, series.marker, color=series.color)
            axes.hlines(values.mean(), place - 0.2, place + 0.2, color=style.INK, linewidth=2)
            axes.annotate(f'{values.mean():.1f}', (place + 0.22, values.mean()), va='center')
        axes.set(ylabel='test error (%)', ylim=(0, None), xlim=(-0.5, len(errors)), xticks=range(len(errors)))
        axes.set_xticklabels([name.replace(', ', ',\n') for name in errors])
    return figure
