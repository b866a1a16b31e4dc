"""A run's checkpoints, from the first step that was kept to the last, each with fresh BN statistics; claims of them.

BN's running statistics mean nothing at step 0, and lag behind while training goes on. So that all checkpoints are
measured alike, each has the statistics of the same training images as one batch, and is in evaluation then.
"""

from collections.abc import Sequence
from typing import Any

from experiments._twins import Pairs
from resnet_jax.analysis.recalibration import can_recalibrate, recalibrated
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import Claim
from resnet_jax.report.intervals import all_seeds
from resnet_jax.run import Run


def kept(run: Run) -> list[int]:
    """Their steps."""
    return sorted({step for step in run.config.run.snapshots if step < run.step} | {run.step})


def fresh(run: Run, step: int, images: int) -> dict:
    """The variables of a checkpoint, with the statistics of so many training images.

    Those stored where BN is no block's own, or something is dropped at random in training.
    """
    there = run.at(step).variables
    if not can_recalibrate(run.network.arch):
        return there
    batch, _ = run.examples('train', images)
    return recalibrated(run.network, there, [batch], run.network.intact_gates())


def fresh_note(images: int) -> str:
    return (
        f'Evaluation with BN statistics of {images} training images, taken anew at every checkpoint: the running ones '
        'mean nothing before the first step. Networks that share BN statistics, or drop something at random, keep '
        'those stored.'
    )


def ends(run: Measured) -> list[tuple[int, str]]:
    """The first and the last of those measured, as places in the arrays, and what a figure says of each."""
    steps = run['step']
    return [(place, f'step {steps[place]}') for place in ((0, -1) if len(steps) > 1 else (-1,))]


def claimed(pairs: Pairs) -> list[tuple[int, str]]:
    """Those of which something is claimed, and what a statement says of each: step 0, where all have it; the last."""
    started = all(run['step'][0] == 0 and run.step > 0 for pair in pairs for run in pair)
    return [*([(0, 'before training')] if started else []), (-1, 'after training')]


def claim_of_seeds(values: Sequence[float], *, images: int, **said: Any) -> Claim:
    """Of something's form, that must hold in every seed: a value each, measured on so many images."""
    value, interval = all_seeds(values)
    n = f'{len(values)} seed{"s" if len(values) > 1 else ""}, {images} images'
    return Claim(measured=value, interval=interval, n=n, form='shape', **said)
