"""The convolution as an operation: one name, two lowerings.

`convolve` is what every layer calls. On accelerators it is XLA's native convolution. On the CPU it is a
convolution with its own gradient, because XLA brings a convolution into the form its fast kernel takes at the
top level of a program only: inside a scan or a while loop the derived gradients fall to a loop 30 times slower.
Here the two gradients are written in the canonical form (NHWC, HWIO -> NHWC) themselves. The convolution, without
strides its input gradient, and the kernel gradient of 1x1 are oneDNN's where it is there, in sizes that matter. What
was measured on the way stands in `benchmarks/README.md`. Such a convolution has no forward-mode (jvp) rule.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from resnet_jax.models import onednn, products
from resnet_jax.models.products import Images, Kernel, padding

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')

# On the CPU, maps up to this many pixels are one product of nine shifted copies: at 2x2 px six times faster than
# a convolution, at 4x4 still ahead, at 8x8 behind.
TINY_MAP_PIXELS = 16

# Up to this size the input gradient of a strided kernel is one product; the zeros in its matrix grow with the kernel.
PHASED_KERNEL = 3

# With fewer channels the forward product is too narrow, with more its copies cost more than the convolution.
FORWARD_PRODUCT_CHANNELS = range(32, 97)


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
        return products.grouped(x, kernel, strides)
    if kernel.shape[:2] == (1, 1):
        return products.pointwise(x, kernel, strides)
    if strides == 1 and x.shape[1] * x.shape[2] <= TINY_MAP_PIXELS and not _by_onednn(x, kernel, strides):
        return products.tiny(x, kernel)
    return _canonical(x, kernel, strides)


def _by_onednn(x: Images, kernel: Kernel, strides: int) -> bool:
    multiply_adds = x.size // strides**2 * math.prod(kernel.shape[:2]) * kernel.shape[3]
    return onednn.pays(multiply_adds, x, kernel)


def _native(x: Images, kernel: Kernel, strides: int) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), padding(kernel), dimension_numbers=DIMENSIONS,
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )  # fmt: skip


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _canonical(x: Images, kernel: Kernel, strides: int) -> Array:
    """A convolution whose gradients are written in the form that XLA's fast CPU kernel takes."""
    if _by_onednn(x, kernel, strides):
        return onednn.convolve(x, kernel, strides)
    fits = all(channels in FORWARD_PRODUCT_CHANNELS for channels in kernel.shape[2:])
    chunk = products.chunk_of(x, kernel, strides) if fits else 0
    return products.by_rows_and_columns(x, kernel, chunk) if chunk else _native(x, kernel, strides)


def _canonical_forward(x, kernel, strides):
    return _canonical(x, kernel, strides), (x, kernel)


def _canonical_backward(strides, saved, g):
    x, kernel = saved
    return _input_gradient(x, kernel, strides, g), _kernel_gradient(x, kernel, strides, g)


_canonical.defvjp(_canonical_forward, _canonical_backward)


def _input_gradient(x, kernel, strides, g):
    """dx = g, spread out by the strides, convolved with the kernel flipped and its channels exchanged."""
    if strides > 1 and max(kernel.shape[:2]) <= PHASED_KERNEL:
        return products.input_gradient_by_phases(x, kernel, strides, g)
    flipped = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    if strides == 1:
        return _canonical(g, flipped, 1)
    pads = [
        (size // 2, x.shape[axis] + size // 2 - 1 - (g.shape[axis] - 1) * strides)
        for axis, size in zip((1, 2), kernel.shape[:2], strict=True)
    ]
    return lax.conv_general_dilated(
        g, flipped, (1, 1), pads, lhs_dilation=(strides, strides), dimension_numbers=DIMENSIONS
    )


def _kernel_gradient(x, kernel, strides, g):
    chunk = products.chunk_of(x, kernel, strides)
    if chunk:
        return products.kernel_gradient_by_rows_and_columns(x, kernel, g, chunk)
    if strides > 1:
        return products.kernel_gradient_by_taps(x, kernel, strides, g)
    # The batch becomes the contracted axis: x as (c, h, w, n), g as the kernel (h2, w2, n, o).
    images, cotangents = lax.optimization_barrier((x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)))
    gradient = lax.conv_general_dilated(images, cotangents, (1, 1), padding(kernel), dimension_numbers=DIMENSIONS)
    return gradient.transpose(1, 2, 0, 3)
