"""oneDNN's convolution, which jaxlib for x86 brings along: up to three times as fast as XLA's own.

XLA calls it where a rewriter of its own has put a custom call, and the rewriter is off; here the call is made by hand.
Its configuration is XLA's own affair, and a wrong one ends the process, so only the versions it was tried with are
asked, and `there` compares one convolution with XLA's before any network has one.
"""

import json
import math
from functools import cache
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from resnet_jax.models.platform import on_one_cpu

TRIED = ('0.10.2',)  # versions of jaxlib
KEPT_FROM = 'jax_persistent_cache_min_compile_time_secs'  # seconds that a program kept on disk took to compile


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
        shapes = (2, 4, 5, 2), (3, 3, 2, 3)
        x, kernel = (jnp.arange(math.prod(shape), dtype=jnp.float32).reshape(shape) for shape in shapes)
        try:
            found = _call(x, kernel, 2)
        except jax.errors.JaxRuntimeError:  # of this build it is no part
            return False
        exact = lax.conv_general_dilated(x, kernel, (2, 2), [(1, 1)] * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
        return np.array_equal(found, exact)


def convolve(x: Float[Array, 'n h w c'], kernel: Float[Array, 'kh kw c o'], strides: int) -> Float[Array, 'n h2 w2 o']:
    """A convolution of float32, padded by (k - 1) / 2 on every side. It has no gradient of its own.

    From the first on this process keeps no more compiled programs, and nobody may have it do so: XLA does not refuse to
    write one with such a call down, but reads memory for it that is not its own.
    """

    @jax.custom_batching.custom_vmap
    def one(x: Array, kernel: Array) -> Array:
        return _call(x, kernel, strides)

    @one.def_vmap
    def _(size: int, batched: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
        if not batched[1]:
            y = one(x.reshape(-1, *x.shape[2:]), kernel)
            return y.reshape(size, -1, *y.shape[1:]), True
        images = x if batched[0] else jnp.broadcast_to(x, (size, *x.shape))
        return lax.map(lambda each: one(*each), (images, kernel)), True

    return one(x, kernel)


def _call(x: Array, kernel: Array, strides: int) -> Array:
    jax.config.update(KEPT_FROM, float('inf'))
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
    call = jax.ffi.ffi_call(
        '__onednn$convolution', jax.ShapeDtypeStruct((count, *reached, features), x.dtype), custom_call_api_version=2,
        legacy_backend_config=json.dumps({'onednn_conv_config': config}),
    )  # fmt: skip
    return call(x, kernel)
