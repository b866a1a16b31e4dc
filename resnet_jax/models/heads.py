"""What comes after the last block."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class PoolHead(nn.Module):
    """Global average pool and one dense layer; with pre-activation BN and ReLU before them.

    Attributes:
      norm: partial, or None where the last block has ended in an activation.
    """

    classes: int
    norm: Callable | None
    act: Callable

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], *, train: bool) -> Float[Array, 'n classes']:
        if self.norm is not None:
            x = self.act(self.norm(name='bn')(x, train=train))
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.classes, name='dense', dtype=x.dtype, param_dtype=x.dtype)(x)
