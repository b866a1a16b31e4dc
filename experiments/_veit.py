"""Veit, Wilber & Belongie 2016, whose measurements lesion, permutation and paths repeat: their network and data."""

from resnet_jax.experiment import Measured

PAPER = 'Veit et al. 2016, arXiv 1605.06431'


def is_theirs(run: Measured) -> bool:
    """Is it the network and the data, all of them, of which the paper gives numbers?"""
    if run.config is None or run.config.data.classes or run.config.data.examples:
        return False
    return (run.data, run.title) == ('cifar10', 'preact_resnet110')


def note(run: Measured) -> str:
    """In how far what was measured is what the paper measured."""
    if run.config and is_theirs(run):
        return (
            f'Its training is that of all experiments here ({run.step:,} steps, {run.config.data.selection:,} images '
            f"held out, images less their {run.config.data.normalize}'s mean), which is He et al. 2016's, not the "
            "paper's own: configs/cifar10.py:veit2016 has that."
        )
    return (
        f"The paper's numbers are of a pre-activation ResNet-110 on CIFAR-10; on {run.data} with {run.title} only the "
        'shape of a claim is tested.'
    )
