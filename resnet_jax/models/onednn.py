"""oneDNN's convolution and product, which jaxlib for x86 brings along: faster than XLA's own, the convolution up to
three times.

XLA calls them where a rewriter of its own has put custom calls, and the rewriter is off; here the calls are made by
hand. Their configuration is XLA's own affair, and a wrong one ends the process, so only the versions they were tried
with are asked, and `there` compares one of each with XLA's before any network has one.

From the first call on this process keeps no more compiled programs, and nobody may have it do so: XLA does not refuse
to write one with such a call down, but reads memory for it that is not its own.
"""

import json
import math
from collections.abc import Callable
from functools import cache
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float32

from resnet_jax.models.platform import on_one_cpu

TRIED = ('0.10.2',)  # versions of jaxlib
MULTIPLY_ADDS = 10**7  # It is ahead in any size. But programs with it are not kept, so small ones do without.
KEPT_FROM = 'jax_persistent_cache_min_compile_time_secs'  # seconds that a program kept on disk took to compile


def pays(multiply_adds: int, *arrays: Array) -> bool:
    """Is it to be asked for something of this size, of these arrays?"""
    return multiply_adds >= MULTIPLY_ADDS and all(each.dtype == jnp.float32 for each in arrays) and there()


@cache
def there() -> bool:
    """Is it, in this process? Not on several devices: XLA would gather a batch that is spread over them."""
    if metadata.version('jaxlib') not in TRIED or not on_one_cpu():
        return False
    kept = jax.config.values[KEPT_FROM]
    if _is_right():
        return True
    jax.config.update(KEPT_FROM, kept)
    return False


def _is_right() -> bool:
    """Does it give what XLA's gives? Compared as numbers, whatever is traced meanwhile."""
    with jax.ensure_compile_time_eval():
        shapes = (2, 4, 5, 2), (3, 3, 2, 3), (20, 4), (20, 3)
        x, kernel, a, b = (jnp.arange(math.prod(shape), dtype=jnp.float32).reshape(shape) for shape in shapes)
        try:
            found = _convolution(x, kernel, 2), _product(a, b)
        except jax.errors.JaxRuntimeError:  # of this build it is no part
            return False
        exact = lax.conv_general_dilated(x, kernel, (2, 2), [(1, 1)] * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
        return np.array_equal(found[0], exact) and np.array_equal(found[1], a.T @ b)


def convolve(
    x: Float32[Array, 'n h w c'], kernel: Float32[Array, 'kh kw c o'], strides: int
) -> Float32[Array, 'n h2 w2 o']:
    """A convolution of float32, padded by (k - 1) / 2 on every side. It has no gradient of its own."""

    @jax.custom_batching.custom_vmap
    def one(x: Array, kernel: Array) -> Array:
        return _convolution(x, kernel, strides)

    @one.def_vmap
    def _(size: int, batched: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
        if not batched[1]:
            y = one(x.reshape(-1, *x.shape[2:]), kernel)
            return y.reshape(size, -1, *y.shape[1:]), True
        return _one_by_one(one, size, batched, x, kernel)

    return one(x, kernel)


@jax.custom_vjp
def product(a: Float32[Array, 'n i'], b: Float32[Array, 'n o']) -> Float32[Array, 'i o']:
    """a.T @ b of float32."""
    return _mapped_product(a, b)


def _product_forward(a, b):
    return product(a, b), (a, b)


def _product_backward(saved, g):
    a, b = saved
    return b @ g.T, a @ g


product.defvjp(_product_forward, _product_backward)


@jax.custom_batching.custom_vmap
def _mapped_product(a: Array, b: Array) -> Array:
    return _product(a, b)


@_mapped_product.def_vmap
def _(size: int, batched: list[bool], a: Array, b: Array) -> tuple[Array, bool]:
    return _one_by_one(_mapped_product, size, batched, a, b)


def _one_by_one(call: Callable, size: int, batched: list[bool], *operands: Array) -> tuple[Array, bool]:
    def at(index: Array) -> Array:
        return call(*(each[index] if many else each for each, many in zip(operands, batched, strict=True)))

    return lax.map(at, jnp.arange(size)), True


def _convolution(x: Array, kernel: Array, strides: int) -> Array:
    (count, *sides, _), (*sizes, _, features) = x.shape, kernel.shape
    pads = [size // 2 for size in sizes]
    reached = [(side + 2 * pad - size) // strides + 1 for side, pad, size in zip(sides, pads, sizes, strict=True)]
    # The names are those of XLA's OneDnnConvolutionConfig; dilations count from 1.
    data = {'batch_dim': 0, 'feature_dim': 3, 'spatial_dims': [1, 2]}
    taps = {'input_feature_dim': 2, 'output_feature_dim': 3, 'spatial_dims': [0, 1]}
    window = {'size': sizes, 'pad_left': pads, 'pad_right': pads, 'strides': [strides] * 2, 'window_dilations': [1, 1]}
    config = {
        'dims': 4, 'feature_groups': 1, 'window': window, 'kernel': {'dims': 4, 'filter': taps},
        'input': {'dims': 4, 'data': data}, 'output': {'dims': 4, 'data': data},
    }  # fmt: skip
    return _call('convolution', {'onednn_conv_config': config}, (count, *reached, features), x, kernel)


def _product(a: Array, b: Array) -> Array:
    return _call('matmul', {'onednn_matmul_config': {'transpose_a': True}}, (a.shape[1], b.shape[1]), a, b)


def _call(name: str, config: dict, shape: tuple[int, ...], *operands: Array) -> Array:
    jax.config.update(KEPT_FROM, float('inf'))
    call = jax.ffi.ffi_call(
        f'__onednn${name}', jax.ShapeDtypeStruct(shape, jnp.float32), custom_call_api_version=2,
        legacy_backend_config=json.dumps(config),
    )  # fmt: skip
    return call(*operands)
