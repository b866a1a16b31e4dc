"""Lesion: are residual networks resilient to losing any block?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks"
(arXiv 1605.06431), sections 4.1 and 4.2. A trained network loses blocks at test time, y <- shortcut(x), with
nothing trained again and BN's statistics as stored: each block alone, then random sets of k blocks, of the whole
network and of one stage. Blocks that enter a stage change the shape and are told apart. Networks of several depths are
compared, and plain ones, in which the signal passes beside a block where the shapes agree.

Beyond the paper: the same deletions with BN statistics taken anew from training images (were the statistics broken,
or the function needed?); each block applied twice; every two blocks (do their losses add up?); and the Shapley value
of every block.

    resnet-jax experiment lesion                       # on the networks it names, trained where they are missing
    resnet-jax experiment lesion --run runs/digits     # on a run of yours, and on those beside it
    resnet-jax experiment lesion --run runs/digits --config.beyond=False      # the paper's part alone, in seconds

How it is measured: _lesion_measure.py. What is claimed: _lesion_claims.py, of networks held against each other
_lesion_networks.py, beyond the paper _lesion_beyond.py. The figures: _lesion_figures.py.
"""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments import _veit
from experiments._lesion_claims import claims
from experiments._lesion_figures import figures
from experiments._lesion_measure import (
    error,
    inner,
    inner_blocks,
    interaction,
    measure,
    measure_beside,
    networks,
    single_errors,
)
from experiments._lesion_networks import shallow_to_deep
from experiments._networks import names, network
from resnet_jax.analysis import shapley
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.findings import Plain

__all__ = [
    'TITLE', 'check', 'claims', 'figures', 'get_config', 'measure', 'measure_beside', 'notes', 'runs', 'summary',
]  # fmt: skip

TITLE = 'Losing blocks'


def get_config(tier: str) -> ConfigDict:
    """How many blocks are deleted together, and how many draws of each."""
    return ConfigDict(
        {
            'tier': tier,
            'seeds': (0, 1, 2),  # by which networks are compared
            'beyond': True,  # what the paper has not: recalibration, blocks applied twice, pairs, Shapley values
            'counts': (1, 2, 3, 5, 7, 10, 12, 15, 18, 20),
            'stage_counts': (1, 5, 10, 15),  # of one stage
            'draws': {'cpu': 12, 'paper': 100}[tier],
            'recalibration_batches': {'cpu': 3, 'paper': 10}[tier],
            'recalibration_batch': 128,  # training images
            'examples': {'cpu': 180, 'paper': 1000}[tier],  # test images for pairs and Shapley values
            'order_pairs': {'cpu': 8, 'paper': 100}[tier],  # orders for Shapley values, each with its reverse
            'seed': 0,
            'resamples': 2000,
            'confidence': 0.95,
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """Three depths, and two plain networks, each by seed; on CIFAR-10 VGG too (digits are too small for it)."""
    of = [('preact_resnet110', {}), ('preact_resnet56', {}), ('preact_resnet20', {})]
    of += [(name, {'shortcut': 'none'}) for name in ('preact_resnet56', 'preact_resnet20')]
    of += [('vgg19_small', {})] if config.tier == 'paper' else []
    return [network(config.tier, name, seed, **settings) for name, settings in of for seed in config.seeds]


def check(architectures: Sequence[Architecture]) -> None:
    """The main network must have a block that can be deleted and enters no stage."""
    if not inner_blocks(architectures[0]).any():
        raise UserError(
            f'all blocks of this network (stage_blocks {list(architectures[0].stage_blocks)}) enter a stage; lesions '
            'need a stage of two blocks or more, as of 14 layers'
        )


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The short table."""
    run = measured[0]
    which, errors, examples = inner(run), single_errors(run), len(run['intact_right'])
    wrong = examples - int(run['intact_right'].sum())
    worst = run['block'][which][errors[which].argmax()]
    table: dict[str, Plain] = {
        'test error, intact': f'{error(run["intact_right"]):.2f} % ({wrong} of {examples})',
        'one block deleted, median': f'{np.median(errors[which]):.2f} % ({which.sum()} blocks, entry blocks apart)',
        'one block deleted, worst': f'{errors[which].max():.2f} % (block {worst})',
    }
    if run['is_entry'].any():
        named = zip(run['block'][run['is_entry']], errors[run['is_entry']], strict=True)
        table['an entry block deleted'] = ', '.join(f'{value:.1f} % (block {number})' for number, value in named)
    stages = [errors[which & (run['stage'] == stage)] for stage in range(1, run.arch.stages + 1)]
    table['one block deleted, median by stage'] = ', '.join(
        f'{np.median(each):.2f} %' if len(each) else 'none' for each in stages
    )
    for count in (5, 10, 20):
        if count in run['count']:
            of_count = run['count'] == count
            drawn = run['error_without_entry'][of_count]
            fresh = (
                f'; fresh BN statistics: {np.median(run["fresh_error_without_entry"][of_count]):.1f} %'
                if 'fresh_error_without_entry' in run.arrays else ''
            )  # fmt: skip
            table[f'{count} blocks deleted, median'] = f'{np.median(drawn):.1f} % ({drawn.size} draws){fresh}'
    return table | (_beyond(run) if config.beyond else {}) | _others(measured)


def _beyond(run: Measured) -> dict[str, Plain]:
    """What the paper has not."""
    table: dict[str, Plain] = {'one block applied twice, median': f'{np.median(error(run["twice_right"])):.2f} %'}
    if 'fresh_single_right' in run.arrays:
        fresh = np.median(error(run['fresh_single_right'][inner(run)]))
        intact = error(run['fresh_intact_right'])
        table['one block deleted, fresh BN statistics, median'] = f'{fresh:.2f} % (intact {intact:.2f} %)'
    kept = ~np.isin(run['pair'] - 1, run.arch.entry_blocks).any(axis=1)
    if kept.any():
        found = interaction(run)[kept].mean(axis=1)
        table['interaction of two blocks, mean'] = f'{found.mean():.3f} points ({kept.sum()} pairs, no entry block)'
    values, errors = shapley.estimate(run['shapley'])
    first = values.argmax()
    table['largest Shapley value'] = (
        f'{values[first]:.1f} ± {errors[first]:.1f} points (block {run["block"][first]}; all sum to {values.sum():.1f})'
    )
    return table


def _others(measured: Sequence[Measured]) -> dict[str, Plain]:
    every = networks(measured)
    return {
        f'{name}, one block deleted, median': f'{np.median(single_errors(run)[inner(run)]):.2f} % (intact '
        f'{error(run["intact_right"]):.2f} %)'
        for name, run in list(zip(names(every), every, strict=True))[1:]
    }


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    run = measured[0]
    said = [
        f'Evaluation mode, stored BN statistics, nothing trained again. {config.draws} draws for every k; '
        f'{config.confidence:.0%} intervals by bootstrap, over examples for single deletions and pairs (paired with '
        'the intact network) and over draws for several, of one trained network. Networks are compared seed by seed '
        'where three seeds of each are measured (the range of all), else by the images of one each, and the claim says '
        'so.',
        "Costs little: at most a tenth of the way to chance. That bound is this project's, not the paper's, and was "
        'set after the digits had been seen: on digits it illustrates, and tests nothing new. Half of the loss, the '
        "sign of interactions and the worth of entry blocks are this project's too.",
        f'Fresh BN statistics: means over {config.recalibration_batches} batches of {config.recalibration_batch} '
        'training images without augmentation, of the lesioned network in training mode; the intact network is held '
        'against itself treated so.',
        f'Pairs and Shapley values: the first {config.examples} images of the test split. The worth of a set of blocks '
        'is the accuracy with the others deleted; all blocks that can be deleted play, entry blocks too. Standard '
        'errors are over orders, not over images or seeds.',
    ]
    said.append(_veit.note(run))
    if not shallow_to_deep(measured) or not any(each.arch.plain for each in networks(measured)):
        said.append(
            'That resilience grows with depth, and that a plain network has none, is tested where the directory of '
            'this run has beside it runs of another depth, or plain ones, that are otherwise trained alike.'
        )
    return said
