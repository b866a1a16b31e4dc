"""Parts computed: the one place where a network's plan becomes arrays."""

from collections.abc import Callable
from functools import partial, singledispatch
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from resnet_jax.models import parts
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.blocks import Position
from resnet_jax.models.conv import Conv
from resnet_jax.models.initializers import lecun_normal
from resnet_jax.models.norm import BatchNorm, GroupNorm
from resnet_jax.models.parts import Parts
from resnet_jax.models.pool import max_pool
from resnet_jax.models.remat import keep


class Layers(NamedTuple):
    """What all parts of a network are made with, as ready partials."""

    conv: Callable
    norm: Callable


def layers(arch: Architecture) -> Layers:
    """The layers of a network; the plans of one without normalisation name none."""
    if arch.norm == 'group':
        norm = partial(GroupNorm, arch.norm_groups, arch.norm_epsilon)
    else:
        norm = partial(BatchNorm, arch.norm_momentum, arch.norm_epsilon, arch.norm_examples)
    return Layers(partial(Conv, kind=arch.conv), norm)


class Context(NamedTuple):
    """What parts are computed under. `draws`: the step's key, where the network draws and is trained."""

    layers: Layers
    train: bool
    position: Position
    draws: Any


class Sequence(nn.Module):
    """Parts in a scope of their own: a stem, a head."""

    parts: Parts
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, draws: Array | None = None, *, train: bool) -> Array:
        return run(self.parts, x, Context(self.layers, train, Position(0, 0), draws))


def run(sequence: Parts, x: Array, context: Context) -> Array:
    """x through a sequence of parts; to be called where modules can be made (in a compact method)."""
    for part in sequence:
        x = compute(part, x, context)
    return x


@singledispatch
def compute(part: object, x: Array, context: Context) -> Array:
    """x (n, h, w, c) through one part."""
    raise TypeError(f'nothing computes a {type(part).__name__}')


@compute.register(parts.Conv)
def _(part, x, context):
    conv = context.layers.conv(
        part.features, part.size, part.strides, part.groups, part.bias, part.init, name=part.name
    )  # fmt: skip
    return conv(x)


@compute.register(parts.Dense)
def _(part, x, context):
    start = nn.initializers.zeros if part.zero else lecun_normal
    dense = nn.Dense(part.features, name=part.name, dtype=x.dtype, param_dtype=x.dtype, kernel_init=start)
    return keep(dense(x))


@compute.register(parts.Norm)
def _(part, x, context):
    return context.layers.norm(start=part.scale, name=part.name)(x, train=context.train)


@compute.register(parts.Act)
def _(part, x, context):
    return nn.relu(x)


@compute.register(parts.Pool)
def _(part, x, context):
    return max_pool(x, part.size, part.strides)


@compute.register(parts.Subsample)
def _(part, x, context):
    return subsample(x, part.strides, part.how)


@compute.register(parts.Pad)
def _(part, x, context):
    missing = part.features - x.shape[-1]
    before = missing // 2 if part.where == 'split' else 0
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, missing - before)))


@compute.register(parts.GlobalPool)
def _(part, x, context):
    return GlobalPool(part.kind, name='pool')(x)


@compute.register(parts.Dropout)
def _(part, x, context):
    if not context.train:
        return x
    kept = jax.random.bernoulli(_draw(part, context), 1 - part.rate, x.shape)
    return jnp.where(kept, x / (1 - part.rate), jnp.zeros_like(x))


@compute.register(parts.SqueezeExcite)
def _(part, x, context):
    dense = partial(nn.Dense, dtype=x.dtype, param_dtype=x.dtype)
    y = dense(part.reduced, name=f'{part.name}_reduce')(jnp.mean(x, axis=(1, 2)))
    y = dense(x.shape[-1], name=f'{part.name}_expand')(nn.relu(y))
    return x * nn.sigmoid(y)[:, None, None]


@compute.register(parts.Scalar)
def _(part, x, context):
    value = Scalar(part.init, name=part.name)(x.dtype)
    return x * value if part.role == 'gain' else x + value


@compute.register(parts.Times)
def _(part, x, context):
    return x * jnp.asarray(part.factor, x.dtype)


@compute.register(parts.Survival)
def _(part, x, context):
    share = (jnp.asarray(context.position.network, x.dtype) + 1) / part.blocks
    p = 1 - share * (1 - part.last)
    if not context.train:
        return p * x
    return jnp.where(jax.random.bernoulli(_draw(part, context), p), x, jnp.zeros_like(x))


@compute.register(parts.Whiten)
def _(part, x, context):
    blocks = jnp.asarray(context.position.stage, x.dtype) + part.before
    return x * lax.rsqrt(1 + blocks * part.alpha**2)


@compute.register(parts.Concat)
def _(part, x, context):
    return jnp.concatenate([run(branch, x, context) for branch in part.branches], axis=-1)


@compute.register(parts.HalfResolution)
def _(part, x, context):
    y = run(part.inner, subsample(x, 2, 'average'), context)
    y = jnp.repeat(jnp.repeat(y, 2, axis=1), 2, axis=2)[:, : x.shape[1], : x.shape[2]]
    return subsample(y, part.strides, 'stride')


@compute.register(parts.LinearProjection)
def _(part, x, context):
    one = run(part.first, x, context)
    if part.between:
        z = compute(part.dense, one, context)
        last = two = run(part.second, z, context)
    else:
        two = run(part.second, one, context)
        last = z = compute(part.dense, two, context)
    return z * one * two if part.join == 'product' else jnp.concatenate([last, one], axis=-1)


class GlobalPool(nn.Module):
    """One vector an image; a module, so that it is had by its name where features are asked for."""

    kind: str

    def __call__(self, x: Array) -> Array:
        if self.kind == 'flatten':
            return x.reshape(len(x), -1)
        pooled = {'average': jnp.mean, 'max': jnp.max}
        kinds = ('average', 'max') if self.kind == 'both' else (self.kind,)
        return jnp.concatenate([pooled[kind](x, axis=(1, 2)) for kind in kinds], axis=-1)


class Scalar(nn.Module):
    """One learned number, `value`."""

    start: float

    @nn.compact
    def __call__(self, dtype: jax.typing.DTypeLike) -> jax.typing.ArrayLike:
        return self.param('value', nn.initializers.constant(self.start), (), dtype)


def _draw(part: parts.Dropout | parts.Survival, context: Context) -> Array:
    """The key of a part's draw: of the step, the block and the part, however the body is carried out."""
    block = jax.random.fold_in(context.draws, jnp.asarray(context.position.network, jnp.uint32))
    return jax.random.fold_in(block, part.draw)


def subsample(x: Array, strides: int, how: str) -> Array:
    """Every `strides`-th pixel, or the mean of each field of strides x strides (of what there is, at an odd edge)."""
    if strides == 1:
        return x
    if how == 'stride':
        return x[:, ::strides, ::strides]
    # Not nn.avg_pool: it counts the pixels in JAX's default dtype, and the result would take that.
    window = (strides, strides)
    total = partial(nn.pool, init=0.0, reduce_fn=lax.add, window_shape=window, strides=window, padding='SAME')
    return total(x) / total(jnp.ones_like(x[:1, ..., :1]))
