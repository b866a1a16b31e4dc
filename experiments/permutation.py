"""Permutation: does the order of blocks matter?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks"
(arXiv 1605.06431), section 4.3. In a trained network k random pairs of blocks of equal shape are swapped, one after
the other, k = 1 to 10, with nothing trained again and BN's statistics as stored; blocks that enter a stage stay. A
pair is drawn among all pairs of two blocks of one stage. The error is held against Kendall's rank correlation τ of the
order of all blocks with the trained one, and against Σ|a - b|, how far apart the swapped blocks stood.

Beyond the paper: the same in a shallower network, and in a plain one.

    resnet-jax experiment permutation                       # on the networks it names, trained where they are missing
    resnet-jax experiment permutation --run runs/digits     # on a run of yours
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from scipy import stats

from experiments._lesion_measure import error, names
from experiments._networks import network
from resnet_jax.analysis import order
from resnet_jax.errors import UserError
from resnet_jax.experiment import Drawing, Measured, by_network
from resnet_jax.models.architecture import Architecture
from resnet_jax.progress import Progress
from resnet_jax.report import figures as style
from resnet_jax.report.claims import Claim, Interval
from resnet_jax.report.findings import Array, Plain
from resnet_jax.report.intervals import bootstrap
from resnet_jax.run import Run

TITLE = 'Reordering blocks'
PAPER = 'Veit et al. 2016, arXiv 1605.06431, section 4.3'
BELOW_ZERO = Interval(-1.0, float(np.nextafter(0, -1)))
# The median error (%) by τ, from each number to WIDTH above it: the paper only plots it; of the authors' raw runs.
PUBLISHED = ((0.80, 69.0), (0.85, 49.0), (0.90, 22.0), (0.95, 8.2))
WIDTH = 0.05


def get_config(tier: str) -> ConfigDict:
    """How many swaps, and how many draws of each."""
    return ConfigDict(
        {
            'tier': tier,
            'swaps': (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
            'draws': {'cpu': 30, 'paper': 100}[tier],
            'seed': 0,
            'resamples': 2000,
            'confidence': 0.95,
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """The paper's network, and beside it half the depth, with and without shortcuts."""
    make = partial(network, config.tier)
    return [make('preact_resnet110'), make('preact_resnet56'), make('preact_resnet56', shortcut='none')]


def check(architectures: Sequence[Architecture]) -> None:
    """The main network must have two blocks to swap, and they must differ."""
    arch = architectures[0]
    if not _can_permute(arch):
        raise UserError(
            f'no stage of this network (stage_blocks {list(arch.stage_blocks)}) has two blocks of equal shape behind '
            'its entry block, so there is nothing to swap; permutation needs a stage of three blocks, as of 20 layers'
        )
    if arch.share == 'all':
        raise UserError(
            "the blocks of a stage of this network are one and the same (network.share is 'all'), so their order says "
            'nothing; permutation needs blocks of their own'
        )


def _can_permute(arch: Architecture) -> bool:
    return max(arch.stage_blocks) > 2


def measure(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """The test error in every order that is drawn; of a network without two blocks to swap the intact error alone."""
    arch, test = run.network.arch, list(run.chunks('test'))
    rng, swaps = np.random.default_rng(config.seed), config.swaps if _can_permute(arch) else ()
    drawn = [order.random_swaps(rng, arch, count) for count in swaps for _ in range(config.draws)]
    orders = np.stack([order.trained_order(arch), *(each for each, _ in drawn)])
    right = order.order_sweep(run.network, run.variables, test, orders, progress=progress)
    shape, axes = (len(swaps), config.draws), ('swap', 'draw')
    taus = np.array([order.kendall_tau(arch, each) for each, _ in drawn])
    distances = np.array([distance for _, distance in drawn], int)
    return {
        'swaps': Array(np.array(swaps, int), ('swap',), 'pairs swapped'),
        'tau': Array(taus.reshape(shape), axes, "Kendall's τ"),
        'distance': Array(distances.reshape(shape), axes, 'blocks'),
        'error': Array(error(right[1:]).reshape(shape), axes, '%'),
        'intact_error': Array(np.array(error(right[0])), (), '%'),
        'examples': Array(np.array(right.shape[1]), (), 'images'),
    }


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of the main network; and of plain and residual twins, where both are there."""
    run, every = measured[0], _networks(measured)
    claim = partial(_claim, config, run)
    made = [_plain_claim(plain, residual, claim) for plain, residual in _twins(every)]
    if run.arch.plain:
        return made
    rank = partial(claim, _rank_correlation(run, 'tau'), quantity='Spearman correlation of τ and error',
                   expected='-0.80', figure='order')  # fmt: skip
    if (run.data, run.title) == ('cifar10', 'preact_resnet110'):
        accept = Interval(-1.0, -0.6)
        made.append(rank(accept=accept, form='number', statement='The order of blocks matters as in the paper'))
    return [
        rank(
            accept=BELOW_ZERO, form='shape',
            statement='The further the order is from the trained one, the higher the error',
        ),
        claim(
            _growth(run), statement='The error grows with the number of swaps', accept=Interval(0.9, 1.0), form='shape',
            quantity='rank correlation of the median error with k', expected='1 (figure 5b)', figure='swaps',
        ),
        *made,
    ]  # fmt: skip


def _rank_correlation(run: Measured, name: str) -> Callable[[np.ndarray], float]:
    """Spearman's of `name` and error over draws (numbers of them); 0 where one of them never changes."""
    values, errors = run[name].ravel(), run['error'].ravel()

    def correlation(chosen: np.ndarray) -> float:
        if not np.ptp(values[chosen]) or not np.ptp(errors[chosen]):
            return 0.0
        return float(stats.spearmanr(values[chosen], errors[chosen]).statistic)

    return correlation


def _growth(run: Measured) -> Callable[[np.ndarray], float]:
    """Spearman's of k and the median error, over draws (numbers from 0 to swaps × draws)."""
    counts = np.repeat(run['swaps'], run['error'].shape[1])
    errors = run['error'].ravel()

    def correlation(chosen: np.ndarray) -> float:
        there = np.unique(counts[chosen])
        medians = [np.median(errors[chosen][counts[chosen] == count]) for count in there]
        return float(stats.spearmanr(there, medians).statistic) if len(there) > 1 and np.ptp(medians) else 0.0

    return correlation


def _plain_claim(plain: Measured, residual: Measured, claim: Callable) -> Claim:
    """Of a plain network and its residual twin, over draws of the fewest swaps."""

    def lost(run: Measured, chosen: np.ndarray) -> float:
        """Of what there is to lose: from the trained order's error to chance."""
        chance = 100 * (1 - 1 / run.arch.classes)
        return float(np.median(run['error'][0][chosen]) - run['intact_error']) / float(chance - run['intact_error'])

    names_of, count = names([plain, residual]), plain['swaps'][0]
    return claim(
        lambda chosen: lost(plain, chosen) - lost(residual, chosen), draws=plain['error'].shape[1], figure='networks',
        statement=f'Without shortcuts the order matters more: {names_of[0]} against {names_of[1]}, pairs swapped: '
        f'{count}',
        quantity='difference of the median increases of the error, each as a share of the way to chance',
        expected='not in the paper; above 0 as for deletions', accept=Interval(float(np.nextafter(0, 1)), np.inf),
        form='shape', source='this project',
    )  # fmt: skip


def _claim(
    config: ConfigDict, run: Measured, statistic: Callable, *, figure: str, draws: int = 0, source: str = PAPER,
    **said: Any,
) -> Claim:  # fmt: skip
    count = draws or run['error'].size
    value, interval = bootstrap(statistic, count, config)
    return Claim(
        measured=value, interval=interval, n=f'{count} orders, {run["examples"]} test images', data=run.data,
        figure=f'permutation_{figure}', source=source, **said,
    )  # fmt: skip


def _networks(measured: Sequence[Measured]) -> list[Measured]:
    """One run of each network that has blocks to swap, the main one first."""
    others = [runs[0] for runs in by_network(measured[1:]).values() if runs[0].arch != measured[0].arch]
    others = [run for run in others if len(run['swaps'])]
    return [measured[0], *sorted(others, key=lambda run: (run.arch.plain, run.depth))]


def _twins(networks: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    """Plain networks, each with the residual one of its stages and placement."""
    return [
        (plain, residual)
        for plain in networks
        for residual in networks
        if plain.arch.plain
        and not residual.arch.plain
        and (plain.arch.stage_blocks, plain.arch.placement) == (residual.arch.stage_blocks, residual.arch.placement)
    ]


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The short table."""
    run, every = measured[0], _networks(measured)
    everything = np.arange(run['error'].size)
    table: dict[str, Plain] = {'test error, trained order': f'{run["intact_error"]:.2f} %'}
    for count in (1, 5, 10):
        if count in run['swaps']:
            drawn = run['error'][run['swaps'] == count]
            taus = np.median(run['tau'][run['swaps'] == count])
            table[f'pairs swapped: {count}, median'] = f'{np.median(drawn):.1f} % (τ {taus:.3f}, {drawn.size} draws)'
    for name, label in (('tau', 'τ'), ('distance', 'Σ|a - b|')):
        table[f'Spearman of {label} and error'] = f'{_rank_correlation(run, name)(everything):.2f}'
    for label, other in list(zip(names(every), every, strict=True))[1:]:
        one = f'{np.median(other["error"][0]):.1f} % (trained order {other["intact_error"]:.2f} %)'
        table[f'{label}, pairs swapped: {other["swaps"][0]}, median'] = one
    return table


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    run = measured[0]
    said = [
        f'Evaluation mode, stored BN statistics, nothing trained again. {config.draws} draws for every number of '
        f'swaps; {config.confidence:.0%} intervals by bootstrap over draws. One trained network of each kind, of one '
        'seed. A swap may undo an earlier one. What belongs to a block (parameters, BN statistics) goes with it.',
        'τ is over all blocks, the entry blocks included, which stay. That the median grows with k at a rank '
        "correlation of 0.9 or more is this project's bound; so is the comparison with a plain network.",
    ]
    if (run.data, run.title) != ('cifar10', 'preact_resnet110'):
        said.append(
            f"The paper's numbers are of a pre-activation ResNet-110 on CIFAR-10; on {run.data} with {run.title} only "
            'the shape of a claim is tested.'
        )
    return said


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The error against τ and Σ|a - b|, against the number of swaps, and of one swap in each network."""
    run, every = measured[0], _networks(measured)
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
