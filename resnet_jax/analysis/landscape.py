"""The surface of the loss around a network's parameters, along directions that are normalised filter by filter.

Li et al. 2018, "Visualizing the loss landscape of neural nets" (arXiv 1712.09913), section 4. With θ_j a filter and d_j
a random direction of its shape, d_j <- d_j ‖θ_j‖ / ‖d_j‖; biases and normalisation stay where they are. So a step of 1
means as much in every network, however its filters are scaled. Evaluation mode, running statistics as stored.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from resnet_jax.models.per_layer import per_layer
from resnet_jax.models.resnet import ResNet


def loss(
    network: ResNet, variables: dict, images: Float[Array, 'n h w c'], labels: Int[Array, ' n']
) -> Float[Array, '']:
    """Mean cross-entropy in evaluation, nats."""
    logits = network.apply(variables, images, train=False)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@partial(jax.jit, static_argnames='share')
def direction(key: Array, params: dict, share: str) -> dict:
    """A normal direction, normalised filter by filter; 0 in biases, normalisation and learned numbers.

    A filter is what gives one feature: of a convolution (h, w, inputs, features) as of a dense layer (inputs, features)
    all of one last index.

    Args:
      params: θ, a network's.
      share: what the blocks of a body share (`network.arch.share`).
    """
    flat, unravel = ravel_pytree(params)
    drawn = unravel(jax.random.normal(key, flat.shape, flat.dtype))
    return per_layer(_normalized, params, drawn, share=share)


def _normalized(filters: Array, direction: Array) -> Array:
    if filters.ndim < 2:  # only kernels have filters
        return jnp.zeros_like(direction)
    axes = tuple(range(filters.ndim - 1))
    theirs, own = (jnp.sqrt(jnp.sum(jnp.square(each), axes)) for each in (filters, direction))
    return direction * (theirs / own)


@partial(jax.jit, static_argnames=('network', 'batch'))
def surface(
    network: ResNet,
    variables: dict,
    directions: tuple[dict, ...],
    points: Float[Array, 'points directions'],
    images: Float[Array, 'n h w c'],
    labels: Int[Array, ' n'],
    *,
    batch: int,
) -> Float[Array, ' points']:
    """The loss at each point, given by its steps along the directions; one program for any points and directions.

    Args:
      batch: images at a time, a divisor of their number.

    Returns:
      Nats; inf where the loss is too large for its dtype.
    """
    parts = chunks(images, labels, batch)

    def value(params: dict) -> Array:
        there = {**variables, 'params': params}
        return jnp.mean(jax.lax.map(lambda part: loss(network, there, *part), parts))

    losses = values(value, variables['params'], directions, points)
    return jnp.where(jnp.isnan(losses), jnp.full_like(losses, jnp.inf), losses)


def values(
    value: Callable[[dict], Array],
    params: dict,
    directions: tuple[dict, ...],
    points: Float[Array, 'points directions'],
) -> Float[Array, ' points']:
    """A function of the parameters at each of these points, one after the other."""
    return jax.lax.map(lambda point: value(moved(params, directions, point)), points)


def moved(params: dict, directions: tuple[dict, ...], steps: Float[Array, ' directions']) -> dict:
    """θ + Σ steps_k directions_k."""

    def move(parameter: Array, *along: Array) -> Array:
        return parameter + sum(step * each for step, each in zip(steps, along, strict=True))

    return jax.tree.map(move, params, *directions)


def chunks(images: Float[Array, 'n h w c'], labels: Int[Array, ' n'], batch: int) -> tuple[Array, Array]:
    """Images and labels along a leading axis of chunks of `batch`.

    Raises:
      ValueError: the images are no multiple of that.
    """
    if len(labels) % batch:
        raise ValueError(f'chunks are all as large; {len(labels)} images are no multiple of {batch}')
    return images.reshape(-1, batch, *images.shape[1:]), labels.reshape(-1, batch)
