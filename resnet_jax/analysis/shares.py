"""Shares: examples dealt out among the devices that hold them.

Analysis is given examples that are whole on every device of a mesh, or on the only one. What it does example by example
each device does for a share of them: XLA divides a program as its inputs are, and what it gives is the same.
"""

import math
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

Part = tuple[Float[Array, '_n h w c'], Int[Array, ' _n']]  # of chunks the last may be smaller


def dealt(parts: Iterable[Part], most: int | float) -> Iterator[Part]:
    """The same examples in chunks of which every device has an equal share, of `most` examples at most.

    What is left of a part, fewer examples than there are devices, is a chunk of its own and whole on each.
    """
    for part in parts:
        count, devices = len(part[1]), part[1].sharding.num_devices
        equal = count - count % devices
        for start, stop in (*_even(0, equal, most * devices, devices), *_even(equal, count, most, 1)):
            images, labels = (spread(rows[start:stop]) for rows in part)
            yield images, labels


def spread(rows: Array) -> Array:
    """The same array, its rows spread over the devices that hold it; whole as it was where they do not divide it."""
    if len(rows) % rows.sharding.num_devices or not isinstance(rows.sharding, NamedSharding):
        return rows
    mesh = rows.sharding.mesh
    return jax.device_put(rows, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))


def filled(rows: Array) -> Array:
    """The same array, spread, and filled up with its last example where the devices do not divide it: to be cut off."""
    lacking = -len(rows) % rows.sharding.num_devices
    return spread(jnp.pad(rows, ((0, lacking), *((0, 0),) * (rows.ndim - 1)), mode='edge') if lacking else rows)


def _even(start: int, stop: int, most: int | float, unit: int) -> Iterator[tuple[int, int]]:
    """Ranges of `most` at most, in whole units, as even as can be: one more size is one more program."""
    if start < stop:
        pieces = max(1, math.ceil((stop - start) / most))
        size = unit * math.ceil((stop - start) / unit / pieces)
        yield from ((first, min(first + size, stop)) for first in range(start, stop, size))
