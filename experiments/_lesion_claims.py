"""The claims of the lesion experiment: what the paper says of deletions, and the statistic that is held against it."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments import _veit
from experiments._lesion_beyond import fresh_claims, pair_claims, shapley_claims, twice_claims
from experiments._lesion_measure import increase, inner
from experiments._lesion_networks import depth_claims, shortcut_claims
from experiments._lesion_statistics import LITTLE, over_draws, over_examples, to_lose
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import ABOVE_ZERO, Claim, Interval


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """The claims on deletions that these networks and this dataset can decide."""
    run, made = measured[0], []
    if not run.arch.plain:
        made += _single_claims(run, config) + _many_claims(run, config)
    made += depth_claims(measured, config) + shortcut_claims(measured, config)
    if config.beyond and not run.arch.plain:
        made += twice_claims(run, config) + fresh_claims(run, config)
        made += pair_claims(run, config) + shapley_claims(run, config)
    return made


def _single_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of one block deleted."""
    which, entry = inner(run), run['is_entry']
    claim = partial(over_examples, run, config, section='4.1', figure='single_deletions')
    made = [
        claim(
            lambda chosen: increase(run, which, chosen) / to_lose(run, chosen),
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
    claim = partial(over_draws, run, config, section='4.2')

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
