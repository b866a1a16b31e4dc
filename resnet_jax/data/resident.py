"""Small data sets live on the device: a split's bytes and its batches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Int32, UInt8


class Examples(NamedTuple):
    """A split on the device."""

    images: UInt8[Array, 'n h w c']
    labels: Int32[Array, ' n']


class Masked(NamedTuple):
    """A batch on the devices; `inside` (n,) is False for what only fills it up."""

    images: UInt8[Array, 'n h w c']
    labels: Int32[Array, ' n']
    inside: Bool[Array, ' n']


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
