"""The claims of the lesion experiment beyond the paper: blocks applied twice, fresh statistics, pairs, their worth."""

from functools import partial

import numpy as np
from ml_collections import ConfigDict

from experiments._lesion_measure import error, inner, interaction
from experiments._lesion_statistics import LITTLE, OURS, claim_of, over_draws, over_examples, to_lose
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import ABOVE_ZERO, Claim

RECALIBRATED = 10  # how many blocks are deleted where fresh statistics are judged, or the most below that there are


def twice_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of a block applied twice."""

    def cost(chosen: np.ndarray) -> float:
        with_two = np.median(error(run['twice_right'][:, chosen]))
        return float(with_two - error(run['intact_right'][chosen])) / to_lose(run, chosen)

    return [
        over_examples(
            run, config, cost, source=OURS, figure='each_block', form='shape', accept=LITTLE,
            statement='Applying one block twice typically costs little of what there is to lose',
            quantity='median increase of the error, as a share of the way to chance',
            expected='not in the paper; 0 where blocks refine an estimate',
        )
    ]  # fmt: skip


def fresh_claims(run: Measured, config: ConfigDict) -> list[Claim]:
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
        over_draws(
            run, config, remains, source=OURS, form='shape', accept=ABOVE_ZERO,
            statement=f'The function of {count} deleted blocks is missed, not only BN statistics that fit: with '
            'fresh statistics more than half of the loss remains',
            quantity='median increase with fresh statistics minus half of that with the stored, percentage points',
            expected='not in the paper',
        )
    ]  # fmt: skip


def pair_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of two blocks, beyond what each costs alone."""
    found, numbers, stages = interaction(run), run['pair'] - 1, np.array(run.arch.stage_of)
    kept = ~np.isin(numbers, run.arch.entry_blocks).any(axis=1)
    alike = stages[numbers[:, 0]] == stages[numbers[:, 1]]
    claim = partial(over_examples, run, config, count=found.shape[1], figure='pairs', form='shape',
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


def shapley_claims(run: Measured, config: ConfigDict) -> list[Claim]:
    """Of what blocks are worth."""
    pairs = run['shapley'].reshape(-1, 2, run['shapley'].shape[1]).mean(axis=1)
    entry, others = pairs[:, run['is_entry']], pairs[:, inner(run)]
    if not entry.size or len(pairs) < 2:
        return []

    def apart(chosen: np.ndarray) -> float:
        return float(entry[chosen].mean(axis=0).min() - np.median(others[chosen].mean(axis=0)))

    return [
        claim_of(
            run, config, apart, len(pairs), n=f'{len(pairs)} random orders and their reverses', source=OURS,
            figure='shapley', form='shape', accept=ABOVE_ZERO,
            statement='Every block that enters a stage is worth more than most others',
            quantity='least Shapley value of an entry block minus the median of the others, percentage points',
            expected='above 0, as the paper finds of single deletions',
        )
    ]  # fmt: skip
