"""Operations on the colours of an image of bytes, as Pillow computes them, and colours changed at random."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

Image = UInt8[Array, 'h w c']
Scalar = Float[Array, '']

# Of the covariance of ImageNet's colours in [0, 1]; the eigenvectors are the columns.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)


def brightness(image: Image, factor: Scalar) -> Image:
    """`factor` times the image: Pillow's ImageEnhance.Brightness."""
    return _blend(jnp.zeros((), jnp.float32), image, factor)


def contrast(image: Image, factor: Scalar) -> Image:
    """`factor` times each difference from the mean grey: Pillow's ImageEnhance.Contrast."""
    grey = _grey(image)
    mean = (grey.sum(dtype=jnp.int32) + grey.size // 2) // grey.size
    return _blend(mean.astype(jnp.float32), image, factor)


def saturation(image: Image, factor: Scalar) -> Image:
    """`factor` times each difference from the pixel's own grey: Pillow's ImageEnhance.Color."""
    return _blend(_grey(image)[..., None].astype(jnp.float32), image, factor)


def sharpness(image: Image, factor: Scalar) -> Image:
    """`factor` times each difference from the smoothed image: Pillow's ImageEnhance.Sharpness.

    Smoothed is the mean of 3x3 pixels, of which the middle one counts five times; pixels at the border stay.
    """
    x = image.astype(jnp.float32)
    lines = x[:-2] + x[1:-1] + x[2:]
    sums = lines[:, :-2] + lines[:, 1:-1] + lines[:, 2:] + 4 * x[1:-1, 1:-1]
    return _blend(x.at[1:-1, 1:-1].set(jnp.floor(sums / 13 + 0.5)), image, factor)


def hue(image: Image, turns: Scalar) -> Image:
    """The hue turned by `turns` (-0.5 to 0.5) of the circle: torchvision's adjust_hue of a Pillow image.

    It goes through Pillow's HSV, whose hue, like the turn, is a whole byte: a step of it is up to 6 levels.
    """
    angle, chroma, value = _hsv(image)
    turned = (angle + (turns * 255).astype(jnp.int32)) & 255
    return _rgb(turned, chroma, value)


def posterize(image: Image, bits: Int[Array, '']) -> Image:
    """The first `bits` bits (1 to 8) of each byte alone: Pillow's ImageOps.posterize."""
    rest = (8 - bits).astype(jnp.uint8)
    return image >> rest << rest


def solarize(image: Image, threshold: Scalar) -> Image:
    """What is at or above `threshold` (0 to 255) inverted: Pillow's ImageOps.solarize."""
    return jnp.where(image.astype(jnp.float32) >= threshold, 255 - image, image)


def autocontrast(image: Image) -> Image:
    """Each channel stretched to reach from 0 to 255, or as it was if of one level: Pillow's ImageOps.autocontrast."""
    x = image.astype(jnp.float32)
    low, high = x.min(axis=(0, 1)), x.max(axis=(0, 1))
    stretched = (x - low) * 255 / jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched.astype(jnp.uint8), image)


def equalize(image: Image) -> Image:
    """Each channel's levels spread until all are about equally frequent: Pillow's ImageOps.equalize."""
    return jax.vmap(_equalize, in_axes=-1, out_axes=-1)(image)


def _equalize(channel: UInt8[Array, 'h w']) -> UInt8[Array, 'h w']:
    counts = jnp.bincount(channel.ravel(), length=256)
    below = jnp.cumsum(counts) - counts
    step = below[channel.max()] // 255
    table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, table.astype(jnp.uint8)[channel], channel)


def _blend(degenerate: Array, image: Image, factor: Scalar) -> Image:
    """From `degenerate` (factor 0) through the image (1) and beyond, cut to whole bytes: Pillow's Image.blend."""
    mixed = degenerate + factor * (image.astype(jnp.float32) - degenerate)
    return jnp.clip(mixed, 0, 255).astype(jnp.uint8)


def _grey(image: Image) -> Int[Array, 'h w']:
    """Pillow's mode L: 0.299, 0.587 and 0.114 of red, green and blue, rounded."""
    x = image.astype(jnp.int32)
    if image.shape[-1] == 1:
        return x[..., 0]
    return (19595 * x[..., 0] + 38470 * x[..., 1] + 7471 * x[..., 2] + 32768) >> 16


def _hsv(image: Image) -> tuple[Int[Array, 'h w'], Int[Array, 'h w'], Int[Array, 'h w']]:
    """Pillow's hue, saturation and value, each 0 to 255."""
    x = image.astype(jnp.float32)
    value, spread = x.max(axis=-1), x.max(axis=-1) - x.min(axis=-1)
    r, g, b = jnp.moveaxis((value[..., None] - x) / jnp.maximum(spread, 1)[..., None], -1, 0)  # how far below value
    sixths = jnp.where(r == 0, b - g, jnp.where(g == 0, 2 + r - b, 4 + g - r))
    hue = jnp.where(sixths < 0, sixths / 6 + 1, sixths / 6)
    hue, chroma = ((share * 255).astype(jnp.int32) for share in (hue, spread / jnp.maximum(value, 1)))
    return hue, chroma, value.astype(jnp.int32)


def _rgb(hue: Int[Array, 'h w'], chroma: Int[Array, 'h w'], value: Int[Array, 'h w']) -> Image:
    """Back from there: a channel is the value less the chroma, by how far (0 to 255) its own hue is away."""
    places = (6 * hue[..., None] + 255 * jnp.array([5, 3, 1], jnp.int32)) % (6 * 255)
    away = jnp.clip(jnp.minimum(places, 4 * 255 - places), 0, 255)
    part = value[..., None] * (255**2 - chroma[..., None] * away)
    return jnp.floor(part.astype(jnp.float32) / 255**2 + 0.5).astype(jnp.uint8)


# Operations, and the amount of each that changes nothing.
JITTERED = ((brightness, 1.0), (contrast, 1.0), (saturation, 1.0), (hue, 0.0))


def jitter(key: Key[Array, ''], images: UInt8[Array, 'n h w c'], strengths: Sequence[float]) -> UInt8[Array, 'n h w c']:
    """Brightness, contrast, saturation and hue changed, in an order of each image's own: torchvision's ColorJitter.

    (Order and factors by image cost no more than by batch would: 45 ms of 64 images of 224x224 on 2 cores.)

    Args:
      strengths: of the four: factors are uniform in 1 ± strength, but not below 0, turns of the hue in ± strength.
    """
    orders, *keys = jax.random.split(key, 5)
    adjust, amounts = [], []
    for (function, neutral), strength, draws in zip(JITTERED, strengths, keys, strict=True):
        if strength:
            low, high = neutral + max(-strength, -1.0), neutral + strength
            adjust.append(function)
            amounts.append(jax.random.uniform(draws, (len(images),), minval=low, maxval=high))
    order = jnp.argsort(jax.random.uniform(orders, (len(images), len(adjust))))

    def jittered(image, amounts, order):
        def step(at, image):
            return jax.lax.switch(order[at], adjust, image, amounts[order[at]])

        return jax.lax.fori_loop(0, len(adjust), step, image)

    return each(jittered, images, jnp.stack(amounts, axis=-1), order)


def lighting(key: Key[Array, ''], images: UInt8[Array, 'n h w 3'], deviation: float) -> Float[Array, 'n h w 3']:
    """One colour added to all pixels of an image: along each principal component of ImageNet's colours, a normal draw
    times its eigenvalue.

    (Krizhevsky et al. 2012, section 4.1; components as in fb.resnet.torch.) On the scale of bytes, but neither
    rounded nor cut.

    Args:
      deviation: of the draws.
    """
    draws = deviation * jax.random.normal(key, (len(images), 3))
    return images.astype(jnp.float32) + 255 * ((draws * EIGENVALUES) @ EIGENVECTORS.T)[:, None, None]


def each(function: Callable[..., Array], *batch: Array) -> Array:
    """`function`, which branches by what it is given, of every example of a batch.

    On the CPU one example after another: each then costs the one branch that it takes, and stays in the cache (of 64
    images of 224x224 RandAugment takes 60 ms on 2 cores, not 380). Other devices take all at once, and every branch.
    """
    if jax.default_backend() == 'cpu':
        return jax.lax.map(lambda example: function(*example), batch)
    return jax.vmap(function)(*batch)
