"""Gates: an intervention on a network, as data.

A block computes `post(s * shortcut(x) + r * residual(x))`, where s and r are its gates. A gate that differs from
the intact one deletes, weakens or restores a branch without another model and without another compilation. Gates
of the backward pass scale the cotangent alone and leave every value as it is.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float


class Gates(NamedTuple):
    """The gates of all blocks of a network, in network order.

    Each is of shape (blocks,), or (blocks, batch) where every example has its own (evaluation only).
    """

    shortcut: Array
    residual: Array
    shortcut_grad: Array
    residual_grad: Array

    def of(self, block) -> 'Gates':
        """The gates of one block, or of a slice of blocks."""
        return jax.tree.map(lambda gate: gate[block], self)


def intact(shortcuts: Float[Array, ' blocks']) -> Gates:
    """Gates that change nothing, for blocks whose shortcut is there (1) or is not (0, a plain network)."""
    ones = jnp.ones_like(shortcuts)
    return Gates(shortcuts, ones, ones, ones)


def join(shortcut: Array | None, residual: Array, gates: Gates | None) -> Array:
    """The sum at a block's end: s * shortcut + r * residual; without gates the plain sum, compiled as such.

    Args:
      shortcut: (n, h, w, c), or None where the block has none.
      residual: (n, h, w, c).
      gates: of this block, each () or (n,), or None.
    """
    if gates is None:
        return residual if shortcut is None else shortcut + residual
    gated = gate(residual, gates.residual, gates.residual_grad)
    return gated if shortcut is None else gate(shortcut, gates.shortcut, gates.shortcut_grad) + gated


def gate(x: Array, forward: Array, backward: Array) -> Array:
    """x * forward, whose cotangent is multiplied by forward * backward.

    A gate of 0 gives exactly 0, also where x (or the cotangent) is infinite or NaN. The dtype is that of x, and
    with forward = 1 the value is x to the bit. The derivative by `forward` is the true one, also at 0; the
    derivative by `backward` is 0.

    Args:
      x: (n, …).
      forward: () or (n,).
      backward: () or (n,).
    """
    align = partial(_align, x=x)
    return _gate(x, align(forward), align(backward))


def _align(gate: Array, x: Array) -> Array:
    """A gate an example, spread over the example's axes."""
    gate = jnp.asarray(gate, x.dtype)
    return jnp.broadcast_to(gate.reshape(gate.shape + (1,) * (x.ndim - gate.ndim)), (x.shape[0],) + (1,) * (x.ndim - 1))


@jax.custom_jvp
def _gate(x, forward, backward):
    return _times(forward, x)


def _gate_jvp(primals, tangents):
    x, forward, backward = primals
    dx, dforward, _ = tangents
    tangent = jnp.zeros_like(x)
    if not isinstance(dx, SymbolicZero):
        tangent += _times(forward, _times(backward, dx))
    if not isinstance(dforward, SymbolicZero):
        tangent += dforward * x
    return _times(forward, x), tangent


_gate.defjvp(_gate_jvp, symbolic_zeros=True)


def _times(factor: Array, x: Array) -> Array:
    """factor * x, and 0 where the factor is 0 whatever x is."""
    return factor * jnp.where(factor == 0, jnp.zeros_like(x), x)
