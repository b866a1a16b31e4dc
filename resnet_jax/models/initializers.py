"""What kernels start at. All are drawn flat: XLA compiles random bits of more axes for three times as long, on a CPU
even those of a dense layer's two."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Deviation of a standard normal variable that is kept within two of its deviations.
TRUNCATED_DEVIATION = 0.87962566103423978


def he_normal(
    key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
) -> Float[Array, 'kh kw i o']:
    """Normal with deviation sqrt(2 / (kh kw o)): He et al. 2015, arXiv 1502.01852, eq. 14."""
    kh, kw, _, features = shape
    draws = jax.random.normal(key, (math.prod(shape),), dtype)
    return (draws * math.sqrt(2 / (kh * kw * features))).reshape(shape)


def lecun_normal(key: Array, shape: tuple[int, int], dtype: jax.typing.DTypeLike = jnp.float32) -> Float[Array, 'i o']:
    """Normal, truncated at two deviations, with deviation 1 / sqrt(i) (LeCun et al. 1998, "Efficient BackProp",
    section 4.6): Flax's own for a dense layer, to the bit."""
    deviation = jnp.sqrt(jnp.array(1 / shape[0], dtype)) / jnp.array(TRUNCATED_DEVIATION, dtype)
    draws = jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype)
    return (draws * deviation).reshape(shape)
