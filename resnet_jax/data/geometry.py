"""Affine maps of an image, as Pillow computes them: each pixel of the result takes the nearest pixel of the image."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

Scalar = Float[Array, '']
Matrix = Float[Array, '2 3']  # a place of the result, (x, y, 1), to its place in the image, (x, y)


def shear_x(slope: Scalar) -> Matrix:
    """Rows move to the left, by `slope` pixels for each row from the top."""
    return _matrix(1, slope, 0, 0, 1, 0)


def shear_y(slope: Scalar) -> Matrix:
    """Columns move up, by `slope` pixels for each column from the left."""
    return _matrix(1, 0, 0, slope, 1, 0)


def translate_x(pixels: Scalar) -> Matrix:
    """To the right."""
    return _matrix(1, 0, -pixels, 0, 1, 0)


def translate_y(pixels: Scalar) -> Matrix:
    """Down."""
    return _matrix(1, 0, 0, 0, 1, -pixels)


def rotate(degrees: Scalar, height: int, width: int) -> Matrix:
    """Counterclockwise about the image's centre."""
    cos, sin = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    x, y = width / 2, height / 2
    return _matrix(cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def _matrix(*entries) -> Matrix:
    return jnp.stack([jnp.asarray(entry, jnp.float32) for entry in entries]).reshape(2, 3)


def warp(image: UInt8[Array, 'h w c'], matrix: Matrix) -> UInt8[Array, 'h w c']:
    """The image under an affine map, 0 where the map leaves it: Pillow's Image.transform, AFFINE and NEAREST.

    In Pillow's fixed point of 16 bits, so that both take the same pixel where two are equally near.
    """
    height, width, _ = image.shape
    middle = matrix.at[:, 2].add((matrix[:, 0] + matrix[:, 1]) / 2)
    fixed = jnp.floor(middle * 65536 + 0.5).astype(jnp.int32)
    row, column = (jax.lax.broadcasted_iota(jnp.int32, (height, width), axis) for axis in (0, 1))
    x, y = ((line[0] * column + line[1] * row + line[2]) >> 16 for line in fixed)
    return image.at[y, x].get(mode='fill', fill_value=0, wrap_negative_indices=False)
