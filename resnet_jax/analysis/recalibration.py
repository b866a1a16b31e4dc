"""Recalibration: a lesioned network whose BN statistics are taken anew, without training.

A lesion leaves later blocks an input of another mean and variance than their BN expects. With fresh statistics of
training images the network tells what is lost for want of the function from what is lost for stale statistics.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from resnet_jax.analysis.lesion import delete
from resnet_jax.analysis.shares import Part, dealt, spread
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from resnet_jax.progress import Progress, silent


def can_recalibrate(arch: Architecture) -> bool:
    """Has it BN of its own in every block, and is nothing dropped at random in training mode?"""
    return arch.norm == 'batch' and arch.share != 'all' and not arch.draws


def recalibrated(
    network: ResNet, variables: dict, batches: Sequence[Float[Array, 'batch h w c']], gates: Gates
) -> dict:
    """The variables with BN statistics that are means over these batches, each in training mode under `gates`.

    Args:
      batches: of training images, all of one size, as the network takes them.
      gates: of shape (blocks,).
    """
    return variables | {'batch_stats': _mean_statistics(_forgetful(network), variables, batches, gates)}


def recalibrated_sweep(
    network: ResNet,
    variables: dict,
    batches: Sequence[Float[Array, 'batch h w c']],
    parts: Iterable[Part],
    lesions: Bool[np.ndarray, 'lesions blocks'],
    *,
    progress: Progress = silent,
) -> Bool[np.ndarray, 'lesions examples']:
    """Which examples of `parts` are right after each lesion and fresh statistics of `batches`.

    A lesion of no block is the control: the intact network, recalibrated.
    """
    parts, rows = list(dealt(parts, math.inf)), []
    for number, lesion in enumerate(lesions, start=1):
        gates = delete(network.intact_gates(), lesion)
        fresh = recalibrated(network, variables, batches, gates)
        right = [_right(network, fresh, images, labels, gates) for images, labels in parts]
        rows.append(np.concatenate(jax.device_get(right)))
        if number % 8 == 0 or number == len(lesions):
            progress('recalibrating', number, len(lesions))
    return np.stack(rows)


def _forgetful(network: ResNet) -> ResNet:
    """The network whose running statistics are those of the last batch, taken as a whole."""
    return replace(network, arch=replace(network.arch, norm_momentum=0.0, norm_examples=0))


def _mean_statistics(network: ResNet, variables: dict, batches: Sequence, gates: Gates) -> dict:
    total = _statistics(network, variables, spread(batches[0]), gates)
    for images in batches[1:]:
        total = jax.tree.map(jnp.add, total, _statistics(network, variables, spread(images), gates))
    return jax.tree.map(lambda leaf: leaf / len(batches), total)


@partial(jax.jit, static_argnames='network')
def _statistics(network, variables, images, gates):
    _, updates = network.apply(variables, images, gates, train=True, mutable=['batch_stats'])
    return updates['batch_stats']


@partial(jax.jit, static_argnames='network')
def _right(network, variables, images, labels, gates):
    return jnp.argmax(network.apply(variables, images, gates, train=False), axis=-1) == labels
