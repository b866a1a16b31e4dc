"""The optimizers: SGD as in the papers, LARS and LAMB for large batches, AdamW."""

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
    """The optimizer of a validated config, of gradients cut to `train.clip_norm`; what is frozen does not move."""
    train = config.train
    optimizer = {'sgd': sgd, 'lars': lars, 'lamb': lamb, 'adamw': adamw}[train.optimizer](config)
    if train.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(train.clip_norm), optimizer)
    if train.frozen:
        # Not a gradient of 0 alone: decay would move what is frozen.
        still = optax.masked(optax.set_to_zero(), partial(is_part, parts=train.frozen))
        optimizer = optax.chain(optimizer, still)
    return optimizer


def sgd(config: ConfigDict) -> optax.GradientTransformation:
    """g <- g + decay * p;  m <- momentum * m + g;  p <- p - rate * m  (torch's SGD; Nesterov: g + momentum * m)."""
    train = config.train
    return optax.chain(
        optax.add_decayed_weights(train.weight_decay, _decays(train)),
        optax.sgd(learning_rate(train), momentum=train.momentum, nesterov=train.nesterov),
    )


def lars(config: ConfigDict) -> optax.GradientTransformation:
    """SGD at each layer's own rate (You et al. 2017, arXiv 1708.03888, algorithm 1):

      local = trust * |p| / (|g| + decay * |p|);  m <- momentum * m + rate * local * (g + decay * p);  p <- p - m

    As in most implementations, what does not decay is not adapted either: its local rate is 1. So is that of a layer
    whose parameters are all 0, which would stay so.
    """
    train = config.train
    change = partial(_at_local_rate, trust=train.trust, decay=train.weight_decay)
    return optax.chain(
        _each_layer(change, config),
        optax.scale_by_learning_rate(learning_rate(train)),
        optax.trace(train.momentum),
    )


def adamw(config: ConfigDict) -> optax.GradientTransformation:
    """Adam's direction plus decay, times the rate: p <- p - rate * (m / (√v + epsilon) + decay * p), m and v corrected
    for their start at 0 (Loshchilov & Hutter 2019, arXiv 1711.05101; the decay times the rate, as torch has it)."""
    return optax.chain(_adam(config.train), optax.scale_by_learning_rate(learning_rate(config.train)))


def lamb(config: ConfigDict) -> optax.GradientTransformation:
    """Adam's direction plus decay, at each layer as long as its parameters are, times the rate (You et al. 2020, arXiv
    1904.00962, algorithm 2). As in timm, whose recipes use it, only what decays is adapted."""
    return optax.chain(
        _adam(config.train),
        _each_layer(_as_long, config),
        optax.scale_by_learning_rate(learning_rate(config.train)),
    )


def _adam(train: ConfigDict) -> optax.GradientTransformation:
    """Adam's direction plus decay."""
    first, second = train.betas
    return optax.chain(
        optax.scale_by_adam(first, second, train.epsilon), optax.add_decayed_weights(train.weight_decay, _decays(train))
    )


def _as_long(update: Array, parameter: Array) -> Array:
    """The update at the parameter's length; as it is where either is 0."""
    return update * _ratio(jnp.linalg.norm(parameter), jnp.linalg.norm(update))


def _at_local_rate(gradient: Array, parameter: Array, *, trust: float, decay: float) -> Array:
    length = jnp.linalg.norm(parameter)
    local = _ratio(trust * length, jnp.linalg.norm(gradient) + decay * length)
    return local * (gradient + decay * parameter)


def _ratio(one: Array, other: Array) -> Array:
    """Of two lengths; 1 where either is 0."""
    return jnp.where((one > 0) & (other > 0), one / jnp.where(other > 0, other, 1), 1)


def _each_layer(change: Callable[[Array, Array], Array], config: ConfigDict) -> optax.GradientTransformation:
    """`change(update, parameter)` of each layer's leaves that decay. (optax.masked would hide the other leaves from it,
    and so the layers.)"""
    decays = _decays(config.train)

    def update(updates: dict, params: dict) -> dict:
        changed = per_layer(change, updates, params, share=config.network.share)
        return jax.tree.map(lambda chosen, new, old: new if chosen else old, decays(params), changed, updates)

    return optax.stateless(update)


def _decays(train: ConfigDict) -> Callable[[dict], dict]:
    """Of parameters: True for those whose paths have no word of `train.undecayed`."""
    undecayed = set(train.undecayed)

    def decays(params: dict) -> dict:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: undecayed.isdisjoint(step.key for step in path), params
        )  # fmt: skip

    return decays


def is_part(params: dict, parts: Sequence[str]) -> dict:
    """True for all parameters of these parts (stem, stage1, …, head)."""
    return {name: jax.tree.map(lambda _, name=name: name in parts, tree) for name, tree in params.items()}
