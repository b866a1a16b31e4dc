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

# Up to this size the input gradient of a strided kernel is one product; the zeros in its matrix grow with the kernel.
PHASED_KERNEL = 3

# Rows of a product that make it worth its start.
PRODUCT_ROWS = 2048

# With fewer channels the forward product is too narrow, with more its copies cost more than the convolution.
FORWARD_PRODUCT_CHANNELS = range(32, 97)

# One over the deviation that a ReLU leaves of a normal variable of deviation 1 (Brock et al. 2021, arXiv 2101.08692,
# section 4.1): sqrt(2 / (1 - 1 / pi)) = 1.71286, in the authors' code and in timm as estimated by sampling.
RELU_GAIN = 1.7139588594436646
STANDARDIZE_EPSILON = 1e-5

Images = Float[Array, 'n h w c']
Kernel = Float[Array, 'kh kw i o']  # i: the channels of a group


def he_normal(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> Kernel:
    """Normal with deviation sqrt(2 / (kh kw o)): He et al. 2015, arXiv 1502.01852, eq. 14."""
    kh, kw, _, features = shape
    # Drawn flat: XLA compiles random bits of one axis three times faster than of four.
    draws = jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
    return draws * math.sqrt(2 / (kh * kw * features))


class Conv(nn.Module):
    """A convolution, symmetric padding of (kernel - 1) / 2 as the papers and torch have it.

    Attributes:
      kernel_size: height and width, both odd.
      bias: what the bias starts at; None: there is none.
      init_scale: factor of He's deviation.
      kind: plain, standardized (Qiao et al. 2019, arXiv 1903.10520) or scaled_standardized (Brock et al. 2021,
        arXiv 2101.08692, eq. 3, with a learned gain a feature and the gain of ReLU).
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int
    groups: int
    bias: float | None
    init_scale: float
    kind: str

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, 'n h2 w2 o']:
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param('kernel', lambda *arguments: self.init_scale * he_normal(*arguments), shape, x.dtype)
        if self.kind != 'plain':
            kernel = standardize(kernel)
        if self.kind == 'scaled_standardized':
            gain = self.param('gain', nn.initializers.ones, (self.features,), x.dtype)
            kernel = kernel * gain * (RELU_GAIN / math.sqrt(math.prod(shape[:3])))
        y = convolve(x, kernel, strides=self.strides)
        if self.bias is None:
            return y
        return y + self.param('bias', nn.initializers.constant(self.bias), (self.features,), x.dtype)


def standardize(kernel: Kernel) -> Kernel:
    """Every filter minus its mean, divided by its deviation."""
    centred = kernel - jnp.mean(kernel, axis=(0, 1, 2))
    return centred * lax.rsqrt(jnp.mean(jnp.square(centred), axis=(0, 1, 2)) + STANDARDIZE_EPSILON)


def convolve(x: Images, kernel: Kernel, *, strides: int = 1) -> Float[Array, 'n h2 w2 o']:
    """Convolves images (n, h, w, c) with an odd kernel (kh, kw, c / groups, o), padded by (k - 1) / 2 on every side.

    Args:
      x: images, any float dtype.
      kernel: of the same dtype; with fewer channels than x it is one of groups.
      strides: of both axes; the result is ceil(h / strides) high.

    Raises:
      ValueError: for an even kernel, whose symmetric padding does not exist.
    """
    if kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ValueError(f'kernels are odd, got {kernel.shape[:2]}; use 1, 3, 5 or 7')
    if jax.default_backend() != 'cpu':
        return _native(x, kernel, strides)
    if x.shape[-1] != kernel.shape[2]:
        return _grouped(x, kernel, strides)
    if kernel.shape[:2] == (1, 1):
        return _pointwise(x, kernel, strides)
    if strides == 1 and x.shape[1] * x.shape[2] <= TINY_MAP_PIXELS:
        return _tiny(x, kernel)
    return _canonical(x, kernel, strides)


def _native(x: Images, kernel: Kernel, strides: int) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), _padding(kernel), dimension_numbers=DIMENSIONS,
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )  # fmt: skip


def _padding(kernel: Kernel) -> list[tuple[int, int]]:
    return [(size // 2, size // 2) for size in kernel.shape[:2]]


def _pointwise(x: Images, kernel: Kernel, strides: int) -> Array:
    """A 1x1 convolution is a product over the channels; a strided one subsamples first."""
    return _product(x[:, ::strides, ::strides], kernel[0, 0])


@jax.custom_vjp
def _product(x: Images, matrix: Float[Array, 'c o']) -> Array:
    """x @ matrix. Its gradient by the matrix is summed up over chunks of the batch: else XLA transposes all of x, and
    computes what leads to x anew for it, number by number in the transposed order."""
    return x @ matrix


def _product_forward(x, matrix):
    return _product(x, matrix), (x, matrix)


def _product_backward(saved, g):
    x, matrix = saved
    return g @ matrix.T, _matrix_gradient(x, g)


_product.defvjp(_product_forward, _product_backward)


def _matrix_gradient(x: Images, g: Float[Array, 'n h w o']) -> Array:
    """The sum over chunks of the batch of what leads to each pixel's features, as a product (c, o)."""
    return _sum_over_chunks(lambda images, cotangents: _flat(images).T @ _flat(cotangents), x, g)


def _sum_over_chunks(product: Callable, x: Images, g: Float[Array, 'n h2 w2 o']) -> Array:
    """product(x, g), summed over chunks of the batch that give it rows enough and still fit a cache."""
    most = max(2, PRODUCT_ROWS // (g.shape[1] * g.shape[2]))
    chunk = next(d for d in range(min(most, len(x)), 0, -1) if len(x) % d == 0)
    chunks = tuple(each.reshape(-1, chunk, *each.shape[1:]) for each in (x, g))
    shape = jax.eval_shape(product, *(each[0] for each in chunks))
    total, _ = lax.scan(lambda total, part: (total + product(*part), None), jnp.zeros(shape.shape, shape.dtype), chunks)
    return total


def _flat(x: Array) -> Array:
    """(pixels of all images, channels)."""
    return x.reshape(-1, x.shape[-1])


def _tiny(x: Images, kernel: Kernel) -> Array:
    """The product of the copies of x that the kernel's taps see, side by side on the channels."""
    return jnp.concatenate(_taps(x, kernel, 1), axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _grouped(x: Images, kernel: Kernel, strides: int) -> Array:
    """The same for each group of channels: XLA's own gradient of a grouped convolution takes 25 times as long."""
    rows, columns, channels, features = kernel.shape
    groups = x.shape[-1] // channels
    taps = [tap.reshape(*tap.shape[:3], groups, channels) for tap in _taps(x, kernel, strides)]
    matrices = kernel.reshape(rows * columns * channels, groups, -1)
    y = jnp.einsum('nhwgk,kgo->nhwgo', jnp.concatenate(taps, axis=-1), matrices)
    return y.reshape(*y.shape[:3], features)


def _taps(x: Images, kernel: Kernel, strides: int) -> list[Array]:
    """What each tap of a kernel sees of x: one copy of the result's size each."""
    (_, height, width, _), (rows, columns) = x.shape, kernel.shape[:2]
    padded = jnp.pad(x, ((0, 0), *_padding(kernel), (0, 0)))
    return [padded[:, i : i + height : strides, j : j + width : strides] for i in range(rows) for j in range(columns)]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _canonical(x: Images, kernel: Kernel, strides: int) -> Array:
    """A convolution whose gradients are written in the form that XLA's fast CPU kernel takes."""
    fits = all(channels in FORWARD_PRODUCT_CHANNELS for channels in kernel.shape[2:])
    chunk = _chunk(x, kernel, strides) if fits else 0
    return _by_rows_and_columns(x, kernel, chunk) if chunk else _native(x, kernel, strides)


def _canonical_forward(x, kernel, strides):
    return _canonical(x, kernel, strides), (x, kernel)


def _canonical_backward(strides, saved, g):
    x, kernel = saved
    return _input_gradient(x, kernel, strides, g), _kernel_gradient(x, kernel, strides, g)


_canonical.defvjp(_canonical_forward, _canonical_backward)


def _input_gradient(x, kernel, strides, g):
    """dx = g, spread out by the strides, convolved with the kernel flipped and its channels exchanged."""
    if strides > 1 and max(kernel.shape[:2]) <= PHASED_KERNEL:
        return _input_gradient_by_phases(x, kernel, strides, g)
    flipped = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    if strides == 1:
        return _canonical(g, flipped, 1)
    padding = [
        (size // 2, x.shape[axis] + size // 2 - 1 - (g.shape[axis] - 1) * strides)
        for axis, size in zip((1, 2), kernel.shape[:2], strict=True)
    ]
    return lax.conv_general_dilated(
        g, flipped, (1, 1), padding, lhs_dilation=(strides, strides), dimension_numbers=DIMENSIONS
    )


def _input_gradient_by_phases(x, kernel, strides, g):
    """Pixels of x of one remainder by the strides see g through the same taps: of copies of g, moved by what any
    remainder sees, one product makes all of them, and no zero between the strides is multiplied."""
    rows, columns, channels, features = kernel.shape
    phases = [(a, b) for a in range(strides) for b in range(strides)]
    tall, broad = (-(-side // strides) for side in x.shape[1:3])
    reach = max(rows, columns) // 2 // strides + 1
    padded = jnp.pad(g, ((0, 0), (reach, reach + tall - g.shape[1]), (reach, reach + broad - g.shape[2]), (0, 0)))
    copies, matrix = [], []
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            taps = [(a + rows // 2 - strides * down, b + columns // 2 - strides * right) for a, b in phases]
            seen = [0 <= i < rows and 0 <= j < columns for i, j in taps]
            if not any(seen):
                continue
            copies.append(padded[:, reach + down : reach + down + tall, reach + right : reach + right + broad])
            zero = jnp.zeros((features, channels), kernel.dtype)
            matrix.append([kernel[tap].T if inside else zero for tap, inside in zip(taps, seen, strict=True)])
    y = jnp.concatenate(copies, axis=-1) @ jnp.block(matrix)
    y = y.reshape(len(x), tall, broad, strides, strides, channels).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(len(x), tall * strides, broad * strides, channels)[:, : x.shape[1], : x.shape[2]]


def _kernel_gradient(x, kernel, strides, g):
    chunk = _chunk(x, kernel, strides)
    if chunk:
        return _kernel_gradient_by_rows_and_columns(x, kernel, g, chunk)
    if strides > 1:
        return _kernel_gradient_by_taps(x, kernel, strides, g)
    # The batch becomes the contracted axis: x as (c, h, w, n), g as the kernel (h2, w2, n, o).
    images, cotangents = lax.optimization_barrier((x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)))
    gradient = lax.conv_general_dilated(images, cotangents, (1, 1), _padding(kernel), dimension_numbers=DIMENSIONS)
    return gradient.transpose(1, 2, 0, 3)


def _kernel_gradient_by_taps(x, kernel, strides, g):
    """What each tap sees of x, side by side on the channels, times g."""

    def product(images, cotangents):
        copies = lax.optimization_barrier(jnp.concatenate(_taps(images, kernel, strides), axis=-1))
        return _flat(copies).T @ _flat(cotangents)

    return _sum_over_chunks(product, x, g).reshape(kernel.shape)


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


def _chunk(x: Images, kernel: Kernel, strides: int) -> int:
    """Examples at a time whose copies fit the cache; 0 where that way is not to be gone: strides, a kernel that is not
    square, a batch that does not divide into chunks near that."""
    size, columns, channels, features = kernel.shape
    if strides != 1 or size != columns:
        return 0
    fit = max(2, CACHED_BYTES // (x[0, ..., 0].size * size * (channels + features) * x.dtype.itemsize))
    divisor = next(d for d in range(min(fit, x.shape[0]), 0, -1) if x.shape[0] % d == 0)
    return divisor if 4 * divisor >= min(fit, x.shape[0]) else 0
