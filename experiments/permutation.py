"""Permutation: does the order of blocks matter?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks"
(arXiv 1605.06431), section 4.3. In a trained network k random pairs of blocks of equal shape are swapped, one after
the other, k = 1 to 10, with nothing trained again and BN's statistics as stored; blocks that enter a stage stay. A
pair is drawn among all pairs of two blocks of one stage. The error is held against Kendall's rank correlation τ of the
order of all blocks with the trained one, and against Σ|a - b|, how far apart the swapped blocks stood.

Beyond the paper: the same in a shallower network, and in a plain one.

    resnet-jax experiment permutation                       # on the networks it names, trained where they are missing
    resnet-jax experiment permutation --run runs/digits     # on a run of yours

What is claimed: _permutation_claims.py. The figures: _permutation_figures.py.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from experiments import _veit
from experiments._lesion_measure import error
from experiments._networks import names, network
from experiments._permutation_claims import claims, networks, rank_correlation
from experiments._permutation_figures import figures
from resnet_jax.analysis import order
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.models.architecture import Architecture
from resnet_jax.progress import Progress
from resnet_jax.report.findings import Array, Plain
from resnet_jax.run import Run

__all__ = ['TITLE', 'check', 'claims', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'Reordering blocks'


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


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The short table."""
    run, every = measured[0], networks(measured)
    everything = np.arange(run['error'].size)
    table: dict[str, Plain] = {'test error, trained order': f'{run["intact_error"]:.2f} %'}
    for count in (1, 5, 10):
        if count in run['swaps']:
            drawn = run['error'][run['swaps'] == count]
            taus = np.median(run['tau'][run['swaps'] == count])
            table[f'pairs swapped: {count}, median'] = f'{np.median(drawn):.1f} % (τ {taus:.3f}, {drawn.size} draws)'
    for name, label in (('tau', 'τ'), ('distance', 'Σ|a - b|')):
        table[f'Spearman of {label} and error'] = f'{rank_correlation(run, name)(everything):.2f}'
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
    said.append(_veit.note(run))
    return said
