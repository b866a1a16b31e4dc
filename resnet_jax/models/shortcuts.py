"""Shortcuts of He et al. 2015 (arXiv 1512.03385, section 3.3): A pads with zeros, B and C project, none is none."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def projects(kind: str, *, changes_shape: bool) -> bool:
    """Has this shortcut parameters? B where the shape changes, C everywhere."""
    return kind == 'C' or (kind == 'B' and changes_shape)


class Shortcut(nn.Module):
    """What passes beside a residual branch, in the shape that the branch gives.

    Attributes:
      kind: A, B, C or none.
      features, strides: of the residual branch.
      subsample: of A: stride (every second pixel) or average (mean of each strides x strides field).
      zero_channels: of A: split (zeros on both sides) or behind.
      conv, norm: partials; norm is None where the projection stands behind an activation already (preact).
    """

    kind: str
    features: int
    strides: int
    subsample: str
    zero_channels: str
    conv: Callable
    norm: Callable | None

    @nn.compact
    def __call__(
        self, x: Float[Array, 'n h w c'], *, gated: bool, train: bool
    ) -> Float[Array, 'n h2 w2 features'] | None:
        changes_shape = self.strides != 1 or x.shape[-1] != self.features
        if projects(self.kind, changes_shape=changes_shape):
            y = self.conv(self.features, kernel_size=1, strides=self.strides, name='conv_proj')(x)
            return y if self.norm is None else self.norm(name='bn_proj')(y, train=train)
        if self.kind == 'none':
            # Without gates nothing passes. With them the signal could, where the shapes agree: the intact gate is 0.
            return x if gated and not changes_shape else None
        return pad_channels(subsample(x, self.strides, self.subsample), self.features, self.zero_channels)


def subsample(x: Float[Array, 'n h w c'], strides: int, how: str) -> Float[Array, 'n h2 w2 c']:
    """Every `strides`-th pixel, or the mean of each field of strides x strides (of what there is, at an odd edge)."""
    if strides == 1:
        return x
    if how == 'stride':
        return x[:, ::strides, ::strides]
    # Not nn.avg_pool: it counts the pixels in JAX's default dtype, and the result would take that.
    window = (strides, strides)
    total = partial(nn.pool, init=0.0, reduce_fn=lax.add, window_shape=window, strides=window, padding='SAME')
    return total(x) / total(jnp.ones_like(x[:1, ..., :1]))


def pad_channels(x: Float[Array, 'n h w c'], features: int, where: str) -> Float[Array, 'n h w features']:
    """Zero channels up to `features`: split evenly (the odd one behind), or all behind."""
    missing = features - x.shape[-1]
    if missing == 0:
        return x
    before = missing // 2 if where == 'split' else 0
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, missing - before)))
