"""The claims of the amplifier experiment, and the statistics that are held against them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from experiments._checkpoints import claim_of_seeds, claimed
from experiments._twins import Networks, Pairs, has_body, neighbours, networks, twins
from resnet_jax.analysis.gradients import adds_to_identity
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import ABOVE_ZERO, Claim, Interval
from resnet_jax.report.intervals import over_seeds

PROJECT = 'a hypothesis of this project'
PHILIPP = 'Philipp et al. 2017, arXiv 1712.05577'
FIELD = 'Yang & Schoenholz 2017, arXiv 1712.08969'
MEAN_FIELD, ALIKE = 0.02, Interval(0.8, 1.2)

Statistic = Callable[[Measured, int], float]


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Seed by seed; what is said must hold in all seeds. Of twins, the deepest."""
    claim = partial(claim_of_seeds, data=measured[0].data, images=config.examples, accept=ABOVE_ZERO)
    pairs = twins(measured)
    made = _twin_claims(max(pairs), pairs[max(pairs)], claim) if pairs else []
    return made + _depth_claims(measured, claim) + _growth_claims(measured, claim) + _field_claims(measured, config)


def _twin_claims(depth: int, pairs: Pairs, claim: Callable[..., Claim]) -> list[Claim]:
    """Of residual networks, and against their plain twins."""
    compared: list[tuple[str, str, str, Statistic]] = [
        ('amplify a random change more', 'relative gain from the image to the logits', 'depth',
         partial(end_to_end, name='random_relative')),
        ('amplify an adversarial change more', 'relative gain from the image to the logits', 'depth',
         partial(end_to_end, name='adversarial_relative')),
        ('amplify a random change more block by block', 'gain of a block, median over blocks', 'blocks', of_blocks),
        ('have probabilities that depend more on the image', 'mean ‖∂softmax/∂image‖_F', 'depth', of_softmax),
    ]  # fmt: skip
    made = []
    for place, when in claimed(pairs):
        made.append(
            claim(
                [end_to_end(run, place, 'random_relative') for run, _ in pairs], figure='amplifier_depth',
                statement=f'A residual network amplifies small random changes ({depth} layers, {when})', source=PROJECT,
                quantity='log10 of the relative gain from the image to the logits', expected='above 0',
            )
        )  # fmt: skip
        made += [
            claim(
                [statistic(run, place) - statistic(plain, place) for run, plain in pairs],
                statement=f'Residual networks {what} than plain ones ({depth} layers, {when})', source=PROJECT,
                quantity=f'log10 of the ratio, residual to plain: {quantity}', expected='above 0',
                figure=f'amplifier_{figure}',
            )
            for what, quantity, figure, statistic in compared
        ]  # fmt: skip
        made.append(
            claim(
                [slope(plain, place) - slope(run, place) for run, plain in pairs], source=PHILIPP,
                statement='The gradient scale coefficient grows faster with depth in plain networks than in residual '
                f'ones ({depth} layers, {when})',
                quantity='difference of the slopes of its log10 by the block, plain minus residual',
                expected='above 0', figure='amplifier_places',
            )
        )  # fmt: skip
    return made


def _depth_claims(measured: Sequence[Measured], claim: Callable[..., Claim]) -> list[Claim]:
    """Of residual networks of several depths, after training."""
    return [
        claim(
            [end_to_end(other, -1, 'random_relative') - end_to_end(one, -1, 'random_relative') for one, other in pairs],
            statement=f'The deeper residual network amplifies more ({deep} layers against {shallow}, after training)',
            source=PROJECT, quantity='log10 of the ratio of the relative gains to the logits, deep to shallow',
            expected='above 0', figure='amplifier_depth',
        )
        for (shallow, deep), pairs in neighbours(measured).items()
    ]  # fmt: skip


def _growth_claims(measured: Sequence[Measured], claim: Callable[..., Claim]) -> list[Claim]:
    """Of each network that adds to the identity, before training."""
    return [
        claim(
            [growth(run, 'back') / growth(run, 'forward') for run in runs], figure='amplifier_growth',
            source=f'{PROJECT}, after {FIELD}, whose layers have no BN',
            statement='Before training a block multiplies the squared gradient as it multiplies the squared norm '
            f'({name})',
            quantity='log of the growth back over that of the growth forward, all blocks but entry blocks',
            expected='1: both by 1 + σ_v²σ_w²/2', accept=ALIKE,
        )
        for name, runs in adding(measured).items()
        if all(run['step'][0] == 0 and run.step > 0 for run in runs)
    ]  # fmt: skip


def _field_claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of wide random layers."""
    expected, made = 1 + config.variance**2 / 2, []
    for way, what in (('forward', 'squared norm'), ('back', 'squared gradient, on its way back,')):
        # No seeds but layers: each has weights of its own.
        value, interval = over_seeds(layers := random_layers(measured, way).ravel())
        made.append(
            Claim(
                statement=f'A wide random ReLU residual layer multiplies the {what} by 1 + σ_v²σ_w²/2', source=FIELD,
                quantity='factor of a layer, mean over layers', expected=f'{expected:g}',
                accept=Interval(expected * (1 - MEAN_FIELD), expected * (1 + MEAN_FIELD)), form='number',
                measured=value, interval=interval, data='synthetic', figure='amplifier_mean_field',
                n=f'{len(layers)} layers of width {config.width}, each with random weights of its own',
            )
        )  # fmt: skip
    return made


def adding(measured: Sequence[Measured]) -> Networks:
    """The networks that add to the identity in some block, the deepest first."""
    there = networks(measured)
    return {name: runs for name, runs in there.items() if adds_to_identity(runs[0].arch) and has_body(runs[0])}


def random_layers(measured: Sequence[Measured], way: str) -> np.ndarray:
    """What each random layer multiplies by, (network, layer); they stand beside the main run."""
    return measured[0][f'mean_field_{way}']


def end_to_end(run: Measured, checkpoint: int, name: str) -> float:
    """log10 of the relative gain from the image to the logits."""
    return float(np.log10(run[name][checkpoint, -1]))


def of_blocks(run: Measured, checkpoint: int) -> float:
    """log10 of the gain of a block for random changes, median over the blocks that enter no stage (else over all)."""
    inner = np.setdiff1d(np.arange(run.arch.blocks), run.arch.entry_blocks)
    rms = run['block_rms'][checkpoint]
    return float(np.median(np.log10(rms[inner] if len(inner) else rms)))


def of_softmax(run: Measured, checkpoint: int) -> float:
    """log10 of the mean norm of ∂softmax/∂image."""
    return float(np.log10(run['softmax'][checkpoint]))


def slope(run: Measured, checkpoint: int) -> float:
    """Of log10 of the gradient scale coefficient from the image to each block's input, and the head's, by the block."""
    states = np.log10(run['random_relative'][checkpoint, 1:-1])
    return float(np.polyfit(np.arange(len(states)), states, 1)[0])


def growth(run: Measured, way: str) -> float:
    """Sum over all blocks but entry blocks of the log of what each multiplies by, at the first checkpoint."""
    inner = np.setdiff1d(np.arange(run.arch.blocks), run.arch.entry_blocks)
    return float(np.sum(np.log(run[f'growth_{way}'][0, inner])))
