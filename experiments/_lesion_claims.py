"""The claims of the lesion experiment: what the paper says of deletions, and the statistic that is held against it."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments import _veit
from experiments._lesion_measure import error, increase, inner, interaction, networks
from experiments._networks import names
from resnet_jax.experiment import Measured
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.claims import ABOVE_ZERO, Claim, Interval
from resnet_jax.report.intervals import SEEDS, all_seeds, bootstrap

OURS = 'this project'
LITTLE = Interval(-np.inf, 0.1)
RECALIBRATED = 10  # how many blocks are deleted where fresh statistics are judged, or the most below that there are


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """The claims on deletions that these networks and this dataset can decide."""
    run, made = measured[0], []
    if not run.arch.plain:
        made += _single_claims(run, config) + _many_claims(run, config)
    made += _depth_claims(measured, config) + _shortcut_claims(measured, config)
    if config.beyond and not run.arch.plain:
        made += _twice_claims(run, config) + _fresh_claims(run, config)
        made += _pair_claims(run, config) + _shapley_claims(run, config)
    return made


def shallow_to_deep(measured: Sequence[Measured]) -> list[Measured]:
    """The networks of the main one's kind, by depth; none where there is one depth alone, or it is plain."""

    def kind(run: Measured) -> Architecture:
        return dataclasses.replace(run.arch, stage_blocks=())

    alike = [run for run in networks(measured) if kind(run) == kind(measured[0])]
    alike = sorted(alike, key=lambda run: run.depth)
    return alike if len(alike) > 1 and not measured[0].arch.plain else []


def nearest(run: Measured, among: Sequence[Measured]) -> Measured | None:
    """Which of these is nearest to a network in depth, then in its kind of block; None of none."""

    def distance(other: Measured) -> tuple:
        kinds = [(each.arch.block, each.arch.placement) for each in (run, other)]
        return abs(other.depth - run.depth), kinds[0] != kinds[1]

    return min(among, key=distance, default=None)


def _single_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of one block deleted."""
    which, entry = inner(run), run['is_entry']
    claim = partial(_over_examples, run, config, section='4.1', figure='single_deletions')
    made = [
        claim(
            lambda chosen: increase(run, which, chosen) / _to_lose(run, chosen),
            statement='Deleting one block typically costs little of what there is to lose, entry blocks apart',
            quantity='median increase of the error, as a share of the way to chance',
            expected='0.005 (0.4 of 84 points)', accept=LITTLE, form='shape',
        )
    ]  # fmt: skip
    if entry.any():
        made.append(
            claim(
                lambda chosen: increase(run, entry, chosen) - increase(run, which, chosen),
                statement='Deleting a block that enters a stage costs more than deleting any other',
                quantity='median error over entry blocks minus that over the others, percentage points',
                expected='42, 12 and 12 % against 6.4 %', accept=ABOVE_ZERO, form='shape',
            )
        )  # fmt: skip
    if _veit.is_theirs(run):
        claim = partial(claim, quantity='median increase of the error, percentage points', form='number')
        made += [
            claim(
                partial(increase, run, which), accept=Interval(-np.inf, 1.0), expected='+0.4',
                statement='Deleting one block typically hardly changes the error, entry blocks apart',
            ),
            claim(
                partial(increase, run, entry), accept=Interval(5.0, np.inf), expected='+6 to +36',
                statement='Deleting an entry block is felt',
            ),
        ]  # fmt: skip
    return made


def _many_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of several blocks deleted together."""
    counts, errors = run['count'], run['error_without_entry']
    claim = partial(_over_draws, run, config, section='4.2')

    def growth(chosen: np.ndarray) -> float:
        medians = np.median(errors[:, chosen], axis=1)
        # A constant has no ranks: it does not grow.
        return stats.spearmanr(counts, medians).statistic if np.ptp(medians) else 0.0

    def median(count: int, chosen: np.ndarray) -> float:
        return float(np.median(errors[counts == count][0][chosen]))

    made = []
    if len(counts) > 1:
        made.append(
            claim(
                growth, statement='The error grows smoothly with the number of deleted blocks',
                quantity='rank correlation of the median error with k', expected='1 (6.5 % at k=1 to 58 % at k=20)',
                accept=Interval(0.9, 1.0), form='shape',
            )
        )  # fmt: skip
    if _veit.is_theirs(run):
        made += [
            claim(
                partial(median, count), statement=f'Deleting {count} blocks at random gives the error of the paper',
                quantity='median error, %', expected=f'{expected} %', accept=Interval(low, high), form='number',
            )
            for count, expected, low, high in ((5, 9.4, 7, 14), (10, 19, 12, 30), (20, 57.7, 40, 75))
        ]  # fmt: skip
    return made


def _depth_claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of networks that differ in depth."""
    alike = shallow_to_deep(measured)
    if not alike:
        return []

    def least_step(runs: Sequence[Measured], chosen: np.ndarray | slice) -> float:
        costs = [increase(run, inner(run), chosen) for run in runs]
        return float(-np.diff(costs).max())

    said = names(networks(measured))
    by_depth = ', '.join(said[networks(measured).index(run)] for run in alike)
    made = [
        _between(
            alike, measured, config, least_step,
            statement=f'Resilience grows with depth: a deletion costs less in each deeper network ({by_depth})',
            quantity='least difference of the median increases of the error from one depth to the next, points',
            expected='23 against 0.4 points (20 and 110 layers)',
        )
    ]  # fmt: skip
    if alike[0].data == 'cifar10' and alike[0].title == 'preact_resnet20':
        made.append(
            _error_without_one(
                alike[0], config, expected='31 %', accept=Interval(15.0, np.inf),
                statement='A shallow residual network is hurt by losing one block (preact_resnet20)',
            )
        )  # fmt: skip
    return made


def _shortcut_claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of networks without shortcuts, each against the residual one that is nearest to it."""
    every, made = networks(measured), []
    said = dict(zip((run.arch for run in every), names(every), strict=True))
    for plain in (run for run in every if run.arch.plain):
        residual = nearest(plain, [run for run in every if not run.arch.plain])
        if residual is not None:
            made.append(
                _between(
                    [plain, residual], measured, config, _costs_more,
                    statement=f'Without shortcuts a deletion costs more: {said[plain.arch]} against '
                    f'{said[residual.arch]}',
                    quantity='difference of the median increases of the error, percentage points',
                    expected='80 to 90 (VGG) against 0.4',
                )
            )  # fmt: skip
        if plain.data == 'cifar10':
            made.append(
                _error_without_one(
                    plain, config, expected='88 to 98 % (VGG)', accept=Interval(80.0, 100.0),
                    statement=f'A plain network ({said[plain.arch]}) does not survive losing one layer',
                )
            )  # fmt: skip
    return made


def _costs_more(runs: Sequence[Measured], chosen: np.ndarray | slice) -> float:
    plain, residual = (increase(run, inner(run), chosen) for run in runs)
    return plain - residual


def _between(
    compared: Sequence[Measured], measured: Sequence[Measured], config: ConfigDict, statistic: Callable, *,
    statement: str, **said: Any,
) -> Claim:  # fmt: skip
    """Of networks: seed by seed where there are enough of each, else by the test images of the one that is given."""
    by_seed = [{run.seed: run for run in measured if run.arch == each.arch} for each in compared]
    common = sorted(set.intersection(*map(set, by_seed)))
    if len(common) >= SEEDS:
        value, interval = all_seeds([statistic([runs[seed] for runs in by_seed], slice(None)) for seed in common])
        n = f'{len(common)} seeds'
    else:
        count = len(compared[0]['intact_right'])
        value, interval = bootstrap(partial(statistic, compared), count, config)
        statement, n = f'{statement}; one seed each', f'{count} test images'
    return Claim(
        statement=statement, source=f'{_veit.PAPER}, section 4.1', accept=ABOVE_ZERO, form='shape', measured=value,
        interval=interval, n=n, data=compared[0].data, figure='lesion_networks', **said,
    )  # fmt: skip


def _error_without_one(run: Measured, config: ConfigDict, **said: Any) -> Claim:
    """How wrong a network is that has lost one block."""
    return _over_examples(
        run, config, lambda chosen: np.median(error(run['single_right'][inner(run)][:, chosen])), section='4.1',
        quantity='median error after deleting one block, %', form='number', figure='networks', **said,
    )  # fmt: skip


def _twice_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of a block applied twice."""

    def cost(chosen: np.ndarray) -> float:
        with_two = np.median(error(run['twice_right'][:, chosen]))
        return float(with_two - error(run['intact_right'][chosen])) / _to_lose(run, chosen)

    return [
        _over_examples(
            run, config, cost, source=OURS, figure='each_block', form='shape', accept=LITTLE,
            statement='Applying one block twice typically costs little of what there is to lose',
            quantity='median increase of the error, as a share of the way to chance',
            expected='not in the paper; 0 where blocks refine an estimate',
        )
    ]  # fmt: skip


def _fresh_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of BN statistics taken anew: were they broken, or was the function needed?"""
    counts = run['count']
    if 'fresh_intact_right' not in run.arrays or not (counts <= RECALIBRATED).any():
        return []
    count = counts[counts <= RECALIBRATED].max()
    stale, fresh = (run[name][counts == count][0] for name in ('error_without_entry', 'fresh_error_without_entry'))
    intact, fresh_intact = error(run['intact_right']), error(run['fresh_intact_right'])

    def remains(chosen: np.ndarray) -> float:
        return float((np.median(fresh[chosen]) - fresh_intact) - (np.median(stale[chosen]) - intact) / 2)

    return [
        _over_draws(
            run, config, remains, source=OURS, form='shape', accept=ABOVE_ZERO,
            statement=f'The function of {count} deleted blocks is missed, not only BN statistics that fit: with '
            'fresh statistics more than half of the loss remains',
            quantity='median increase with fresh statistics minus half of that with the stored, percentage points',
            expected='not in the paper',
        )
    ]  # fmt: skip


def _pair_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of two blocks, beyond what each costs alone."""
    found, numbers, stages = interaction(run), run['pair'] - 1, np.array(run.arch.stage_of)
    kept = ~np.isin(numbers, run.arch.entry_blocks).any(axis=1)
    alike = stages[numbers[:, 0]] == stages[numbers[:, 1]]
    claim = partial(_over_examples, run, config, count=found.shape[1], figure='pairs', form='shape',
                    accept=ABOVE_ZERO)  # fmt: skip
    made = []
    if kept.any():
        each = found[kept].mean(axis=0)
        made.append(
            claim(
                lambda chosen: each[chosen].mean(), section='4.2',
                statement='Two blocks cost more together than each alone, summed: they stand in for one another',
                quantity='mean over pairs of err(i, j) - err(i) - err(j) + err(), percentage points',
                expected='above 0 (ten blocks +13 points, one +0.4)',
            )
        )  # fmt: skip
    if (kept & alike).any() and (kept & ~alike).any():
        apart = found[kept & alike].mean(axis=0) - found[kept & ~alike].mean(axis=0)
        made.append(
            claim(
                lambda chosen: apart[chosen].mean(), source='Greff et al. 2017, arXiv 1612.07771',
                statement='Blocks of one stage stand in for one another more than blocks of two stages',
                quantity='mean interaction within stages minus that between stages, percentage points',
                expected='above 0 where the blocks of a stage refine one estimate',
            )
        )  # fmt: skip
    return made


def _shapley_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of what blocks are worth."""
    pairs = run['shapley'].reshape(-1, 2, run['shapley'].shape[1]).mean(axis=1)
    entry, others = pairs[:, run['is_entry']], pairs[:, inner(run)]
    if not entry.size or len(pairs) < 2:
        return []

    def apart(chosen: np.ndarray) -> float:
        return float(entry[chosen].mean(axis=0).min() - np.median(others[chosen].mean(axis=0)))

    return [
        _claim(
            run, config, apart, len(pairs), n=f'{len(pairs)} random orders and their reverses', source=OURS,
            figure='shapley', form='shape', accept=ABOVE_ZERO,
            statement='Every block that enters a stage is worth more than most others',
            quantity='least Shapley value of an entry block minus the median of the others, percentage points',
            expected='above 0, as the paper finds of single deletions',
        )
    ]  # fmt: skip


def _to_lose(run: Measured, chosen: np.ndarray) -> float:
    """From the intact network's error to chance, percentage points."""
    return 100 * (1 - 1 / run.arch.classes) - float(error(run['intact_right'][chosen]))


def _over_examples(
    run: Measured, config: ConfigDict, statistic: Callable, *, count: int | None = None, **said: Any
) -> Claim:
    count = count or len(run['intact_right'])
    return _claim(run, config, statistic, count, n=f'{count} test images, {len(run["block"])} blocks', **said)


def _over_draws(run: Measured, config: ConfigDict, statistic: Callable, **said: Any) -> Claim:
    draws = run['error_without_entry'].shape[1]
    return _claim(run, config, statistic, draws, n=f'{draws} draws', figure='many_deletions', **said)


def _claim(
    run: Measured, config: ConfigDict, statistic: Callable[[np.ndarray], float], count: int, *, figure: str,
    section: str = '', source: str = '', **said: Any,
) -> Claim:  # fmt: skip
    """The claim that `said` states; its statistic takes numbers of examples, draws or orders, of which `count` are."""
    value, interval = bootstrap(statistic, count, config)
    return Claim(source=source or f'{_veit.PAPER}, section {section}', data=run.data, figure=f'lesion_{figure}',
                 measured=value, interval=interval, **said)  # fmt: skip
