"""The figures of the landscape experiment."""

from collections.abc import Sequence

import numpy as np

from experiments._landscape_quantities import Network, ratios
from resnet_jax.experiment import Drawing
from resnet_jax.report import figures as style

TICKS = (-1, -0.5, 0, 0.5, 1)


def surfaces(networks: Sequence[Network]) -> Drawing:
    """Contours of the loss, side by side on the same levels, of the first seed."""
    runs = [each.runs[0] for each in networks]
    heights = [_logarithm(run['loss']) for run in runs]
    levels = _levels(np.concatenate([each.ravel() for each in heights]))
    with style.style():
        figure, axes = style.figure(1, len(networks), heights=(style.COLUMN,))
        for panel, each, run, height in zip(axes[0], networks, runs, heights, strict=True):
            # Not down to black: labels stand on it.
            shades = {'cmap': 'Greys', 'vmin': levels[0], 'vmax': 2 * levels[-1] - levels[0]}
            panel.contourf(run['step'], run['step'], height.T, levels, **shades)
            lines = panel.contour(
                run['step'], run['step'], height.T, levels, colors=style.INK, linewidths=0.6, linestyles='solid'
            )
            panel.clabel(lines, fmt=lambda level: f'{10**level:.3g}' if abs(level) < 3 else f'$10^{{{level:.0f}}}$')
            panel.set(xlabel='step along the first direction', aspect='equal', xticks=TICKS, yticks=TICKS)
            panel.set_title(each.label)
            panel.grid(visible=False)
        axes[0, 0].set_ylabel('step along the second')
    points = [np.stack(np.meshgrid(run['step'], run['step'], indexing='ij')).reshape(2, -1) for run in runs]
    return Drawing(
        figure,
        'Training loss (nats) around trained networks of one seed, along two random directions normalised by filters. '
        'Levels are the same in all panels; the network itself is at the centre.',
        {
            'network': [each.label for each, place in zip(networks, points, strict=True) for _ in place[0]],
            'step along the first direction': np.concatenate([place[0] for place in points]),
            'step along the second direction': np.concatenate([place[1] for place in points]),
            'loss (nats)': np.concatenate([run['loss'].ravel() for run in runs]),
        },
    )


def _levels(heights: np.ndarray) -> np.ndarray:
    """Decades, fewer where there are many; where there are not two of them, seven levels between the extremes."""
    low, high = np.floor(heights.min()), np.ceil(heights.max())
    if high - low > 2:
        return np.arange(low, high + 3, np.ceil((high - low) / 12))
    return np.linspace(heights.min(), heights.max() + 1e-3, 7)


def _logarithm(loss: np.ndarray) -> np.ndarray:
    """To base 10, of what a float can hold."""
    return np.log10(np.clip(loss, 1e-6, np.finfo(np.float32).max))


def lines(networks: Sequence[Network]) -> Drawing:
    """The loss along the first direction, every seed."""
    rows = [(each, run, run['loss'][:, len(run['step']) // 2]) for each in networks for run in each.runs]
    with style.style():
        figure, ((axes,),) = style.figure(1, 1)
        for each, series in zip(networks, style.SERIES, strict=False):
            for run in each.runs:
                label = each.label if run is each.runs[0] else None
                height = 10 ** _logarithm(run['loss'][:, len(run['step']) // 2])
                axes.plot(run['step'], height, **series.line | {'markersize': 3}, linewidth=1, label=label)
        axes.set(xlabel='step along the first direction (norms of the filters)', ylabel='loss (nats)', yscale='log')
        axes.set_xticks(TICKS)
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        'Training loss along one random direction normalised by filters, a line a seed; the network itself is at 0.',
        {
            'network': [each.label for each, run, _ in rows for _ in run['step']],
            'seed': [run.seed for _, run, _ in rows for _ in run['step']],
            'step': np.concatenate([run['step'] for _, run, _ in rows]),
            'loss (nats)': np.concatenate([row for _, _, row in rows]),
        },
    )


def curvature(networks: Sequence[Network]) -> Drawing:
    """|λmin / λmax| against the distance from the network, every point of every seed."""
    columns: dict = {'network': [], 'seed': [], 'distance': [], '|λmin / λmax|': []}
    with style.style():
        figure, ((axes,),) = style.figure(1, 1)
        for place, (each, series) in enumerate(zip(networks, style.SERIES, strict=False)):
            far = [np.hypot(*np.meshgrid(run['hessian_step'], run['hessian_step'])).ravel() for run in each.runs]
            found = [ratios(run).ravel() for run in each.runs]
            columns['network'] += [each.label for distance in far for _ in distance]
            columns['seed'] += [run.seed for run, distance in zip(each.runs, far, strict=True) for _ in distance]
            columns['distance'] += [*np.concatenate(far)]
            columns['|λmin / λmax|'] += [*np.concatenate(found)]
            aside = 0.03 * (place - (len(networks) - 1) / 2)  # beside each other where they are as far
            axes.plot(
                np.concatenate(far) + aside, np.concatenate(found), series.marker, color=series.color,
                label=each.label, markersize=4, alpha=0.7,
            )  # fmt: skip
        axes.set(xlabel='distance from the network (norms of the filters)', ylabel='|λmin / λmax|', ylim=(0, None))
        figure.legend(loc='outside upper center', ncols=2)
    return Drawing(
        figure,
        'How far the surface is from convex: the most negative eigenvalue of the Hessian by the largest, at points of '
        'the square, all seeds. 0: convex. Networks stand a little beside each other.',
        columns,
    )


def spectrum(networks: Sequence[Network], width: float) -> Drawing:
    """Eigenvalues at the centre, by their share of all; the first seed of each network."""
    rows = [
        (each, value, weight)
        for each in networks
        for value, weight in zip(each.runs[0]['eigenvalue'].ravel(), each.runs[0]['weight'].ravel(), strict=True)
        if weight > 0
    ]
    with style.style():
        figure, ((axes,),) = style.figure(1, 1)
        for each, series in zip(networks, style.SERIES, strict=False):
            own = [(value, weight) for network, value, weight in rows if network is each]
            if own:
                values, weights = np.array(own).T
                largest = np.abs(values).max() or 1  # 0 where all are
                axes.plot(
                    values / largest, weights, series.marker, color=series.color, label=each.label,
                    markersize=4, alpha=0.7,
                )  # fmt: skip
        axes.axvspan(-width, width, color=style.GRID, zorder=0, label='near zero')
        axes.set(xlabel='eigenvalue by the largest in size', ylabel='share of all eigenvalues', yscale='log')
        figure.legend(loc='outside upper center', ncols=3)
    return Drawing(
        figure,
        'The spectrum of the Hessian at the network itself, first seed: eigenvalues and their shares as the Lanczos '
        'method estimates them, from every start vector.',
        {
            'network': [each.label for each, _, _ in rows],
            'eigenvalue (nats per squared unit of the parameters)': [value for _, value, _ in rows],
            'share of all eigenvalues': [weight for _, _, weight in rows],
        },
    )
