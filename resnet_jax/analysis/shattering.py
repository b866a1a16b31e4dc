"""Shattered gradients: how the gradient of an untrained network changes over its inputs (Balduzzi et al. 2017,
arXiv 1702.08591).

The small networks here are R^d -> R, of a first linear layer h = A x, then layers h <- s h + β W ρ(norm(h)), and
f = v ρ(norm(h)): ρ is the ReLU, and a network of depth L has L of them. Feed-forward: s = 0, β = 1; residual: s = 1.
A is drawn with variance 1 (inputs have a length of about 1), W and v by He et al. 2015: variance 2 / width. There is
no bias: one is the weight of an input that is always 1.

The statistics of `norm` are those of all inputs, and constants to the derivative: it is that of one input alone.
"""

import dataclasses
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num, UInt32

from resnet_jax.models.resnet import ResNet

EPSILON = 1e-5  # of batch normalisation, as in the library's networks


class Layers(NamedTuple):
    """What a small network is made of.

    `norm`: none, centre (each unit minus its mean over the inputs), batch (and by its deviation).
    `start`: he, or looks_linear: ρ(h) beside ρ(-h), under weights [W, -W] with W orthogonal.
    """

    norm: Literal['none', 'centre', 'batch']
    start: Literal['he', 'looks_linear']
    shortcut: float  # s
    scale: float  # β


def gradients(
    layers: Layers,
    key: UInt32[Array, '2'] | Array,
    inputs: Float[Array, 'n d'],
    direction: Float[Array, ' d'],
    readout: Float[Array, 'width functions'],
    *,
    depth: int,
) -> Float[Array, 'depth functions n']:
    """The derivatives along `direction` of the networks of depth 1 to `depth`, at every input.

    The network of depth L is the first layers of the deeper one, with the same v.

    Args:
      key: draws A and W; its networks differ in nothing else.
      readout: v, a column a function; `random_readout` draws one, the identity makes every unit a function.
    """
    gains = jnp.asarray([layers.shortcut, layers.scale], inputs.dtype)
    return _gradients(layers.norm, layers.start, gains, key, inputs, direction, readout, depth=depth)


@partial(jax.jit, static_argnames=('norm', 'start', 'depth'))
def _gradients(norm, start, gains, key, inputs, direction, readout, *, depth: int):
    width, (shortcut, scale) = len(readout), gains
    normalize, features, weights = _NORMS[norm], _FEATURES[start], _WEIGHTS[start]
    of_first, of_layers = jax.random.split(key)
    first = jax.random.normal(of_first, (inputs.shape[1], width), inputs.dtype)

    def layer(h: Array, key: Array) -> tuple[Array, Array]:
        given = features(normalize(h))
        return shortcut * h + scale * (given @ weights(key, width, inputs.dtype)), (given @ _mirror(start, readout)).T

    def functions(inputs: Array) -> Array:
        return lax.scan(layer, inputs @ first, jax.random.split(of_layers, depth))[1]

    return jax.jvp(functions, (inputs,), (jnp.broadcast_to(direction, inputs.shape),))[1]


def random_readout(key: Array, width: int, dtype: jax.typing.DTypeLike) -> Float[Array, 'width 1']:
    """v of one function."""
    return _he(key, (width, 1), dtype)


def _centre(h: Array) -> Array:
    return h - lax.stop_gradient(jnp.mean(h, axis=0))


def _standardize(h: Array) -> Array:
    return _centre(h) * lax.rsqrt(lax.stop_gradient(jnp.var(h, axis=0)) + EPSILON)


def _he(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> Array:
    return jax.random.normal(key, shape, dtype) * jnp.asarray(np.sqrt(2 / shape[0]), dtype)


def _concatenated_relu(h: Array) -> Array:
    return jnp.concatenate([jax.nn.relu(h), jax.nn.relu(-h)], axis=-1)


def _mirror(start: str, weights: Array) -> Array:
    return jnp.concatenate([weights, -weights]) if start == 'looks_linear' else weights


def _looks_linear(key: Array, width: int, dtype: jax.typing.DTypeLike) -> Array:
    return _mirror('looks_linear', jax.random.orthogonal(key, width, dtype=dtype))


_NORMS = {'none': lambda h: h, 'centre': _centre, 'batch': _standardize}
_FEATURES = {'he': jax.nn.relu, 'looks_linear': _concatenated_relu}
_WEIGHTS = {'he': lambda key, width, dtype: _he(key, (width, width), dtype), 'looks_linear': _looks_linear}


@partial(jax.jit, static_argnames='network')
def line_gradients(
    network: ResNet,
    key: UInt32[Array, '2'] | Array,
    batch: Float[Array, 'n h w c'],
    ends: Float[Array, '2 h w c'],
    positions: Float[Array, ' points'],
) -> Float[Array, ' points']:
    """df/ds of a fresh network's first logit along the line (1 - s) a + s b between two images, at each position s.

    BN has the statistics of `batch`, as at the first step of training, and they are constants to the derivative.
    """
    at_once = ResNet(dataclasses.replace(network.arch, norm_momentum=0.0), network.scan_from)  # keeps the batch's own
    variables = at_once.init_variables(key, batch.dtype)
    _, kept = at_once.apply(variables, batch, train=True, mutable=['batch_stats'], rngs={'dropout': key})
    variables = {**variables, **kept}

    def first_logits(positions: Array) -> Array:
        share = positions[:, None, None, None]
        logits: Any = at_once.apply(variables, (1 - share) * ends[0] + share * ends[1], train=False)
        return jnp.sum(logits[:, 0])

    return jax.grad(first_logits)(positions)


def autocorrelation(series: Float[np.ndarray, '*batch points'], lags: int) -> Float[np.ndarray, '*batch lags']:
    """Of lags 0 to lags - 1: Σ_i y_i y_{i+k} / Σ_i y_i², y being the series without its mean."""
    y = series - series.mean(axis=-1, keepdims=True)
    count = y.shape[-1]
    products = [np.sum(y[..., lag:] * y[..., : count - lag], axis=-1) for lag in range(lags)]
    return np.stack(products, axis=-1) / products[0][..., None]


def expected_autocorrelation(covariance: Float[np.ndarray, 'points points'], lags: int) -> Float[np.ndarray, ' lags']:
    """What `autocorrelation` is in the mean, of normal series with mean 0 and this covariance.

    A mean of ratios of quadratic forms in normal variables: with y = Σ_i √λ_i q_i z_i, z standard normal, it is
    ∫₀^∞ Π_i (1 + 2tλ_i)^(-1/2) Σ_i λ_i q_iᵀ S_k q_i / (1 + 2tλ_i) dt, S_k shifting by k (Magnus 1986, Annales
    d'Économie et de Statistique 4). Over log t the integrand is smooth, and the trapezoid rule exact to rounding.
    """
    count = len(covariance)
    centre = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(centre @ covariance @ centre)
    values, vectors = values[1:], vectors[:, 1:]  # the constant series is gone
    shifted = [np.sum(vectors[lag:] * vectors[: count - lag], axis=0) for lag in range(lags)]
    logarithms = np.linspace(-40, 40, 4001) - np.log(values.sum())
    times = np.exp(logarithms)
    shrunk = 1 + 2 * times[:, None] * values
    weights = np.exp(logarithms - np.sum(np.log(shrunk), axis=1) / 2)
    integrands = weights[:, None] * ((values / shrunk) @ np.stack(shifted, axis=1))
    return integrands.sum(axis=0) * (logarithms[1] - logarithms[0])


def brown_covariance(points: int) -> Float[np.ndarray, 'points points']:
    """Of brown noise, the running sum of white noise: min(i, j)."""
    numbers = np.arange(1.0, points + 1)
    return np.minimum(numbers[:, None], numbers)


def covariance(series: Float[np.ndarray, '*batch points']) -> Float[np.ndarray, '*batch points points']:
    """|(g - ḡ)(g - ḡ)ᵀ| / σ²_g of a series g, with its own mean and variance (Balduzzi et al. 2017)."""
    y = series - series.mean(axis=-1, keepdims=True)
    return np.abs(y[..., :, None] * y[..., None, :]) / y.var(axis=-1)[..., None, None]


def correlation(gradients: Num[np.ndarray, '*batch functions n']) -> Float[np.ndarray, '*batch']:
    """Of the gradients at two different inputs: E[g_i g_j] / E[g_i²], means over pairs of inputs and functions."""
    count = gradients.shape[-1]
    squares = np.sum(gradients**2, axis=(-2, -1))
    pairs = np.sum(gradients.sum(axis=-1) ** 2, axis=-1) - squares
    return pairs / ((count - 1) * squares)


def variation(series: Num[np.ndarray, '*batch points']) -> Float[np.ndarray, '*batch']:
    """Standard deviation over root mean square: 0 where the gradient is the same everywhere, 1 where its mean is 0."""
    return series.std(axis=-1) / np.sqrt(np.mean(series**2, axis=-1))


def residual_correlation(scale: float, depth: int, growth: float) -> float:
    """R = Π_{l=1}^{L-1} (1 + β²/2v_l) / (1 + β²/v_l), of a residual network with BN and inputs that are independent.

    A layer adds β W ρ(BN(h)): β²/v_l to the square of the gradient, and half of it to the product of the gradients at
    two inputs, which are both let through a quarter of the time. v_l = 1 + growth β² (l - 1) is the variance of h:
    every layer adds E[2ρ²] = 1 to its square. But BN divides by the variance about the mean, and there
    2 Var ρ = 1 - 1/π is added: `RELU_GROWTH`.

    Args:
      growth: 1 or `RELU_GROWTH`.
    """
    added = scale**2 / (1 + growth * scale**2 * np.arange(depth - 1))
    return float(np.prod((1 + added / 2) / (1 + added)))


RELU_GROWTH = 1 - 1 / np.pi
