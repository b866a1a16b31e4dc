"""Convolutions as matrix products, for the CPU: in which shapes they beat its convolution, `convolve` knows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from resnet_jax.models import onednn

# Bytes of shifted copies that stay in the cache while a chunk of the batch is multiplied.
CACHED_BYTES = 5 << 20

# Rows of a product that make it worth its start.
PRODUCT_ROWS = 2048

Images = Float[Array, 'n h w c']
Kernel = Float[Array, 'kh kw i o']  # i: the channels of a group


def pointwise(x: Images, kernel: Kernel, strides: int) -> Array:
    """A 1x1 convolution is a product over the channels; a strided one subsamples first."""
    return _product(x[:, ::strides, ::strides], kernel[0, 0])


@jax.custom_vjp
def _product(x: Images, matrix: Float[Array, 'c o']) -> Array:
    """x @ matrix. Its gradient by the matrix is oneDNN's, or summed up over chunks of the batch: else XLA transposes
    all of x, and computes what leads to x anew for it, number by number in the transposed order."""
    return x @ matrix


def _product_forward(x, matrix):
    return _product(x, matrix), (x, matrix)


def _product_backward(saved, g):
    x, matrix = saved
    return g @ matrix.T, _matrix_gradient(x, g)


_product.defvjp(_product_forward, _product_backward)


def _matrix_gradient(x: Images, g: Float[Array, 'n h w o']) -> Array:
    """The sum over the pixels of all images of the products of their features (c, o)."""
    if onednn.pays(x.size * g.shape[-1], x, g):
        return onednn.product(_flat(x), _flat(g))
    if x.shape[-1] > g.shape[-1]:  # the narrower one on the left takes two thirds of the time
        return _matrix_gradient(g, x).T
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


def tiny(x: Images, kernel: Kernel) -> Array:
    """The product of the copies of x that the kernel's taps see, side by side on the channels."""
    return jnp.concatenate(_taps(x, kernel, 1), axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def grouped(x: Images, kernel: Kernel, strides: int) -> Array:
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
    padded = jnp.pad(x, ((0, 0), *padding(kernel), (0, 0)))
    return [padded[:, i : i + height : strides, j : j + width : strides] for i in range(rows) for j in range(columns)]


def padding(kernel: Kernel) -> list[tuple[int, int]]:
    return [(size // 2, size // 2) for size in kernel.shape[:2]]


def kernel_gradient_by_taps(x, kernel, strides, g):
    """What each tap sees of x, side by side on the channels, times g."""

    def product(images, cotangents):
        copies = lax.optimization_barrier(jnp.concatenate(_taps(images, kernel, strides), axis=-1))
        return _flat(copies).T @ _flat(cotangents)

    return _sum_over_chunks(product, x, g).reshape(kernel.shape)


def input_gradient_by_phases(x, kernel, strides, g):
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


# A kernel of k x k taps is a product of k copies of x, shifted by rows, and k copies of the result, shifted by
# columns: the matrix between them has k c rows and k o columns, as wide as the machine likes it, and 2k copies
# are made instead of k^2. Chunks of the batch keep the copies in the cache.


def by_rows_and_columns(x: Images, kernel: Kernel, chunk: int) -> Array:
    size, _, channels, features = kernel.shape
    matrix = kernel.swapaxes(1, 2).reshape(size * channels, size * features)
    pad, width = size // 2, x.shape[2]

    def convolve_chunk(images):
        rows = lax.optimization_barrier(_shift(images, axis=1, size=size).reshape(-1, size * channels))
        columns = lax.optimization_barrier((rows @ matrix).reshape(*images.shape[:3], size, features))
        padded = jnp.pad(columns, ((0, 0), (0, 0), (pad, pad), (0, 0), (0, 0)))
        return sum(padded[:, :, j : j + width, j] for j in range(size))

    return lax.map(convolve_chunk, x.reshape(-1, chunk, *x.shape[1:])).reshape(*x.shape[:3], features)


def kernel_gradient_by_rows_and_columns(x, kernel, g, chunk):
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


def chunk_of(x: Images, kernel: Kernel, strides: int) -> int:
    """Examples at a time whose copies fit the cache; 0 where that way is not to be gone: strides, a kernel that is not
    square, a batch that does not divide into chunks near that."""
    size, columns, channels, features = kernel.shape
    if strides != 1 or size != columns:
        return 0
    fit = max(2, CACHED_BYTES // (x[0, ..., 0].size * size * (channels + features) * x.dtype.itemsize))
    divisor = next(d for d in range(min(fit, x.shape[0]), 0, -1) if x.shape[0] % d == 0)
    return divisor if 4 * divisor >= min(fit, x.shape[0]) else 0
