"""Small data sets live on the device: a split's bytes, its order, its batches."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, Integer, UInt8


class Examples(NamedTuple):
    """A split on the device."""

    images: UInt8[Array, 'n h w c']
    labels: Int32[Array, ' n']


def place(images: np.ndarray, labels: np.ndarray, sharding: jax.sharding.Sharding) -> Examples:
    """Puts a split on the device, whole on each."""
    return Examples(jax.device_put(images, sharding), jax.device_put(labels, sharding))


@partial(jax.jit, static_argnames='examples')
def order(seed: Integer[Array, ''], epoch: Int[Array, ''], *, examples: int) -> Int32[Array, ' n']:
    """The order of an epoch: a permutation that depends on nothing but seed, epoch and number of examples."""
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    return jax.random.permutation(key, examples)


def batch(examples: Examples, permutation: Int32[Array, ' n'], index: Int[Array, ''], size: int) -> Examples:
    """Batch `index` of an epoch; what does not fill a last batch is left out of this epoch."""
    chosen = jax.lax.dynamic_slice_in_dim(permutation, index * size, size)
    return Examples(examples.images[chosen], examples.labels[chosen])


def part(examples: Examples, start: Int[Array, ''], size: int) -> tuple[Examples, Array]:
    """Examples from `start` on, `size` of them; past the end the last one repeats, and the mask (n,) is False."""
    places = start + jnp.arange(size)
    count = len(examples.labels)
    inside = jnp.minimum(places, count - 1)
    return Examples(examples.images[inside], examples.labels[inside]), places < count
