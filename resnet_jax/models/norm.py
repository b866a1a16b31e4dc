"""Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) in one pass over the batch."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class BatchNorm(nn.Module):
    """Normalises every channel over batch and pixels, then scales and shifts.

    Under a sharded batch the statistics are those of the global batch. The running variance is the unbiased one,
    as in torch; `momentum` is the share of the running statistics kept at each step.
    """

    momentum: float
    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], *, train: bool) -> Float[Array, 'n h w c']:
        channels, wide = x.shape[-1:], _at_least_float32(x.dtype)
        scale = self.param('scale', nn.initializers.ones, channels, wide)
        bias = self.param('bias', nn.initializers.zeros, channels, wide)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, channels, wide)
        running_var = self.variable('batch_stats', 'var', jnp.ones, channels, wide)
        if not train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            return _affine(x, factor, bias - running_mean.value * factor)

        pivot = _pivot(x)
        centred = x.astype(wide) - pivot
        mean, var = _statistics(centred)
        if not self.is_initializing():
            count = x.size // x.shape[-1]
            unbiased = var * (count / max(count - 1, 1))
            kept = self.momentum
            running_mean.value = kept * running_mean.value + (1 - kept) * lax.stop_gradient(mean + pivot)
            running_var.value = kept * running_var.value + (1 - kept) * lax.stop_gradient(unbiased)
        factor = scale * lax.rsqrt(var + self.epsilon)
        return _affine(centred, factor, bias - mean * factor).astype(x.dtype)


def _pivot(x: Array) -> Array:
    """A value amid each channel's: sums of squares about it do not cancel, however far the mean is from 0."""
    return lax.stop_gradient(x[0, 0, 0].astype(_at_least_float32(x.dtype)))


def _statistics(centred: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel from one pass (sum and sum of squares)."""
    axes = tuple(range(centred.ndim - 1))
    mean = jnp.mean(centred, axes)
    return mean, jnp.maximum(jnp.mean(jnp.square(centred), axes) - jnp.square(mean), 0)


def _affine(x: Array, factor: Array, offset: Array) -> Array:
    return x * factor.astype(x.dtype) + offset.astype(x.dtype)


def _at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    return max(jnp.dtype(dtype), jnp.dtype(jnp.float32), key=lambda each: each.itemsize)
