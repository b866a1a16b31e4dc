"""Where a batch first went wrong: the layer whose parameters, output or gradient is not finite."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict, FrozenConfigDict

from resnet_jax.data.augment import Normalization
from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.gradient import Targets, gradient, lower, lowered
from resnet_jax.train.state import TrainState
from resnet_jax.train.step import draws_of, prepared

Found = dict[str, Any]  # a tree of arrays as the network's parameters are, True where something is not finite


def diagnosis(
    network: ResNet,
    config: ConfigDict,
    state: TrainState,
    batch: tuple[Array, Array],
    normalization: Normalization,
) -> str:
    """The first layer in network order that is not finite on a batch that was skipped; of gradients the last: they come
    from behind.

    Args:
      state: right after that batch, which changed no variable of it.
      batch: as the data gave it, images and labels.
    """
    find = _finder(network.arch, network.frozen, FrozenConfigDict(config))
    before = state._replace(step=state.step - 1)
    params, outputs, slopes = jax.device_get(find(before, *batch, normalization))
    names = [layer.name for layer in counts.layers(network.arch)]
    for what, found, order in (
        ('the parameters of', params, names),
        ('the output of', outputs, names),
        ('the gradient of', slopes, names[::-1]),
    ):
        for name in order:
            if _is_bad(found, name):
                return f'{what} {name}'
    return 'the loss'


@cache
def _finder(arch: Architecture, frozen: tuple[str, ...], config: FrozenConfigDict) -> Callable:
    """Of a network that scans: scans alone keep what their layers give."""
    return jax.jit(partial(_find, ResNet(arch, 1, frozen), config))


def _find(network: ResNet, config: FrozenConfigDict, state: TrainState, images, labels, normalization) -> tuple:
    """What is not finite of parameters, outputs and gradient, over all microbatches."""
    images, targets, gates = prepared(network, config, state, images, labels, normalization)
    compute, parts = config.train.compute, config.train.microbatches
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    given = {**variables, 'params': lower(state.params, compute)}
    draws, found = draws_of(state), []
    for number in range(parts):
        part = jax.tree.map(lambda leaf, n=number: jnp.split(leaf, parts)[n], (images, targets.labels, targets.classes))
        key = draws if parts == 1 else jax.random.fold_in(draws, number)
        _, seen = network.apply(
            given, lowered(part[0], compute), gates, train=True, mutable=['batch_stats', 'intermediates'],
            rngs={'dropout': key}, capture_intermediates=True,
        )  # fmt: skip
        wanted = Targets(part[1], part[2], targets.loss)
        slope = gradient(
            network, state.params, state.batch_stats, part[0], wanted, key, gates, compute=compute
        ).gradient  # fmt: skip
        found.append((_bad(state.params), _bad(dict(seen['intermediates'])), _bad(slope)))
    return jax.tree.map(lambda *each: jnp.any(jnp.stack(each), axis=0), *found)


def _bad(tree: dict) -> Found:
    """By leaf; of the stacked leaves of a body, by block."""

    def each(path: tuple, leaf: Array) -> Array:
        axes = tuple(range(1 if any(getattr(step, 'key', None) == 'body' for step in path) else 0, leaf.ndim))
        return ~jnp.all(jnp.isfinite(leaf), axis=axes)

    return jax.tree_util.tree_map_with_path(each, tree)


def _is_bad(found: Found, name: str) -> bool:
    """Is anything of a layer (`stage1/block3/conv2`) not finite?"""
    part, *inner = name.split('/')
    node, block = found.get(part, {}), None
    if inner and inner[0].startswith('block'):
        number = int(inner.pop(0).removeprefix('block'))
        node, block = node.get('entry' if number == 1 else 'body', {}), number - 2
    for step in inner:
        node = node.get(step, {})
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(node)]
    return any(bool(leaf[block] if block is not None and block >= 0 and leaf.ndim else leaf.any()) for leaf in leaves)
