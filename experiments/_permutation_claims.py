"""The claims of the permutation experiment: what the paper says of orders, and the statistics held against it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments import _veit
from experiments._networks import names
from resnet_jax.experiment import Measured, by_network
from resnet_jax.report.claims import ABOVE_ZERO, BELOW_ZERO, Claim, Interval
from resnet_jax.report.intervals import bootstrap

PAPER = f'{_veit.PAPER}, section 4.3'


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of the main network; and of plain and residual twins, where both are there."""
    run, every = measured[0], networks(measured)
    claim = partial(_claim, config, run)
    made = [_plain_claim(plain, residual, claim) for plain, residual in _twins(every)]
    if run.arch.plain:
        return made
    rank = partial(claim, rank_correlation(run, 'tau'), quantity='Spearman correlation of τ and error',
                   expected='-0.80', figure='order')  # fmt: skip
    if _veit.is_theirs(run):
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


def rank_correlation(run: Measured, name: str) -> Callable[[np.ndarray], float]:
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
        f'{count}; one seed each',
        quantity='difference of the median increases of the error, each as a share of the way to chance',
        expected='not in the paper; above 0 as for deletions', accept=ABOVE_ZERO,
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


def networks(measured: Sequence[Measured]) -> list[Measured]:
    """One run of each network that has blocks to swap, the main one first."""
    others = [runs[0] for runs in by_network(measured[1:]).values() if runs[0].arch != measured[0].arch]
    others = [run for run in others if len(run['swaps'])]
    return [measured[0], *sorted(others, key=lambda run: (run.arch.plain, run.depth))]


def _twins(every: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    """Plain networks, each with the residual one of its stages and placement."""
    return [
        (plain, residual)
        for plain in every
        for residual in every
        if plain.arch.plain and not residual.arch.plain and plain.arch == replace(residual.arch, shortcut='none')
    ]
