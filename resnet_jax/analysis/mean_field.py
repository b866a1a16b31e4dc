"""The mean field: what random residual layers, the wider the more exactly, do to signals and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@partial(jax.jit, static_argnames=('width', 'layers'))
def growth(
    key: Array, *, width: int, layers: int, first: float | Float[Array, ''], second: float | Float[Array, '']
) -> tuple[Float[Array, ' layers'], Float[Array, ' layers']]:
    """By what each of many random layers x + V relu(W x) multiplies ‖x‖², and on the way back the squared gradient.

    With weights of variance `first` / width in W and `second` / width in V both are 1 + first · second / 2 in a wide
    network (Yang & Schoenholz 2017, arXiv 1712.08969).

    Returns:
      Forward, and back, of each layer in network order.
    """
    key, key_x, key_g = jax.random.split(key, 3)

    def layer(x, key):
        key_w, key_v = jax.random.split(key)
        w = jax.random.normal(key_w, (width, width)) * jnp.sqrt(first / width)
        v = jax.random.normal(key_v, (width, width)) * jnp.sqrt(second / width)
        return x + v @ jax.nn.relu(w @ x)

    def forward(x, key):
        return layer(x, key), x

    keys = jax.random.split(key, layers)
    last, states = lax.scan(forward, jax.random.normal(key_x, (width,)), keys)

    def backward(g, given):
        x, key = given
        (pulled,) = jax.vjp(lambda x: layer(x, key), x)[1](g)
        return pulled, jnp.sum(pulled**2) / jnp.sum(g**2)

    _, back = lax.scan(backward, jax.random.normal(key_g, (width,)), (states, keys), reverse=True)
    squares = jnp.sum(jnp.concatenate([states, last[None]]) ** 2, axis=1)
    return squares[1:] / squares[:-1], back
