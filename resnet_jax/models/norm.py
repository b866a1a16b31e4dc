"""Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) in one pass over the batch, and group normalisation."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class BatchNorm(nn.Module):
    """Normalises every channel over batch and pixels, then scales and shifts.

    Under a sharded batch the statistics are those of the global batch. The running variance is the unbiased one,
    as in torch; `momentum` is the share of the running statistics kept at each step. With `examples` of k the batch
    is normalised in groups of k examples (0: as a whole), the running statistics being the means over the groups.
    γ starts at `start`.
    """

    momentum: float
    epsilon: float
    examples: int
    start: float

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], *, train: bool) -> Float[Array, 'n h w c']:
        channels, wide = x.shape[-1:], _at_least_float32(x.dtype)
        scale = self.param('scale', nn.initializers.constant(self.start), channels, wide)
        bias = self.param('bias', nn.initializers.zeros, channels, wide)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, channels, wide)
        running_var = self.variable('batch_stats', 'var', jnp.ones, channels, wide)
        if not train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            return _affine(x, factor, bias - running_mean.value * factor)

        pivot = _pivot(x)
        centred = x.astype(wide) - pivot
        one = self.is_initializing() or not self.examples  # networks are initialised on one image
        together = len(x) if one else self.examples
        groups = centred.reshape(-1, together, *x.shape[1:])
        mean, var = _statistics(groups)
        if not self.is_initializing():
            count = x.size // x.shape[-1] // len(groups)
            unbiased = var * (count / max(count - 1, 1))
            kept = self.momentum
            for running, new in ((running_mean, mean + pivot), (running_var, unbiased)):
                running.value = kept * running.value + (1 - kept) * lax.stop_gradient(jnp.mean(new, axis=0))
        factor = scale * lax.rsqrt(var + self.epsilon)
        factor, offset = (each[:, None, None, None] for each in (factor, bias - mean * factor))
        return _affine(groups, factor, offset).reshape(x.shape).astype(x.dtype)


class GroupNorm(nn.Module):
    """Normalises every example's channels in `groups` groups (Wu & He 2018, arXiv 1803.08494), then scales and shifts.

    γ starts at `start`.
    """

    groups: int
    epsilon: float
    start: float

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], *, train: bool) -> Float[Array, 'n h w c']:
        channels, wide = x.shape[-1:], _at_least_float32(x.dtype)
        scale = self.param('scale', nn.initializers.constant(self.start), channels, wide)
        bias = self.param('bias', nn.initializers.zeros, channels, wide)
        grouped = x.astype(wide).reshape(*x.shape[:3], self.groups, -1)
        centred = grouped - jnp.mean(grouped, (1, 2, 4), keepdims=True)
        var = jnp.mean(jnp.square(centred), (1, 2, 4), keepdims=True)
        normal = (centred * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return (normal * scale + bias).astype(x.dtype)


def _pivot(x: Array) -> Array:
    """A value amid each channel's: sums of squares about it do not cancel, however far the mean is from 0."""
    return lax.stop_gradient(x[0, 0, 0].astype(_at_least_float32(x.dtype)))


def _statistics(centred: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel of (groups, k, h, w, c), from one pass (sum and sum of squares)."""
    axes = (1, 2, 3)
    mean = jnp.mean(centred, axes)
    return mean, jnp.maximum(jnp.mean(jnp.square(centred), axes) - jnp.square(mean), 0)


def _affine(x: Array, factor: Array, offset: Array) -> Array:
    return x * factor.astype(x.dtype) + offset.astype(x.dtype)


def _at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    return max(jnp.dtype(dtype), jnp.dtype(jnp.float32), key=lambda each: each.itemsize)
