"""Max pooling, with a gradient of its own on the CPU: XLA's (select-and-scatter) takes five times as long there."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, 'n h w c']


def max_pool(x: Images, size: int, strides: int) -> Float[Array, 'n h2 w2 c']:
    """The maximum of fields of size x size pixels, every `strides`-th, padded by (size - 1) // 2 on every side.

    Where several pixels of a field are its maximum, the first of them has the gradient.
    """
    return _own(x, size, strides) if jax.default_backend() == 'cpu' else _native(x, size, strides)


def _native(x: Images, size: int, strides: int) -> Array:
    pad = (size - 1) // 2
    padding: Any = [(pad, pad)] * 2
    return nn.max_pool(x, (size, size), (strides, strides), padding)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _own(x: Images, size: int, strides: int) -> Array:
    return _native(x, size, strides)


def _forward(x, size, strides):
    return _native(x, size, strides), x


def _backward(size, strides, x, g):
    """Each pixel's gradient is gathered from the fields that it is in: pixels of one remainder by the strides lie in
    the same places of their fields, and are computed together."""
    (n, height, width, channels), (_, rows, columns, _), pad = x.shape, g.shape, (size - 1) // 2
    tall, broad = -(-height // strides), -(-width // strides)
    phases = {(a, b): jnp.zeros((n, tall, broad, channels), x.dtype) for a in range(strides) for b in range(strides)}
    places = [(i, j) for i in range(size) for j in range(size)]
    chosen = _first_maxima(jnp.pad(x, ((0, 0), (pad, size), (pad, size), (0, 0)), constant_values=-jnp.inf),
                           [(slice(i, i + rows * strides, strides), slice(j, j + columns * strides, strides))
                            for i, j in places])  # fmt: skip
    for number, (i, j) in enumerate(places):
        (down, a), (right, b) = divmod(i - pad, strides), divmod(j - pad, strides)
        moved = ((0, 0, 0), (down, tall - rows - down, 0), (right, broad - columns - right, 0), (0, 0, 0))
        phases[a, b] += lax.pad(jnp.where(chosen == number, g, jnp.zeros_like(g)), jnp.zeros((), g.dtype), moved)
    lines = [jnp.stack([phases[a, b] for b in range(strides)], axis=3) for a in range(strides)]
    whole = jnp.stack(lines, axis=2).reshape(n, tall * strides, broad * strides, channels)
    return (whole[:, :height, :width],)


def _first_maxima(padded: Images, places: list[tuple[slice, slice]]) -> Array:
    """The number of the place where each field has its maximum, the first of several. To look for the result would not
    do: XLA may compute x again where it is read, and round it otherwise."""
    best = padded[:, *places[0]]
    chosen = jnp.zeros(best.shape, jnp.uint8)
    for number, place in enumerate(places[1:], 1):
        seen = padded[:, *place]
        chosen, best = jnp.where(seen > best, jnp.uint8(number), chosen), jnp.maximum(best, seen)
    return chosen


_own.defvjp(_forward, _backward)
