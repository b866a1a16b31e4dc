"""oneDNN's convolution: when it is called, under vmap, and what is not kept then."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models import convolve as lowering
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


def test_gradients_of_gradients_are_those_of_xlas(monkeypatch):
    monkeypatch.setattr(lowering, 'ONEDNN_MULTIPLY_ADDS', 0)

    def curvature(convolution):
        def slope(kernel):
            return jax.grad(lambda kernel: jnp.sum(jnp.tanh(convolution(IMAGES[0], kernel))))(kernel)

        return jax.jit(lambda kernel, v: jax.vjp(slope, kernel)[1](v)[0])(KERNELS[0], KERNELS[1])

    np.testing.assert_allclose(curvature(convolve), curvature(native), rtol=1e-4, atol=1e-4)


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
