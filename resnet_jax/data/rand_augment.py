"""RandAugment (Cubuk et al. 2020, arXiv 1909.13719): a few operations on each image, drawn from fourteen."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt8

from resnet_jax.data import colour, geometry

# The first five are one warp, each by its own matrix.
OPERATIONS = (
    'shear_x', 'shear_y', 'translate_x', 'translate_y', 'rotate', 'brightness', 'saturation', 'contrast', 'sharpness',
    'posterize', 'solarize', 'autocontrast', 'equalize', 'identity',
)  # fmt: skip


def rand_augment(
    key: Key[Array, ''], images: UInt8[Array, 'n h w c'], count: int, magnitude: float, deviation: float
) -> UInt8[Array, 'n h w c']:
    """`count` operations on each image, one after another: torchvision's RandAugment of Pillow images.

    Every image has its own draws: of the operations, all equally likely, of their directions, and of the noise.

    Args:
      magnitude: share of the operations' strongest form (torchvision's 9 of 30 is 0.3).
      deviation: of a normal noise on the magnitude, which stays between 0 and 1 (timm's mstd 0.5 is 0.05).
    """
    which, signs, noise = jax.random.split(key, 3)
    shape = (len(images), count)
    drawn = jax.random.randint(which, shape, 0, len(OPERATIONS))
    share = jnp.clip(magnitude + deviation * jax.random.normal(noise, shape), 0, 1)
    sign = jnp.where(jax.random.bernoulli(signs, shape=shape), 1.0, -1.0)

    def augmented(image, drawn, share, sign):
        return jax.lax.fori_loop(0, count, lambda at, image: operate(image, drawn[at], share[at], sign[at]), image)

    return colour.each(augmented, images, drawn, share, sign)


def operate(
    image: UInt8[Array, 'h w c'], which: Int32[Array, ''], share: Float[Array, ''], sign: Float[Array, '']
) -> UInt8[Array, 'h w c']:
    """Operation `which` of OPERATIONS, at `share` (0 to 1) of its strongest form.

    That is a shear by 0.3, a translation by 150/331 of the image, a rotation by 30°, a factor of 1.9 or 0.1, 4 bits
    of 8, a threshold of 0.

    Args:
      sign: 1 or -1: the direction, of those that have two.
    """
    factor = 1 + 0.9 * sign * share
    branches = (
        lambda: geometry.warp(image, _matrix(image, which, sign * share)),
        lambda: colour.brightness(image, factor),
        lambda: colour.saturation(image, factor),
        lambda: colour.contrast(image, factor),
        lambda: colour.sharpness(image, factor),
        lambda: colour.posterize(image, jnp.round(8 - 4 * share).astype(jnp.int32)),
        lambda: colour.solarize(image, 255 * (1 - share)),
        lambda: colour.autocontrast(image),
        lambda: colour.equalize(image),
        lambda: image,
    )
    warps = len(OPERATIONS) - len(branches)
    return jax.lax.switch(jnp.maximum(which - warps, 0), branches)


def _matrix(image: Array, which: Array, share: Array) -> Float[Array, '2 3']:
    """Of warp `which`; past the last it is of no meaning, and not used."""
    height, width, _ = image.shape
    return jnp.stack(
        (
            geometry.shear_x(0.3 * share),
            geometry.shear_y(0.3 * share),
            geometry.translate_x(jnp.trunc(150 / 331 * width * share)),
            geometry.translate_y(jnp.trunc(150 / 331 * height * share)),
            geometry.rotate(30 * share, height, width),
        )
    )[which]
