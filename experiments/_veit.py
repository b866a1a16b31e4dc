"""Veit, Wilber & Belongie 2016, whose measurements lesion, permutation and paths repeat: their network and data."""

from resnet_jax.experiment import Measured

PAPER = 'Veit et al. 2016, arXiv 1605.06431'


def is_theirs(run: Measured) -> bool:
    """Is it the network and the data of which the paper gives numbers?"""
    return (run.data, run.title) == ('cifar10', 'preact_resnet110')


def note(run: Measured) -> str:
    """What is said of a run that is not."""
    return (
        f"The paper's numbers are of a pre-activation ResNet-110 on CIFAR-10; on {run.data} with {run.title} only the "
        'shape of a claim is tested.'
    )
