"""SGD as in the papers: momentum on the gradient of loss plus decay, times the learning rate."""

from collections.abc import Sequence
from functools import partial

import jax
import optax
from ml_collections import ConfigDict

from resnet_jax.train.schedule import learning_rate


def sgd(train: ConfigDict) -> optax.GradientTransformation:
    """g <- g + decay * p;  m <- momentum * m + g;  p <- p - rate * m  (torch's SGD; Nesterov: g + momentum * m)."""
    mask = None if train.decay_norm_and_bias else is_kernel
    moved = optax.chain(
        optax.add_decayed_weights(train.weight_decay, mask),
        optax.sgd(learning_rate(train.schedule), momentum=train.momentum, nesterov=train.nesterov),
    )
    if not train.frozen:
        return moved
    # Not a gradient of 0 alone: decay would move what is frozen.
    return optax.chain(moved, optax.masked(optax.set_to_zero(), partial(is_part, parts=train.frozen)))


def is_part(params: dict, parts: Sequence[str]) -> dict:
    """True for all parameters of these parts (stem, stage1, …, head)."""
    return {name: jax.tree.map(lambda _, name=name: name in parts, tree) for name, tree in params.items()}


def is_kernel(params: dict) -> dict:
    """True for the kernels of convolutions and dense layers, False for BN's scale and every bias."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)
