"""Layers one by one: of a stage's body, whose leaves hold the layers of many blocks, each block's alone."""

from collections.abc import Callable

import jax
from jaxtyping import Array

from resnet_jax.models.stage import SHARED


def per_layer(change: Callable[..., Array], params: dict, *others: dict, share: str) -> dict:
    """`change(leaf, *leaves of the others)` of every leaf of every layer; the block axis is never mixed.

    Args:
      params: of a whole network, `{'stem', 'stage1', …, 'head'}`.
      others: trees of the same structure.
      share: what the blocks of a body share (`network.share`): that has no block axis.
    """

    def each(path: tuple, *leaves: Array) -> Array:
        return (jax.vmap(change) if _stacked(params, path, share) else change)(*leaves)

    return jax.tree_util.tree_map_with_path(each, params, *others)


def _stacked(params: dict, path: tuple, share: str) -> bool:
    """Has this leaf a block axis?"""
    part, name, layer = (step.key for step in path[:3])
    if name != 'body' or 'params' in SHARED[share]:
        return False
    return share != 'kernels' or 'kernel' not in params[part][name][layer]
