"""Removal: blocks taken away one after the other, until nothing is left; how few keep the accuracy?

An order is the blocks' indices (from 0), the first to go first. Deleting is as in `lesion`: nothing is trained again.
"""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int

from resnet_jax.analysis.lesion import deletable, delete
from resnet_jax.analysis.shares import Part
from resnet_jax.analysis.sweep import lesioned_logits, split
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.suffix import block_inputs
from resnet_jax.progress import Progress, silent


def costs(
    network: ResNet, variables: dict, parts: Iterable[Part], removed: Bool[np.ndarray, ' blocks']
) -> Float[np.ndarray, 'blocks 2']:
    """What each further deletion leaves: error in percent, and mean cross-entropy; inf for what cannot be deleted.

    Each is entered at its own block, from what the network without `removed` gives that block: half of as many whole
    networks. What is removed is data: a stage is compiled once.
    """
    arch = network.arch
    candidates, found, examples = np.flatnonzero(deletable(arch) & ~removed), [], 0
    for images, labels in parts:
        inputs = _inputs(network, variables, images, removed)
        rows = []
        for block in candidates:
            stage = arch.stage_of[block]
            lesion = removed.copy()
            lesion[block] = True
            rows.append(_cost(network, variables, inputs[stage], int(block), lesion, labels, stage=stage,
                              at_entry=int(block) in arch.entry_blocks))  # fmt: skip
        found.append(np.array(jax.device_get(rows)))
        examples += len(labels)
    left = np.full((arch.blocks, 2), np.inf)
    left[candidates] = np.sum(found, axis=0) / examples * (100, 1)
    return left


def greedy(
    network: ResNet, variables: dict, parts: Iterable[Part], *, progress: Progress = silent
) -> tuple[Int[np.ndarray, ' steps'], Float[np.ndarray, 'steps 2']]:
    """Removes at each step the block that then costs least: the first of `cheapest` of `costs`.

    n blocks cost n (n + 1) / 2 suffixes of the network. At a given number of blocks, others may be better.

    Returns:
      The order, and what each step leaves: error in percent, and mean cross-entropy.
    """
    parts = list(split(network, variables, parts))
    removed, order, left = np.zeros(network.arch.blocks, bool), [], []
    total = int(deletable(network.arch).sum())
    for step in range(total):
        after = costs(network, variables, parts, removed)
        order.append(int(cheapest(after)[0]))
        left.append(after[order[-1]])
        removed[order[-1]] = True
        progress('removing blocks', step + 1, total)
    return np.array(order, int), np.array(left).reshape(-1, 2)


def cheapest(left: Float[np.ndarray, 'blocks 2']) -> Int[np.ndarray, ' steps']:
    """The blocks that can be deleted by what their deletion leaves: fewest errors first, of equals least loss."""
    order = np.lexsort((left[:, 1], left[:, 0]))
    return order[np.isfinite(left[order, 0])]


def smallest(arch: Architecture, sizes: Float[np.ndarray, ' blocks']) -> Int[np.ndarray, ' steps']:
    """The blocks that can be deleted by what they add, least first."""
    order = np.argsort(sizes, kind='stable')
    return order[deletable(arch)[order]]


def cuts(arch: Architecture) -> Bool[np.ndarray, 'lesions blocks']:
    """The lesions that leave of each stage its first block, its first two, … all: a network cut to a lesser depth."""
    place = np.concatenate([np.arange(blocks) for blocks in arch.stage_blocks])
    return place >= np.arange(1, max(arch.stage_blocks) + 1)[:, None]


@partial(jax.jit, static_argnames='network')
def _inputs(network, variables, images, removed):
    return block_inputs(network, variables, images, delete(network.intact_gates(), removed))[1]


@partial(jax.jit, static_argnames=('network', 'stage', 'at_entry'))
def _cost(network, variables, inputs, start, lesion, labels, *, stage: int, at_entry: bool):
    """(errors, cross-entropy), summed over examples."""
    gates = delete(network.intact_gates(), lesion)
    logits = lesioned_logits(network, variables, inputs, start, gates, stage=stage, at_entry=at_entry)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    wrong = jnp.argmax(logits, axis=-1) != labels
    return jnp.stack([jnp.sum(wrong).astype(losses.dtype), jnp.sum(losses)])
