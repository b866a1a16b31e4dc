"""Affine maps against Pillow's own, pixel for pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from resnet_jax.data import geometry

SHAPES = [(32, 32, 3), (41, 58, 3), (17, 8, 1)]


def noise(shape):
    """No black pixel: black is what the map leaves."""
    return np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)


def smooth(shape):
    row, column, channel = np.mgrid[: shape[0], : shape[1], : shape[2]]
    return (1 + 4 * row + column + 20 * channel).astype(np.uint8)


def pillow(picture):
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def warped(picture, matrix):
    out = np.asarray(jax.jit(geometry.warp)(jnp.asarray(picture), matrix))
    assert out.dtype == np.uint8 and out.shape == picture.shape
    return out


def transformed(picture, *entries):
    image = pillow(picture)
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, entries)).reshape(picture.shape)


@pytest.mark.parametrize('make', [noise, smooth])
@pytest.mark.parametrize('shape', SHAPES)
def test_shears_and_translations_are_pillows(shape, make):
    picture = make(shape)
    for slope in (-0.3, -0.09, 0.0, 0.05, 0.17, 0.3):
        out = warped(picture, geometry.shear_x(jnp.float32(slope)))
        np.testing.assert_array_equal(out, transformed(picture, 1, slope, 0, 0, 1, 0))
        out = warped(picture, geometry.shear_y(jnp.float32(slope)))
        np.testing.assert_array_equal(out, transformed(picture, 1, 0, 0, slope, 1, 0))
    for pixels in (-7, -1, 0, 3, 100):
        out = warped(picture, geometry.translate_x(jnp.float32(pixels)))
        np.testing.assert_array_equal(out, transformed(picture, 1, 0, -pixels, 0, 1, 0))
        out = warped(picture, geometry.translate_y(jnp.float32(pixels)))
        np.testing.assert_array_equal(out, transformed(picture, 1, 0, 0, 0, 1, -pixels))


@pytest.mark.parametrize('make', [noise, smooth])
@pytest.mark.parametrize('shape', SHAPES)
def test_rotations_are_pillows(shape, make):
    picture = make(shape)
    for degrees in (-30.0, -9.0, 0.0, 1.0, 13.7, 30.0, 45.0, 90.0):
        matrix = geometry.rotate(jnp.float32(degrees), *shape[:2])
        rotated = np.asarray(pillow(picture).rotate(degrees)).reshape(shape)
        assert (warped(picture, matrix) != rotated).any(axis=-1).mean() <= 0.002  # matrices of float32 and of doubles


def test_directions_are_those_that_are_documented():
    picture = noise((9, 9, 1))
    right = warped(picture, geometry.translate_x(jnp.float32(2)))
    np.testing.assert_array_equal(right[:, 2:], picture[:, :-2])
    np.testing.assert_array_equal(right[:, :2], 0)
    down = warped(picture, geometry.translate_y(jnp.float32(2)))
    np.testing.assert_array_equal(down[2:], picture[:-2])
    left = warped(picture, geometry.shear_x(jnp.float32(1)))
    np.testing.assert_array_equal(left[4, :4], picture[4, 5:])  # half a pixel below the middle of row 4
    up = warped(picture, geometry.shear_y(jnp.float32(1)))
    np.testing.assert_array_equal(up[:4, 4], picture[5:, 4])
    np.testing.assert_array_equal(warped(picture, geometry.rotate(jnp.float32(90), 9, 9)), np.rot90(picture))


def test_what_the_map_leaves_is_black_and_a_whole_turn_leaves_nothing():
    picture = noise((20, 30, 3))
    assert (warped(picture, geometry.translate_x(jnp.float32(30))) == 0).all()
    assert (warped(picture, geometry.translate_y(jnp.float32(-20))) == 0).all()
    np.testing.assert_array_equal(warped(picture, geometry.rotate(jnp.float32(0), 20, 30)), picture)
    assert (warped(picture, geometry.rotate(jnp.float32(30), 20, 30)) == 0).any()


def test_every_image_of_a_batch_has_its_own_matrix():
    pictures = np.stack([noise((12, 12, 3))] * 4)
    matrices = jax.vmap(geometry.translate_x)(jnp.arange(4.0))
    out = np.asarray(jax.vmap(geometry.warp)(jnp.asarray(pictures), matrices))
    for pixels in range(4):
        np.testing.assert_array_equal(out[pixels, :, pixels:], pictures[0, :, : 12 - pixels])
