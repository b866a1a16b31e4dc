"""The convolution: one name, two lowerings.

`convolve` is what every layer calls. On accelerators it is XLA's native convolution. On the CPU it is a
convolution with its own gradient, because XLA brings a convolution into the form its fast kernel takes at the
top level of a program only: inside a scan or a while loop the derived gradients fall to a loop 30 times slower.
Here the two gradients are written in the canonical form (NHWC, HWIO -> NHWC) themselves; what was measured on
the way stands in `benchmarks/README.md`. Such a convolution has no forward-mode (jvp) rule.
"""

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')

# On the CPU, maps up to this many pixels are one product of nine shifted copies: at 2x2 px six times faster than
# a convolution, at 4x4 still ahead, at 8x8 behind.
TINY_MAP_PIXELS = 16

# Bytes of shifted copies that stay in the cache while a chunk of the batch is multiplied.
CACHED_BYTES = 5 << 20

# Below this many channels the forward product is too narrow, and the convolution is faster.
WIDE_CHANNELS = 32

Images = Float[Array, 'n h w c']
Kernel = Float[Array, 'kh kw c o']


def he_normal(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> Kernel:
    """Normal with deviation sqrt(2 / (kh kw o)): He et al. 2015, arXiv 1502.01852, eq. 14."""
    kh, kw, _, features = shape
    # Drawn flat: XLA compiles random bits of one axis three times faster than of four.
    draws = jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
    return draws * math.sqrt(2 / (kh * kw * features))


class Conv(nn.Module):
    """A convolution without bias, symmetric padding of (kernel - 1) / 2 as the papers and torch have it."""

    features: int
    kernel_size: int
    strides: int = 1
    kernel_init: Callable = he_normal

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, 'n h2 w2 o']:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape, x.dtype)
        return convolve(x, kernel, strides=self.strides)


def convolve(x: Images, kernel: Kernel, *, strides: int = 1) -> Float[Array, 'n h2 w2 o']:
    """Convolves images (n, h, w, c) with an odd kernel (k, k, c, o), padded by (k - 1) / 2 on every side.

    Args:
      x: images, any float dtype.
      kernel: of the same dtype.
      strides: of both axes; the result is ceil(h / strides) high.

    Raises:
      ValueError: for an even kernel, whose symmetric padding does not exist.
    """
    if kernel.shape[0] % 2 == 0 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f'kernels are square and odd, got {kernel.shape[:2]}; use 1, 3, 5 or 7')
    if jax.default_backend() != 'cpu':
        return _native(x, kernel, strides)
    if kernel.shape[0] == 1:
        return _pointwise(x, kernel, strides)
    if strides == 1 and x.shape[1] * x.shape[2] <= TINY_MAP_PIXELS:
        return _tiny(x, kernel)
    return _canonical(x, kernel, strides)


def _native(x: Images, kernel: Kernel, strides: int) -> Array:
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(x, kernel, (strides, strides), [(pad, pad)] * 2, dimension_numbers=DIMENSIONS)


def _pointwise(x: Images, kernel: Kernel, strides: int) -> Array:
    """A 1x1 convolution is a product over the channels; a strided one subsamples first."""
    return x[:, ::strides, ::strides] @ kernel[0, 0]


def _tiny(x: Images, kernel: Kernel) -> Array:
    """The product of the copies of x that the kernel's taps see, side by side on the channels."""
    size = kernel.shape[0]
    pad, (_, height, width, _) = size // 2, x.shape
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    taps = [padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _canonical(x: Images, kernel: Kernel, strides: int) -> Array:
    """A convolution whose gradients are written in the form that XLA's fast CPU kernel takes."""
    chunk = _chunk(x, kernel) if strides == 1 and min(kernel.shape[2:]) >= WIDE_CHANNELS else 0
    return _by_rows_and_columns(x, kernel, chunk) if chunk else _native(x, kernel, strides)


def _canonical_forward(x, kernel, strides):
    return _canonical(x, kernel, strides), (x, kernel)


def _canonical_backward(strides, saved, g):
    x, kernel = saved
    return _input_gradient(x, kernel, strides, g), _kernel_gradient(x, kernel, strides, g)


_canonical.defvjp(_canonical_forward, _canonical_backward)


def _input_gradient(x, kernel, strides, g):
    """dx = g, spread out by the strides, convolved with the kernel flipped and its channels exchanged."""
    flipped = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    if strides == 1:
        return _canonical(g, flipped, 1)
    size = kernel.shape[0]
    low = size - 1 - size // 2
    padding = [(low, x.shape[a] + size // 2 - 1 - (g.shape[a] - 1) * strides) for a in (1, 2)]
    return lax.conv_general_dilated(
        g, flipped, (1, 1), padding, lhs_dilation=(strides, strides), dimension_numbers=DIMENSIONS
    )


def _kernel_gradient(x, kernel, strides, g):
    chunk = _chunk(x, kernel) if strides == 1 else 0
    if chunk:
        return _kernel_gradient_by_rows_and_columns(x, kernel, g, chunk)
    # The batch becomes the contracted axis: x as (c, h, w, n), g as the kernel (h2, w2, n, o).
    images, cotangents = lax.optimization_barrier((x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)))
    size = kernel.shape[0]
    pad = size // 2
    high = [size + (g.shape[a] - 1) * strides - x.shape[a] - pad for a in (1, 2)]
    gradient = lax.conv_general_dilated(
        images, cotangents, (1, 1), [(pad, high[0]), (pad, high[1])],
        rhs_dilation=(strides, strides), dimension_numbers=DIMENSIONS,
    )  # fmt: skip
    return gradient.transpose(1, 2, 0, 3)


# A kernel of k x k taps is a product of k copies of x, shifted by rows, and k copies of the result, shifted by
# columns: the matrix between them has k c rows and k o columns, as wide as the machine likes it, and 2k copies
# are made instead of k^2. Chunks of the batch keep the copies in the cache.


def _by_rows_and_columns(x: Images, kernel: Kernel, chunk: int) -> Array:
    size, _, channels, features = kernel.shape
    matrix = kernel.swapaxes(1, 2).reshape(size * channels, size * features)
    pad, width = size // 2, x.shape[2]

    def convolve_chunk(images):
        rows = lax.optimization_barrier(_shift(images, axis=1, size=size).reshape(-1, size * channels))
        columns = lax.optimization_barrier((rows @ matrix).reshape(*images.shape[:3], size, features))
        padded = jnp.pad(columns, ((0, 0), (0, 0), (pad, pad), (0, 0), (0, 0)))
        return sum(padded[:, :, j : j + width, j] for j in range(size))

    return lax.map(convolve_chunk, x.reshape(-1, chunk, *x.shape[1:])).reshape(*x.shape[:3], features)


def _kernel_gradient_by_rows_and_columns(x, kernel, g, chunk):
    size, _, channels, features = kernel.shape

    def add(total, part):
        rows = _shift(part[0], axis=1, size=size).reshape(-1, size * channels)
        columns = _shift(part[1], axis=2, size=size, reverse=True).reshape(-1, size * features)
        rows, columns = lax.optimization_barrier((rows, columns))
        return total + columns.T @ rows, None

    chunks = (x.reshape(-1, chunk, *x.shape[1:]), g.reshape(-1, chunk, *g.shape[1:]))
    total, _ = lax.scan(add, jnp.zeros((size * features, size * channels), x.dtype), chunks)
    return total.T.reshape(size, channels, size, features).swapaxes(1, 2)


def _shift(x: Images, *, axis: int, size: int, reverse: bool = False) -> Array:
    """Copies of x moved along `axis` by -size//2 … size//2 (or back), zeros moving in, side by side on channels."""
    pad = size // 2
    padded = jnp.pad(x, [(pad, pad) if a == axis else (0, 0) for a in range(4)])
    starts = reversed(range(size)) if reverse else range(size)
    copies = [lax.slice_in_dim(padded, start, start + x.shape[axis], axis=axis) for start in starts]
    return jnp.concatenate(copies, axis=-1)


def _chunk(x: Images, kernel: Kernel) -> int:
    """Examples at a time whose copies fit the cache; 0 where the batch does not divide into chunks near that."""
    size, _, channels, features = kernel.shape
    fit = max(1, CACHED_BYTES // (x[0, ..., 0].size * size * (channels + features) * x.dtype.itemsize))
    divisor = next(d for d in range(min(fit, x.shape[0]), 0, -1) if x.shape[0] % d == 0)
    return divisor if 4 * divisor >= min(fit, x.shape[0]) else 0
