"""Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) in one pass over the batch, and group normalisation."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from resnet_jax.models.platform import on_one_cpu
from resnet_jax.models.remat import keep

AXES = (1, 2, 3)  # of a group: examples and pixels

# A mean square so many times the variance leaves too little of float32 to the difference of the two.
FAR = 100


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
        scale, bias = _scale_and_bias(self, channels, wide)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, channels, wide)
        running_var = self.variable('batch_stats', 'var', jnp.ones, channels, wide)
        if not train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            return _affine(x, factor, bias - running_mean.value * factor)

        one = self.is_initializing() or not self.examples  # networks are initialised on one image
        together = len(x) if one else self.examples
        groups = x.reshape(-1, together, *x.shape[1:])
        normalized: Any = _normalize(groups, scale, bias, self.epsilon)
        y, mean, var = normalized
        if not self.is_initializing():
            count = x.size // x.shape[-1] // len(groups)
            unbiased = var * (count / max(count - 1, 1))
            kept = self.momentum
            for running, new in ((running_mean, mean), (running_var, unbiased)):
                running.value = kept * running.value + (1 - kept) * lax.stop_gradient(jnp.mean(new, axis=0))
        return y.reshape(x.shape)


class GroupNorm(nn.Module):
    """Normalises every example's channels in `groups` groups (Wu & He 2018, arXiv 1803.08494), then scales and shifts.

    γ starts at `start`.
    """

    groups: int
    epsilon: float
    start: float

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], *, train: bool) -> Float[Array, 'n h w c']:
        wide = _at_least_float32(x.dtype)
        scale, bias = _scale_and_bias(self, x.shape[-1:], wide)
        grouped = x.astype(wide).reshape(*x.shape[:3], self.groups, -1)
        centred = grouped - jnp.mean(grouped, (1, 2, 4), keepdims=True)
        var = jnp.mean(jnp.square(centred), (1, 2, 4), keepdims=True)
        normal = (centred * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return (normal * scale + bias).astype(x.dtype)


def _scale_and_bias(layer: BatchNorm | GroupNorm, channels: tuple[int, ...], dtype: jnp.dtype) -> tuple[Array, Array]:
    """γ and β of each channel, made where the layer is."""
    scale = layer.param('scale', nn.initializers.constant(layer.start), channels, dtype)
    return scale, layer.param('bias', nn.initializers.zeros, channels, dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """Each group of (groups, k, h, w, c) by its own statistics: the result, means and biased variances (groups, c).

    The gradient keeps nothing but x, where the derived one keeps x minus the pivot beside it; means and variances are
    constants to it.
    """
    return _normalize_forward(x, scale, bias, epsilon)[0]


def _normalize_forward(x, scale, bias, epsilon):
    pivot, mean, var = keep(_statistics(x))
    y = _centred(x, pivot, mean) * _spread(scale * lax.rsqrt(var + epsilon)) + bias
    return (y.astype(x.dtype), mean + pivot, var), (x, scale, pivot, mean, var)


def _normalize_backward(epsilon, saved, cotangents):
    (x, scale, pivot, mean, var), g = saved, cotangents[0]
    inverse = lax.rsqrt(var + epsilon)
    wide = g.astype(mean.dtype)
    normal = _centred(x, pivot, mean) * _spread(inverse)
    of_bias = jnp.sum(wide, AXES)
    of_scale = jnp.sum(wide * normal, AXES) if not on_one_cpu() else inverse * _sum_of_products(wide, saved, of_bias)
    count = x.size // mean.size
    centred = wide - _spread(of_bias / count) - normal * _spread(of_scale / count)
    return (_spread(scale * inverse) * centred).astype(x.dtype), jnp.sum(of_scale, 0), jnp.sum(of_bias, 0)


_normalize.defvjp(_normalize_forward, _normalize_backward)


def _statistics(x: Array) -> tuple[Array, Array, Array]:
    """A value near each channel's mean, the mean from there, and the biased variance."""
    if not on_one_cpu():
        return _about_pivot(x)
    wide = x.astype(_at_least_float32(x.dtype))
    mean, square = jnp.mean(wide, AXES), jnp.mean(jnp.square(wide), AXES)
    var = square - jnp.square(mean)
    # Sums of what is there already: for those of something else XLA first writes that down, here x minus the pivot.
    return lax.cond(
        jnp.any(square > FAR * var), _about_pivot, lambda _: (jnp.zeros_like(mean[0]), mean, jnp.maximum(var, 0)), x
    )


def _about_pivot(x: Array) -> tuple[Array, Array, Array]:
    """The same in one pass (sum, sum of squares) about a value amid each channel's: there the squares do not cancel,
    however far the mean is from 0."""
    pivot = x[0, 0, 0, 0].astype(_at_least_float32(x.dtype))
    centred = x.astype(pivot.dtype) - pivot
    mean = jnp.mean(centred, AXES)
    return pivot, mean, jnp.maximum(jnp.mean(jnp.square(centred), AXES) - jnp.square(mean), 0)


def _sum_of_products(g: Array, saved: tuple, sums: Array) -> Array:
    """Of g and x minus its mean, for each group and channel; `sums` are those of g."""
    x, _, pivot, mean, _ = saved
    return lax.cond(
        jnp.any(pivot != 0),
        lambda _: jnp.sum(g * _centred(x, pivot, mean), AXES),
        lambda _: jnp.sum(g * x.astype(g.dtype), AXES) - mean * sums, None,
    )  # fmt: skip


def _centred(x: Array, pivot: Array, mean: Array) -> Array:
    return (x.astype(mean.dtype) - pivot) - _spread(mean)


def _spread(statistic: Array) -> Array:
    """(groups, c) over the examples and pixels of its group."""
    return statistic[:, None, None, None]


def _affine(x: Array, factor: Array, offset: Array) -> Array:
    return x * factor.astype(x.dtype) + offset.astype(x.dtype)


def _at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    return max(jnp.dtype(dtype), jnp.dtype(jnp.float32), key=lambda each: each.itemsize)
