"""Paths: how long are the paths that carry the gradient?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks"
(arXiv 1605.06431), section 5. A network of n blocks has 2ⁿ paths, most of them through about half of the blocks. As
in the paper, random paths of every length are drawn, and the gradient is let back along each: its norm by the image.
The number of paths of a length times their mean norm is what that length contributes. Beyond the paper, the vector
sum of all paths of each length is computed exactly: its norm says what is left where paths cancel each other.

Then networks are trained anew with short paths alone: each batch passes through a random subset of the blocks.

Deviations: the paper's norm is of a batch's gradient, with one path a batch, and it does not say in which mode BN is;
here it is of an example's gradient, with one path an example, in evaluation, where examples do not mix. Neither does
it say how a network is tested that was trained with subsets: here whole, with the statistics that it has.

    resnet-jax experiment paths                       # on the networks it names, trained where they are missing
    resnet-jax experiment paths --run runs/digits     # on a run of yours

How it is measured: _paths_measure.py. What is claimed: _paths_claims.py. How it is drawn: _paths_figures.py.
"""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments import _veit
from experiments._networks import network
from experiments._paths_claims import active_blocks, claims, contributions, fitted, pairs
from experiments._paths_figures import figures
from experiments._paths_measure import measure, measure_beside
from resnet_jax import spec
from resnet_jax.analysis import paths
from resnet_jax.experiment import Measured
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.findings import Plain

__all__ = [
    'TITLE', 'check', 'claims', 'figures', 'get_config', 'measure', 'measure_beside', 'notes', 'runs', 'summary',
]  # fmt: skip

TITLE = 'Paths of the gradient'


def get_config(tier: str) -> ConfigDict:
    """How many examples, and which networks are trained with a subset of their blocks."""
    return ConfigDict(
        {
            'tier': tier,
            'examples': {'cpu': 512, 'paper': 1000}[tier],  # of the training split: each takes a path of every length
            'summed': {'cpu': 128, 'paper': 1000}[tier],  # of these the exact sums
            'batch': {'cpu': 128, 'paper': 50}[tier],  # examples at once; the exact sums keep a gradient a length
            'recalibration': 1280,  # training images of which BN takes its statistics anew
            'network': 'preact_resnet110',
            'trained': {'cpu': 'preact_resnet56', 'paper': 'preact_resnet110'}[tier],  # whole, and by random subsets
            'active_blocks': {'cpu': 12, 'paper': 23}[tier],  # of 27, and of 54 as in the paper
            'seeds': (0, 1, 2),
            'seed': 0,
            'resamples': 2000,
            'confidence': 0.95,
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """The main network; another one, trained whole and with a random subset of its blocks a batch, by seed."""
    made = [network(config.tier, config.network)]
    for seed in config.seeds:
        whole, subset = (network(config.tier, config.trained, seed) for _ in range(2))
        subset.train.active_blocks = config.active_blocks
        made += [whole, subset]
    return list({spec.identity(each): each for each in made}.values())


def check(architectures: Sequence[Architecture]) -> None:
    """Of the main run; others are measured as far as it goes."""
    paths.check(architectures[0])


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The short table."""
    main = measured[0]
    blocks = main.arch.blocks
    table: dict[str, Plain] = {
        'paths': f'2^{blocks}; mean length {blocks / 2:g} blocks',
        'one more block multiplies the norm along a path by': f'{fitted(main["path_norm_image"])[1]:.2f}',
    }
    for place in ('image', 'first_block'):
        paper, exact = (contributions(main, kind, place) for kind in ('path_norm', 'sum_norm'))
        named = f'gradient by the {place.replace("_", " ")}'
        table[f'{named}, paths x mean norm'] = _lengths(paper)
        table[f'{named}, norm of the exact sums'] = _lengths(exact)
    table['sums of all lengths against the gradient'] = f'{np.max(main["rounding"]):.0e} of it apart (rounding)'
    for whole, subset in pairs(measured):
        active, blocks = active_blocks(subset), subset.arch.blocks
        table[f'{active} of {blocks} blocks a batch, {subset.depth} layers, seed {subset.seed}'] = (
            f'{_error(subset)} test error, trained whole {_error(whole)}; BN statistics anew '
            f'{_error(subset, "_fresh")}, branches weighted by {active / blocks:.2f} {_error(subset, "_weighted")}'
        )
    return table


def _error(run: Measured, kind: str = '') -> str:
    return f'{float(run[f"test_error{kind}"]):.2f} %'


def _lengths(weights: np.ndarray) -> str:
    return f'mean length {paths.mean_length(weights):.1f} blocks, peak at {int(np.argmax(weights))}'


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    main = measured[0]
    said = [
        f'{main["path_norm_image"].shape[1]} training images, evaluation mode; the gradient is that of an '
        "example's own cross-entropy by the image, and a norm is the mean over examples. Each takes one random path of "
        f'every length; the exact sums are of {main["sum_norm_image"].shape[1]} of them. Few paths bring most of the '
        f'mean. {config.confidence:.0%} intervals by bootstrap over examples; one trained network, one seed.',
        'The exact sums are no measurement of the paper: a norm of a sum is at most the sum of the norms. That their '
        "mean length is below half of the blocks is this project's own claim.",
        'Trained with a subset: every batch passes through that many blocks, drawn anew, entry blocks as any other; '
        'the others are deleted (y = shortcut(x)), though their BN statistics go on. The test error is that of the '
        'whole network. Not worse: by one percentage point at the most, an order above the difference in the paper '
        "(5.96 % against 6.10 %) and a few times the deviation of its seeds; that bound is not the paper's.",
    ]
    if not pairs(measured):
        said.append('Training with a subset of the blocks is compared where a run and its twin, which differs in '
                    'train.active_blocks alone, are both measured: without --run, they are.')  # fmt: skip
    said.append(_veit.note(main))
    return said
