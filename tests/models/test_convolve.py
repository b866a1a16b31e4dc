import platform
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import TypeCheckError

from resnet_jax.models import onednn, products
from resnet_jax.models.convolve import convolve

on_cpu = pytest.mark.skipif(jax.default_backend() != 'cpu', reason='the CPU has a lowering of its own')


def native(x, kernel, *, strides=1):
    """XLA's convolution, with the papers' padding."""
    pads = [(size // 2, size // 2) for size in kernel.shape[:2]]
    groups = x.shape[-1] // kernel.shape[2]
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), pads, dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=groups
    )


def operands(shape, features, size, strides, dtype='float64', groups=1):
    """Images, a kernel and a cotangent, all normal. `size`: of the kernel, a number or height and width."""
    rng = np.random.default_rng(0)
    n, h, w, c = shape
    sizes = size if isinstance(size, tuple) else (size, size)
    shapes = (shape, (*sizes, c // groups, features), (n, -(-h // strides), -(-w // strides), features))
    return [jnp.asarray(rng.normal(size=each), dtype) for each in shapes]


def value_and_gradients(convolution, strides):
    def run(x, kernel, g):
        value, vjp = jax.vjp(lambda x, kernel: convolution(x, kernel, strides=strides), x, kernel)
        return value, *vjp(g)

    return jax.jit(run)


def differences(ours, theirs):
    """The largest difference of each array, relative to its largest value."""
    return [
        np.abs(np.asarray(one, np.float64) - np.asarray(other)).max() / np.abs(other).max()
        for one, other in zip(ours, theirs, strict=True)
    ]


SHAPES = [
    pytest.param((3, 5, 4, 2), 3, 1, 1, id='1x1'),
    pytest.param((3, 5, 4, 2), 3, 1, 2, id='1x1, strided, odd'),
    pytest.param((2, 1, 1, 3), 2, 3, 1, id='3x3 on one pixel'),
    pytest.param((2, 2, 3, 3), 5, 3, 1, id='3x3 on a tiny map'),
    pytest.param((2, 3, 3, 2), 3, 7, 1, id='7x7 on a tiny map'),
    pytest.param((2, 4, 4, 3), 5, 3, 2, id='3x3, strided, on a tiny map'),
    pytest.param((2, 1, 1, 3), 2, 3, 2, id='3x3, strided, on one pixel'),
    pytest.param((3, 8, 6, 4), 5, 3, 1, id='3x3'),
    pytest.param((3, 8, 6, 4), 5, 3, 2, id='3x3, strided, even'),
    pytest.param((3, 7, 9, 4), 5, 3, 2, id='3x3, strided, odd'),
    pytest.param((3, 9, 6, 3), 4, 3, 3, id='3x3, in threes'),
    pytest.param((2, 7, 9, 2), 3, 5, 1, id='5x5, odd'),
    pytest.param((2, 7, 6, 2), 3, 5, 2, id='5x5, strided, odd and even'),
    pytest.param((1, 9, 7, 2), 3, 7, 1, id='7x7, batch 1'),
    pytest.param((2, 15, 12, 3), 4, 7, 2, id='7x7, strided: a stem'),
    pytest.param((2, 6, 5, 32), 33, 3, 1, id='3x3, wide: rows and columns'),
    pytest.param((1, 6, 5, 40), 32, 5, 1, id='5x5, wide, batch 1: rows and columns'),
    pytest.param((2, 6, 5, 3), 4, (1, 7), 1, id='1x7'),
    pytest.param((2, 7, 6, 3), 4, (3, 1), 2, id='3x1, strided'),
    pytest.param((2, 2, 3, 3), 4, (7, 1), 1, id='7x1 on a tiny map'),
    pytest.param((2, 6, 5, 32), 32, (1, 3), 1, id='1x3, wide'),
]


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize(('shape', 'features', 'size', 'strides'), SHAPES)
def test_value_and_gradients_are_those_of_the_native_convolution(shape, features, size, strides):
    arguments = operands(shape, features, size, strides)
    ours = value_and_gradients(convolve, strides)(*arguments)
    assert [each.shape for each in ours] == [arguments[2].shape, arguments[0].shape, arguments[1].shape]
    assert max(differences(ours, value_and_gradients(native, strides)(*arguments))) < 1e-12


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize(('size', 'strides', 'groups'), [(3, 1, 2), (3, 2, 6), (1, 2, 3)])
def test_a_grouped_convolution_is_one_of_each_group_alone(size, strides, groups):
    x, kernel, g = operands((3, 7, 6, 6), 12, size, strides, groups=groups)

    def one_by_one(x, kernel, *, strides):
        parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([native(*each, strides=strides) for each in parts], axis=-1)

    ours = value_and_gradients(convolve, strides)(x, kernel, g)
    assert max(differences(ours, value_and_gradients(one_by_one, strides)(x, kernel, g))) < 1e-12


@on_cpu
@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize(
    ('batch', 'room', 'chunk'),  # room: examples whose copies the cache takes
    [
        pytest.param(6, 3, 3, id='two chunks'),
        pytest.param(8, 3, 2, id='four chunks, smaller than the cache takes'),
        pytest.param(17, 5, 0, id='a batch that does not divide'),
    ],
)
@pytest.mark.parametrize('channels', [4, 32])
def test_chunks_of_the_batch_change_nothing(monkeypatch, batch, room, chunk, channels):
    x, kernel, g = operands((batch, 5, 6, channels), channels, 3, 1)
    monkeypatch.setattr(products, 'CACHED_BYTES', room * 5 * 6 * 3 * 2 * channels * 8)
    assert products.chunk_of(x, kernel, 1) == chunk  # or this test would test less than it says
    ours = value_and_gradients(convolve, 1)(x, kernel, g)
    assert max(differences(ours, value_and_gradients(native, 1)(x, kernel, g))) < 1e-12


@on_cpu
@pytest.mark.parametrize(
    ('shape', 'chunked'), [((128, 32, 32, 16), True), ((128, 8, 8, 64), True), ((127, 32, 32, 16), False)]
)
def test_a_batch_of_the_papers_is_worked_in_chunks_that_fit_the_cache(shape, chunked):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, shape[-1], shape[-1]), jnp.float32)
    found = []
    jax.eval_shape(lambda x, kernel: found.append(products.chunk_of(x, kernel, 1)), x, kernel)
    copies = found[0] * np.prod(shape[1:]) * 3 * 2 * 4
    assert bool(found[0]) == chunked and copies <= products.CACHED_BYTES


@pytest.mark.skipif(
    (sys.platform, platform.machine(), sys.version_info[:2]) != ('linux', 'x86_64', (3, 11)) or jax.device_count() > 1,
    reason='oneDNN was tried with what is pinned for Linux on x86, one device and Python 3.11',
)
def test_onednn_is_used_where_it_was_tried():
    """A new pin of jaxlib would cost half the speed on a CPU: see CONTRIBUTING.md."""
    assert onednn.there()


@pytest.fixture(params=['XLA', 'oneDNN'])
def way(request, monkeypatch):
    """Convolutions of every size by one of the two."""
    by_onednn = request.param == 'oneDNN'
    if by_onednn and not onednn.there():
        pytest.skip('this jaxlib has no oneDNN that was tried')
    monkeypatch.setattr(onednn, 'MULTIPLY_ADDS', 0 if by_onednn else 1 << 60)
    kept = jax.config.values[onednn.KEPT_FROM]
    yield
    jax.config.update(onednn.KEPT_FROM, kept)  # what other files compile in this process is kept as before


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize(('shape', 'features', 'size', 'strides'), [*SHAPES[:2], *SHAPES[3:]])
def test_float32_gradients_agree_with_float64_to_six_digits(shape, features, size, strides):
    with jax.enable_x64(True):
        arguments = operands(shape, features, size, strides)
        exact = value_and_gradients(convolve, strides)(*arguments)
    single = [jnp.asarray(np.asarray(each), jnp.float32) for each in arguments]
    ours = value_and_gradients(convolve, strides)(*single)
    assert all(each.dtype == jnp.float32 for each in ours)
    assert max(differences(ours, exact)) < 2e-6  # sums of up to 1,000 products, each rounded to 6e-8


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float32'])
@pytest.mark.parametrize(('shape', 'features', 'size', 'strides'), SHAPES)
def test_the_dtype_stays_forwards_and_backwards(shape, features, size, strides, dtype):
    arguments = operands(shape, features, size, strides, dtype)
    for each in jax.eval_shape(value_and_gradients(convolve, strides), *arguments):
        assert each.dtype == dtype


# Padding, worked by hand: y[i, j] = sum over a, b of kernel[a, b] * x[strides i + a - 1, strides j + b - 1]


def single_pixel(size, row, column):
    return jnp.zeros((1, size, size, 1), jnp.float32).at[0, row, column, 0].set(1)


TAPS = jnp.arange(1.0, 10, dtype=jnp.float32).reshape(3, 3, 1, 1)


@pytest.mark.parametrize(
    ('image', 'strides', 'expected'),
    [
        (single_pixel(1, 0, 0), 1, [[5]]),
        (single_pixel(3, 1, 1), 1, [[9, 8, 7], [6, 5, 4], [3, 2, 1]]),  # a correlation: the kernel, turned
        (single_pixel(3, 0, 0), 1, [[5, 4, 0], [2, 1, 0], [0, 0, 0]]),
        (single_pixel(5, 2, 2), 1, [[0] * 5, [0, 9, 8, 7, 0], [0, 6, 5, 4, 0], [0, 3, 2, 1, 0], [0] * 5]),
        (single_pixel(5, 1, 1), 2, [[9, 7, 0], [3, 1, 0], [0, 0, 0]]),
        (single_pixel(4, 0, 0), 2, [[5, 0], [0, 0]]),
        (single_pixel(4, 3, 3), 2, [[0, 0], [0, 9]]),
    ],
)
def test_a_single_pixel_lands_where_symmetric_padding_puts_it(image, strides, expected):
    np.testing.assert_array_equal(convolve(image, TAPS, strides=strides)[0, :, :, 0], expected)


def test_the_padding_differs_from_xlas_same_where_the_size_is_even():
    image = single_pixel(4, 0, 0)
    same = lax.conv_general_dilated(image, TAPS, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    assert same[0, 0, 0, 0] == 1 and convolve(image, TAPS, strides=2)[0, 0, 0, 0] == 5


@pytest.mark.parametrize('size', [(2, 2), (4, 4), (3, 2), (4, 1)])
def test_even_kernels_are_refused(size):
    with pytest.raises(ValueError, match=re.escape(f'kernels are odd, got {size}; use 1, 3, 5 or 7')):
        convolve(jnp.zeros((1, 8, 8, 2), jnp.float32), jnp.zeros((*size, 2, 2), jnp.float32))


def test_the_tests_check_the_shapes_in_types():
    with pytest.raises(TypeCheckError, match='n h w c'):
        convolve(jnp.zeros((8, 8, 2), jnp.float32), TAPS)


# Inside a compiled loop


def descent(convolution, loop):
    """Three steps of gradient descent on two kernels (strides 1 and 2), inside a loop."""

    def loss(kernels, x):
        first, second = kernels
        y = jnp.tanh(convolution(x, first, strides=1))
        y = jnp.tanh(convolution(y, second, strides=2))
        return jnp.sum(jnp.square(convolution(y, second, strides=1)))

    def step(kernels, x):
        return jax.tree.map(lambda kernel, g: kernel - 1e-3 * g, kernels, jax.grad(loss)(kernels, x))

    def run(kernels, x):
        if loop == 'scan':
            return lax.scan(lambda kernels, _: (step(kernels, x), None), kernels, length=3)[0]
        if loop == 'while':
            return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, step(c[1], x)), (0, kernels))[1]
        for _ in range(3):
            kernels = step(kernels, x)
        return kernels

    return jax.jit(run)


@pytest.fixture
def descended(float64):
    """Kernels, images, and where native convolutions without a loop bring the kernels."""
    x, first, _ = operands((5, 12, 12, 3), 4, 3, 1)
    second = operands((5, 12, 12, 4), 4, 3, 1)[1]
    kernels = (0.3 * first, 0.3 * second)
    return kernels, x, descent(native, None)(kernels, x)


@pytest.mark.parametrize('loop', ['scan', 'while'])
def test_gradients_inside_a_loop_are_right_and_every_convolution_is_canonical(descended, loop):
    kernels, x, expected = descended
    program = descent(convolve, loop).lower(kernels, x).compile()
    assert max(differences(program(kernels, x), expected)) < 1e-12
    assert max(differences(kernels, expected)) > 1e-3  # they have moved
    if jax.default_backend() == 'cpu':
        # 30 times slower where the dimensions stand in any other order: XLA turns them at the top level only.
        assert layouts(program) == {'b01f_01io->b01f'}


@on_cpu
def test_the_native_convolution_is_not_canonical_inside_a_loop(descended):
    """The negative control: should XLA learn it, the CPU needs no gradients of its own."""
    kernels, x, _ = descended
    assert len(layouts(descent(native, 'scan').lower(kernels, x).compile())) > 1


def layouts(program):
    """The dimension labels of all convolutions of a compiled program."""
    lines = [line for line in program.as_text().splitlines() if ' convolution(' in line]
    found = {re.findall(r'dim_labels=([\w>-]+)', line)[0] for line in lines}
    assert found
    return found


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize(
    ('shape', 'strides'), [((4, 8, 8, 3), 1), ((4, 8, 8, 3), 2), ((4, 2, 2, 3), 1), ((4, 5, 5, 32), 1)]
)
def test_gradients_an_example_by_vmap_are_those_of_one_example_after_the_other(shape, strides):
    x, kernel, g = operands(shape, shape[-1], 3, strides)

    def gradient(x, g):
        return jax.grad(lambda kernel: jnp.sum(g * convolve(x[None], kernel, strides=strides)[0]))(kernel)

    together = jax.jit(jax.vmap(gradient))(x, g)
    one_by_one = [value_and_gradients(native, strides)(x[i : i + 1], kernel, g[i : i + 1])[2] for i in range(len(x))]
    assert max(differences([together], [np.stack(one_by_one)])) < 1e-12
