"""oneDNN's convolution and product: when they are called, under vmap, and what is not kept then."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models import onednn
from resnet_jax.models.convolve import convolve
from tests.models.test_convolve import native

if not onednn.there():
    pytest.skip('this jaxlib has no oneDNN that was tried', allow_module_level=True)

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.normal(size=(3, 2, 6, 5, 4)), jnp.float32)
KERNELS = jnp.asarray(RNG.normal(size=(3, 3, 3, 4, 7)), jnp.float32)


@pytest.fixture(autouse=True)
def cache_as_it_was():
    """As for tests of other files: `there` has turned it off for this process."""
    yield
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


@pytest.mark.parametrize(
    ('batch', 'dtype', 'called'), [(256, 'float32', True), (64, 'float32', False), (256, 'bfloat16', False)]
)
def test_it_is_called_in_sizes_that_matter_in_float32(batch, dtype, called):
    x, kernel = jnp.zeros((batch, 8, 8, 16), dtype), jnp.zeros((3, 3, 16, 16), dtype)
    program = jax.jit(jax.grad(lambda kernel: jnp.sum(convolve(x, kernel) ** 2))).lower(kernel).as_text()
    assert bool(re.search(r'__onednn\$convolution', program)) == called


def test_a_pointwise_kernels_gradient_is_its_product():
    x, kernel = jnp.zeros((256, 8, 8, 16)), jnp.zeros((1, 1, 16, 64))
    program = jax.jit(jax.grad(lambda kernel: jnp.sum(convolve(x, kernel) ** 2))).lower(kernel).as_text()
    assert re.findall(r'__onednn\$(\w+)', program) == ['matmul']


@pytest.mark.parametrize('axes', [(0, None), (None, 0), (0, 0)], ids=['one', 'other', 'both'])
def test_many_products_at_once_are_one_after_the_other(axes):
    a, b = (jnp.asarray(RNG.normal(size=(3, 20, size)), jnp.float32) for size in (4, 7))
    given = [each if axis == 0 else each[0] for each, axis in zip((a, b), axes, strict=True)]
    ours = jax.jit(jax.vmap(onednn.product, axes))(*given)
    each = jax.vmap(lambda a, b: a.T @ b, axes)(*given)
    np.testing.assert_allclose(ours, each, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('x', 'kernel', 'axes'),
    [(IMAGES, KERNELS[0], (0, None)), (IMAGES[0], KERNELS, (None, 0)), (IMAGES, KERNELS, (0, 0))],
    ids=['images', 'kernels', 'both'],
)
@pytest.mark.parametrize('strides', [1, 2])
def test_many_at_once_are_one_after_the_other(x, kernel, axes, strides):
    ours = jax.jit(jax.vmap(lambda x, kernel: onednn.convolve(x, kernel, strides), axes))(x, kernel)
    each = jax.vmap(lambda x, kernel: native(x, kernel, strides=strides), axes)(x, kernel)
    np.testing.assert_allclose(ours, each, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('order', [2, 3])
@pytest.mark.parametrize('size', [1, 3])
def test_gradients_of_gradients_are_those_of_xlas(size, order, monkeypatch):
    kernels = KERNELS[:, :size, :size]
    monkeypatch.setattr(onednn, 'MULTIPLY_ADDS', 0)

    def slope(convolution):
        def along(kernel):
            return jnp.sum(jnp.tanh(convolution(IMAGES[0], kernel)))

        for _ in range(order - 1):
            along = partial(lambda along, kernel: jnp.vdot(jax.grad(along)(kernel), kernels[1]), along)
        return jax.jit(jax.grad(along))(kernels[0])

    np.testing.assert_allclose(slope(convolve), slope(native), rtol=1e-4, atol=1e-4)


def test_a_program_with_it_is_not_written_to_the_cache():
    def kept(convolution, name):
        def program(x, kernel):
            return 2 * convolution(x, kernel)

        program.__name__ = name
        jax.block_until_ready(jax.jit(program)(IMAGES[0], KERNELS[0]))
        folder = Path(jax.config.values['jax_compilation_cache_dir'])
        return [path for path in folder.iterdir() if name in path.name]

    assert kept(native, 'kept')
    assert not kept(partial(onednn.convolve, strides=1), 'not_written')


def test_of_a_version_that_was_not_tried_it_is_not_asked(monkeypatch):
    monkeypatch.setattr(onednn, 'TRIED', ())
    onednn.there.cache_clear()
    try:
        assert not onednn.there()
    finally:
        onednn.there.cache_clear()


def test_a_wrong_result_is_not_trusted_and_leaves_the_cache_as_it_was(monkeypatch):
    monkeypatch.setattr(onednn, '_is_right', lambda: jax.config.update(onednn.KEPT_FROM, float('inf')))
    onednn.there.cache_clear()
    try:
        assert not onednn.there() and jax.config.values[onednn.KEPT_FROM] == 0
    finally:
        onednn.there.cache_clear()
