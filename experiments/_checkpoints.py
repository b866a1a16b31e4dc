"""A run's checkpoints, from the first step that was kept to the last, each with fresh BN statistics.

BN's running statistics mean nothing at step 0, and lag behind while training goes on. So that all checkpoints are
measured alike, each has the statistics of the same training images as one batch, and is in evaluation then.
"""

from resnet_jax.analysis.recalibration import can_recalibrate, recalibrated
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
