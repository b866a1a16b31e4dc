"""The gradient of a batch: whole or by microbatches, in float32 or bfloat16."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Int32

from resnet_jax.data import mix
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime.mesh import cut, spread, whole


class Targets(NamedTuple):
    """What a batch is to be taken for: `classes` (n, k), shares of each class, where the labels alone do not say it.

    Attributes:
      loss: softmax or sigmoid.
    """

    labels: Int32[Array, ' n']
    classes: Float[Array, 'n k'] | None = None
    loss: str = 'softmax'


class Result(NamedTuple):
    """Of a batch: mean loss, examples that are misclassified, BN's new statistics, the gradient of the mean loss."""

    loss: Float[Array, '']
    errors: Int[Array, '']
    batch_stats: dict
    gradient: dict


def gradient(
    network: ResNet,
    params: dict,
    batch_stats: dict,
    images: Float[Array, 'n h w c'],
    targets: Targets,
    draws: Array,
    gates: Gates | None = None,
    *,
    microbatches: int = 1,
    compute: str = 'float32',
    mesh: Mesh | None = None,
) -> Result:
    """Loss and gradient of a batch in training. What is frozen gets a gradient of 0.

    Args:
      draws: key of what the network draws.
      microbatches: parts of the batch that are computed one after the other. BN takes each for itself, and its
        running statistics move by their mean: the same as one batch in BN groups of that size.
      compute: dtype of the network's computation; parameters, BN's statistics, loss and gradient keep theirs.
      mesh: of the devices that each microbatch is spread over, and over which the parameters may be cut: they are
        gathered in the dtype they are computed in, and the gradient is cut as they are. None: all is as it comes.
    """
    one = partial(_gradient, network, params, batch_stats, gates=gates, compute=compute, mesh=mesh)
    if microbatches == 1:
        return one(images, targets.labels, targets.classes, draws, loss=targets.loss)

    def apart(leaf: Array) -> Array:
        parts = leaf.reshape(microbatches, -1, *leaf.shape[1:])
        return jax.lax.with_sharding_constraint(parts, spread(mesh, axis=1)) if mesh else parts

    parts = jax.tree.map(apart, (images, targets.labels, targets.classes))

    def part(number: Array) -> Result:
        images, labels, classes = jax.tree.map(lambda leaf: leaf[number], parts)
        return one(images, labels, classes, jax.random.fold_in(draws, number), loss=targets.loss)

    first, end = jnp.int32(0), jnp.int32(microbatches)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(part, first))
    total = jax.lax.fori_loop(first, end, lambda number, sum: jax.tree.map(jnp.add, sum, part(number)), nothing)
    mean = partial(jax.tree.map, lambda leaf: leaf / microbatches)
    return total._replace(
        loss=mean(total.loss), batch_stats=mean(total.batch_stats), gradient=mean(total.gradient)
    )  # fmt: skip


def _gradient(
    network: ResNet,
    params: dict,
    batch_stats: dict,
    images: Array,
    labels: Array,
    classes: Array | None,
    draws: Array,
    *,
    gates: Gates | None,
    compute: str,
    mesh: Mesh | None,
    loss: str,
) -> Result:
    def objective(params: dict):
        lowered_params = lower(hold(params, network.frozen), compute)
        given = {'params': _laid(lowered_params, mesh and whole(mesh)), 'batch_stats': batch_stats}
        logits, updates = network.apply(
            given, lowered(images, compute), gates, train=True, mutable=['batch_stats'], rngs={'dropout': draws}
        )  # fmt: skip
        logits = logits.astype(images.dtype)
        if classes is None:
            value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        else:
            value = mix.loss(logits, classes, loss)
        return value, (logits, updates.get('batch_stats', {}))

    (value, (logits, after)), found = jax.value_and_grad(objective, has_aux=True)(params)
    errors = jnp.sum(jnp.argmax(logits, axis=-1).astype(labels.dtype) != labels, dtype=jnp.int32)
    return Result(value, errors, after, _laid(found, mesh and cut(found, mesh)))


def _laid(tree: dict, shardings: Any) -> dict:
    """The same arrays, laid over the devices so; None: as they are."""
    return tree if shardings is None else jax.lax.with_sharding_constraint(tree, shardings)


def hold(params: dict, frozen: Sequence[str]) -> dict:
    """The same parameters, of which the parts `frozen` are constants: what leads to them alone is never computed."""
    return {name: jax.lax.stop_gradient(part) if name in frozen else part for name, part in params.items()}


def lower(params: dict, compute: str) -> dict:
    """The parameters that are computed with: those of normalisation stay as they are, as its statistics do."""
    if 'scale' in params:
        return params
    return {name: lower(leaf, compute) if isinstance(leaf, dict) else lowered(leaf, compute)
            for name, leaf in params.items()}  # fmt: skip


def lowered(x: Array, compute: str) -> Array:
    """x as it is computed with."""
    return x.astype(jnp.bfloat16) if compute == 'bfloat16' else x
