"""The order of blocks: a trained network with the blocks of each stage's body in another order, or one of them twice.

An order is an array (stages, slots): for each stage which blocks of its body are applied, by their indices in network
order from 0, one after the other; -1 stands behind the last. It is data: one compiled program serves all orders. What
belongs to a block (parameters, BN statistics, gains that depend on its depth) goes with it. Entry blocks stay: they
change the shape, or the network ends.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy import stats

from resnet_jax.analysis.shares import Part, dealt
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.resnet import ResNet, head, stem
from resnet_jax.models.suffix import body_block, entry_block, part
from resnet_jax.progress import Progress, silent

NOTHING = -1
Order = Int[np.ndarray, 'stages slots']


def trained_order(arch: Architecture) -> Order:
    """The order that the network was trained in, with room for one block more in every stage."""
    order = np.full((arch.stages, max(arch.stage_blocks)), NOTHING)
    for row, first, count in zip(order, arch.entry_blocks, arch.stage_blocks, strict=True):
        row[: count - 1] = np.arange(first + 1, first + count)
    return order


def repeated(arch: Architecture, block: int) -> Order:
    """The trained order with one block of a body (index from 0) applied twice in a row, by the same variables."""
    order = trained_order(arch)
    stage, slot = np.argwhere(order == block)[0]
    order[stage, slot + 1 :] = order[stage, slot:-1].copy()
    return order


def random_swaps(rng: np.random.Generator, arch: Architecture, count: int) -> tuple[Order, int]:
    """The trained order after swapping, one after the other, two blocks that are drawn among all pairs of one stage.

    Returns:
      the order, and Σ|a - b| over the swaps: how far apart the swapped blocks stood.
    """
    order, distance = trained_order(arch), 0
    bodies = np.array(arch.stage_blocks) - 1
    chances = bodies * (bodies - 1) / 2
    for _ in range(count):
        stage = rng.choice(arch.stages, p=chances / chances.sum())
        a, b = rng.choice(bodies[stage], 2, replace=False)
        order[stage, [a, b]] = order[stage, [b, a]]
        distance += abs(int(a) - int(b))
    return order, distance


def kendall_tau(arch: Architecture, order: Order) -> float:
    """Kendall's rank correlation of an order of all blocks, the entry blocks included, with the trained one."""
    whole = [np.concatenate([[first], row[row != NOTHING]])
             for first, row in zip(arch.entry_blocks, order, strict=True)]  # fmt: skip
    return float(stats.kendalltau(np.arange(arch.blocks), np.concatenate(whole)).statistic)


def ordered_logits(
    network: ResNet, variables: dict, images: Float[Array, 'n h w c'], order: Int[Array, 'stages slots']
) -> Float[Array, 'n classes']:
    """The logits of the network with its blocks in that order, in evaluation."""
    arch, gates = network.arch, network.intact_gates()
    first: Any = stem(arch)
    x = first.apply(part(variables, 'stem'), images, train=False)
    for stage in range(arch.stages):
        x = entry_block(network, variables, stage, x, gates)
        if arch.stage_blocks[stage] > 1:
            x = _body(partial(body_block, network, variables, stage, gates=gates), x, order[stage])
    last: Any = head(arch)
    return last.apply(part(variables, 'head'), x, train=False)


def _body(apply, x: Array, row: Int[Array, ' slots']) -> Array:
    return jax.lax.fori_loop(0, jnp.sum(row != NOTHING), lambda slot, x: apply(x, row[slot]), x)


def order_sweep(
    network: ResNet,
    variables: dict,
    parts: Iterable[Part],
    orders: Int[np.ndarray, 'orders stages slots'],
    *,
    progress: Progress = silent,
) -> Bool[np.ndarray, 'orders examples']:
    """Which examples the network classifies rightly in each order."""
    found, done, parts = [], 0, list(dealt(parts, math.inf))
    for images, labels in parts:
        rows = []
        for order in orders:
            rows.append(_right(network, variables, images, labels, order))
            done += 1
            if done % 16 == 0 or done == len(orders) * len(parts):
                rows[-1].block_until_ready()
                progress('reordering blocks', done, len(orders) * len(parts))
        found.append(np.array(jax.device_get(rows), bool).reshape(len(orders), len(labels)))
    return np.concatenate(found, axis=1)


@partial(jax.jit, static_argnames='network')
def _right(network, variables, images, labels, order):
    return jnp.argmax(ordered_logits(network, variables, images, order), axis=-1) == labels
