"""The optimizers: SGD as in the papers, and LAMB for large batches."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from resnet_jax.models.per_layer import per_layer
from resnet_jax.train.schedule import learning_rate


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of a validated config; what is frozen does not move."""
    train = config.train
    moved = sgd(train) if train.optimizer == 'sgd' else lamb(train, config.network.share)
    if not train.frozen:
        return moved
    # Not a gradient of 0 alone: decay would move what is frozen.
    return optax.chain(moved, optax.masked(optax.set_to_zero(), partial(is_part, parts=train.frozen)))


def sgd(train: ConfigDict) -> optax.GradientTransformation:
    """g <- g + decay * p;  m <- momentum * m + g;  p <- p - rate * m  (torch's SGD; Nesterov: g + momentum * m)."""
    return optax.chain(
        optax.add_decayed_weights(train.weight_decay, _decayed(train)),
        optax.sgd(learning_rate(train.schedule), momentum=train.momentum, nesterov=train.nesterov),
    )


def lamb(train: ConfigDict, share: str) -> optax.GradientTransformation:
    """Adam's direction plus decay, at each layer as long as its parameters are, times the rate (You et al. 2020, arXiv
    1904.00962, algorithm 2; betas 0.9 and 0.999, epsilon 1e-6).

    As in timm, whose recipes use it: gradients are first cut to a global norm of 1, and only what decays is adapted.

    Args:
      share: `network.share`, which says what of a body holds many layers.
    """
    adapted = optax.stateless(lambda updates, params: per_layer(_as_long, updates, params, share=share))
    decayed = _decayed(train)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-6),
        optax.add_decayed_weights(train.weight_decay, decayed),
        adapted if decayed is None else _where(decayed, adapted),
        optax.scale_by_learning_rate(learning_rate(train.schedule)),
    )


def _as_long(update: Array, parameter: Array) -> Array:
    """The update at the parameter's length; as it is where either is 0."""
    length, wanted = jnp.linalg.norm(update), jnp.linalg.norm(parameter)
    return update * jnp.where((length > 0) & (wanted > 0), wanted / jnp.where(length > 0, length, 1), 1)


def _where(mask: Callable[[dict], dict], change: optax.GradientTransformation) -> optax.GradientTransformation:
    """`change` where the mask is True. (optax.masked would hide the other leaves from it, and so the layers.)"""

    def update(updates: dict, params: dict) -> dict:
        changed, _ = change.update(updates, change.init(params), params)
        return jax.tree.map(lambda chosen, new, old: new if chosen else old, mask(params), changed, updates)

    return optax.stateless(update)


def _decayed(train: ConfigDict) -> Callable[[dict], dict] | None:
    """What decays; None: all."""
    return None if train.decay_norm_and_bias else is_kernel


def is_part(params: dict, parts: Sequence[str]) -> dict:
    """True for all parameters of these parts (stem, stage1, …, head)."""
    return {name: jax.tree.map(lambda _, name=name: name in parts, tree) for name, tree in params.items()}


def is_kernel(params: dict) -> dict:
    """True for the kernels of convolutions and dense layers, False for BN's scale and every bias."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)
