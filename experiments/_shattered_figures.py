"""The figures of the shattered gradients, from arrays as `_shattered_measure` makes them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from ml_collections import ConfigDict

from experiments._shattered_measure import grid
from resnet_jax.analysis.shattering import RELU_GROWTH, residual_correlation
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import figures as style

BETAS = (1.0, 0.1)  # of the deep kinds


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """Gradients themselves, their autocorrelation, covariance and correlation, and those of convolutional networks."""
    (one,) = measured
    return {
        'gradients': _gradients(one),
        'autocorrelation': _autocorrelation(one),
        'covariance': _covariance(one),
        'correlation': _correlation(one),
        'lines': _lines(one),
    }


def _gradients(one: Measured) -> Drawing:
    """One draw of the deepest networks, each on its own scale."""
    x = grid(one['gradient'].shape[-1])[0][:, 0]
    shown = ('feed-forward, centred', 'residual, BN, β = 1', 'residual, BN, β = 0.1')
    rows = {kind: one['gradient'][list(one['kind']).index(kind), -1] for kind in shown}
    rows = {'feed-forward, centred, 2 layers': one['gradient'][list(one['kind']).index(shown[0]), 0]} | rows
    rows['looks-linear'] = one['looks_linear_gradient'][-1]
    rows = {name: row / np.abs(row).max() for name, row in rows.items()}
    figure, axes = style.figure(len(rows), 1, heights=[1.2] * len(rows), sharex=True, sharey=True)
    with style.style():
        for panel, (name, row) in zip(axes[:, 0], rows.items(), strict=True):
            panel.plot(x, row, color=style.INK, linewidth=0.9)
            panel.set(title=name if 'layers' in name else f'{name}, {one["depth"][-1]} layers', ylim=(-1.1, 1.1))
        axes[len(rows) // 2, 0].set_ylabel('df/dx (share of its greatest value)')
        panel.set_xlabel('x')
    return Drawing(
        figure,
        'The gradient of one draw of weights along the grid, each as a share of its greatest value.',
        {'x': x, **{f'{name} (share)': row for name, row in rows.items()}},
    )


def _autocorrelation(one: Measured) -> Drawing:
    """A panel a kind, a line a depth."""
    lags = np.arange(len(one['white']))
    means = one['autocorrelation'].mean(axis=1)[:, one['depth'] - 1]  # (kind, depth, lag)
    rows = (len(means) + 1) // 2
    figure, axes = style.figure(rows, 2, heights=[2.4] * rows, sharex=True, sharey=True)
    with style.style():
        for panel, kind, curves in zip(axes.flat, one['kind'], means, strict=False):
            for depth, series, curve in zip(one['depth'], style.SERIES, curves, strict=False):
                label = f'{depth} layers' if kind == one['kind'][0] else None
                panel.plot(lags, curve, label=label, **series.line | {'markersize': 3.5})
            _noise(panel, one, kind == one['kind'][0])
            panel.set(title=kind, ylim=(-0.2, 1.05), xlim=(0, lags[-1]), xticks=lags[::5])
        for panel in axes[-1]:
            panel.set_xlabel('lag (points of the grid)')
        for panel in axes[:, 0]:
            panel.set_ylabel('autocorrelation')
        figure.legend(loc='outside upper center', ncols=4)
    columns = {
        f'{kind}, {depth} layers': curve
        for kind, curves in zip(one['kind'], means, strict=True)
        for depth, curve in zip(one['depth'], curves, strict=True)
    }
    return Drawing(
        figure,
        f'Autocorrelation of df/dx on the grid, mean over {one["autocorrelation"].shape[1]} draws of weights. '
        'Lines without marks: the mean of brown noise (solid) and of white noise (dashed).',
        {'lag (points)': lags, **columns, 'brown noise': one['brown'], 'white noise': one['white']},
    )


def _noise(axes: Axes, one: Measured, named: bool) -> None:
    lags = np.arange(len(one['white']))
    for name, linestyle in (('brown', '-'), ('white', '--')):
        axes.plot(lags, one[name], color=style.INK, linewidth=1, linestyle=linestyle,
                  label=f'{name} noise' if named else None)  # fmt: skip


def _covariance(one: Measured) -> Drawing:
    """At the deepest, kinds side by side on one scale, in the order of the grid."""
    shown = ('feed-forward, centred', 'residual, BN, β = 0.1')
    of_kind = dict(zip(one['kind'], one['covariance'], strict=True))
    matrices = [
        (f'{shown[0]},\n{one["depth"][0]} layers', of_kind[shown[0]][0]),
        *((f'{kind},\n{one["depth"][-1]} layers', of_kind[kind][-1]) for kind in shown),
    ]
    figure, axes = style.figure(1, len(matrices), heights=(style.COLUMN,), sharex=True, sharey=True)
    x = grid(len(matrices[0][1]))[0][:, 0]
    with style.style():
        for panel, (name, matrix) in zip(axes[0], matrices, strict=True):
            drawn = panel.imshow(matrix, cmap='Greys', vmin=0, vmax=1, extent=(-2, 2, 2, -2))
            panel.set(title=name, xlabel='x')
            panel.grid(visible=False)
        axes[0, 0].set_ylabel('x')
        figure.colorbar(drawn, ax=axes[0].tolist(), label='|covariance| / variance', shrink=0.7)
    return Drawing(
        figure,
        'Covariance of df/dx between the points of the grid, |(g - ḡ)(g - ḡ)ᵀ| / σ², mean over draws of weights.',
        {
            'x': np.repeat(x, len(x)),
            'other x': np.tile(x, len(x)),
            **{name.replace('\n', ' '): matrix.ravel() for name, matrix in matrices},
        },
    )


def _correlation(one: Measured) -> Drawing:
    """Above: the kinds that lose it fast, against 2^-L and (3/4)^L. Below: with BN, against the products."""
    figure, axes = style.figure(2, 1, heights=(3.4, 3.4))
    shallow, deep = one['correlation'].mean(axis=1), one['deep_correlation'].mean(axis=1)
    low, high = (np.arange(1, values.shape[1] + 1) for values in (shallow, deep))
    names = ('feed-forward', 'feed-forward, BN', 'residual, no BN', 'residual, centred')
    columns = {'layers': high}

    def padded(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.full(len(high) - len(values), np.nan)])

    with style.style():
        for name, series in zip(names, style.SERIES, strict=False):
            values = shallow[list(one['independent_kind']).index(name)]
            axes[0, 0].plot(low, np.maximum(values, 1e-4), label=name, **series.line)
            columns[name] = padded(values)
        for name, theory, linestyle in (('2^-L', 2.0**-low, '-'), ('(3/4)^(L-1) / 2', 0.75 ** (low - 1) / 2, '--')):
            axes[0, 0].plot(low, theory, color=style.INK, linewidth=1, linestyle=linestyle, label=name)
            columns[name] = padded(theory)
        axes[0, 0].set(yscale='log', ylim=(5e-4, 1))
        for name, beta, series, values in zip(one['deep_kind'], BETAS, style.SERIES, deep, strict=False):
            axes[1, 0].plot(high, values, label=f'β = {beta:g}', **series.line | {'markersize': 3})
            columns[f'{name}, deep'] = values
            for growth, how, linestyle in ((RELU_GROWTH, 'deviation', '-'), (1.0, 'root mean square', '--')):
                theory = np.array([residual_correlation(beta, int(depth), growth) for depth in high]) / 2
                label = f'product, {how}' if beta == BETAS[0] else None
                axes[1, 0].plot(high, theory, color=style.INK, linewidth=1, linestyle=linestyle, label=label)
                columns[f'product / 2, {how}, β = {beta:g}'] = theory
        axes[1, 0].set(ylim=(0, 0.6))
        for panel in axes[:, 0]:
            panel.set(xlabel='layers L', ylabel='correlation of gradients')
            panel.legend(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=2)
    return Drawing(
        figure,
        'Correlation of the gradients at independent inputs by depth, mean over draws of weights. Lines without marks: '
        'theory. Above, without BN or feed-forward; below, residual with BN, against the product of all layers, in '
        'which BN divides by the deviation (solid) or by the root mean square (dashed). The last ReLU halves all.',
        columns,
    )


def _lines(one: Measured) -> Drawing:
    """A panel a depth: plain and residual."""
    lags, found = np.arange(len(one['white'])), one['line_autocorrelation']
    depths = one['line_depth']
    figure, axes = style.figure(len(depths), 1, heights=[2.2] * len(depths), sharex=True, sharey=True)
    columns = {'lag (points)': lags}
    with style.style():
        for panel, depth, both in zip(axes[:, 0], depths, found, strict=True):
            for family, series, draws in zip(('residual', 'plain'), style.SERIES, both[::-1], strict=False):
                label = family if depth == depths[0] else None
                low, high = np.quantile(draws, (0.25, 0.75), axis=0)
                panel.fill_between(lags, low, high, color=series.color, alpha=0.18, linewidth=0)
                panel.plot(lags, draws.mean(axis=0), label=label, **series.line | {'markersize': 3.5})
                named = f'{family}, {depth} layers'
                curves = {'mean': draws.mean(axis=0), 'lower quartile': low, 'upper quartile': high}
                columns |= {f'{named}, {what}': curve for what, curve in curves.items()}
            _noise(panel, one, bool(depth == depths[0]))
            panel.set(title=f'{depth} layers', ylim=(-0.2, 1.05), xlim=(0, lags[-1]), xticks=lags[::5],
                      ylabel='autocorrelation')  # fmt: skip
        panel.set_xlabel('lag (points of the line)')
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        f'Autocorrelation of the gradient of a logit along lines between two images of {one["line_data"]}, of '
        f'untrained convolutional networks: the mean over {found.shape[2]} draws and the middle half (band). Lines '
        'without marks: brown and white noise.',
        columns,
    )
