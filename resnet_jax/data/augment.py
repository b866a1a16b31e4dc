"""Normalisation and augmentation as pure functions, inside the compiled step."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from resnet_jax.data import colour
from resnet_jax.data.rand_augment import rand_augment


class Normalization(NamedTuple):
    """Subtracted from, and divided by, images in [0, 1]: of shape (h, w, c) or (1, 1, c)."""

    mean: np.ndarray | Array
    deviation: np.ndarray | Array


# Of the training images' channels, as everyone rounds them.
IMAGENET = Normalization(
    np.array([[[0.485, 0.456, 0.406]]], np.float32), np.array([[[0.229, 0.224, 0.225]]], np.float32)
)


def statistics(parts: Iterable[np.ndarray], how: str) -> Normalization:
    """The normalisation that uint8 images give, which come in parts, each (n, h, w, c).

    Args:
      how: pixel_mean (He et al. 2015: each pixel's mean is subtracted) or channel (mean and deviation a channel).
    """
    count, sums, squares = 0, np.zeros(1, np.int64), np.zeros(1, np.int64)
    for images in parts:
        count += len(images)
        sums = sums + images.sum(axis=0, dtype=np.int64)
        squares = squares + np.square(images, dtype=np.uint32).sum(axis=(0, 1, 2), dtype=np.int64)
    mean = sums / (255 * count)
    if how == 'pixel_mean':
        return Normalization(mean.astype(np.float32), np.ones((1, 1, 1), np.float32))
    channel = mean.mean(axis=(0, 1), keepdims=True)
    deviation = np.sqrt(squares / (255.0**2 * count * mean.shape[0] * mean.shape[1]) - channel**2)
    return Normalization(channel.astype(np.float32), np.maximum(deviation, 1e-6).astype(np.float32))


def normalize(
    images: UInt8[Array, 'n h w c'] | Float[Array, 'n h w c'], normalization: Normalization
) -> Float[Array, 'n h w c']:
    """Bytes, or numbers of their scale, to float32 about 0."""
    scaled = images.astype(jnp.float32) / 255
    return (scaled - normalization.mean[None]) / normalization.deviation[None]


def augment(
    key: Key[Array, ''], images: UInt8[Array, 'n h w c'], normalization: Normalization, data: ConfigDict
) -> Float[Array, 'n h w c']:
    """The images of a training batch, augmented and normalised. Every image has its own draws.

    In this order, and only what is asked for: RandAugment, jitter and lighting of the bytes; normalisation; a random
    crop of each image padded by `shift` zeros, mirrored one time in two if `flip` (the papers' augmentation for
    CIFAR, He et al. 2015, section 4.2); random erasing.

    Args:
      data: the config's: what is asked for.
    """
    # These are keys 0 and 1, and the training step has 2 and 3: draws that came later go on from there.
    crops, mirrors = jax.random.split(key)
    if data.rand_augment:
        magnitude, deviation = data.rand_augment_magnitude, data.rand_augment_deviation
        images = rand_augment(jax.random.fold_in(key, 4), images, data.rand_augment, magnitude, deviation)
    if any(data.jitter):
        images = colour.jitter(jax.random.fold_in(key, 5), images, data.jitter)
    if data.lighting:
        images = colour.lighting(jax.random.fold_in(key, 6), images, data.lighting)
    images = normalize(images, normalization)
    if data.shift:
        images = _crop(crops, images, data.shift)
    if data.flip:
        mirrored = jax.random.bernoulli(mirrors, shape=(len(images), 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if data.erase:
        images = erase(jax.random.fold_in(key, 7), images, data.erase)
    return images


def _crop(key: Array, images: Array, shift: int) -> Array:
    pads = ((0, 0), (shift, shift), (shift, shift), (0, 0))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * shift + 1)

    def crop(padded, corner):
        return jax.lax.dynamic_slice(padded, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(jnp.pad(images, pads), corners)


def erase(key: Key[Array, ''], images: Float[Array, 'n h w c'], probability: float) -> Float[Array, 'n h w c']:
    """A box of each image set to 0, with this probability: torchvision's RandomErasing.

    (Zhong et al. 2020, arXiv 1708.04896.) The box has 0.02 to 0.33 of the area, is 0.3 to 3.3 times as high as broad,
    and lies anywhere in the image.
    """
    chosen, sides, rows, columns = jax.random.split(key, 4)
    n, height, width, _ = images.shape
    tall, broad = _sides(sides, n, height, width)
    inside = jax.random.bernoulli(chosen, probability, (n, 1, 1))
    inside &= span(jax.random.randint(rows, (n,), 0, height - tall + 1), tall, height)[:, :, None]
    inside &= span(jax.random.randint(columns, (n,), 0, width - broad + 1), broad, width)[:, None]
    return jnp.where(inside[..., None], 0, images)


def _sides(key: Array, n: int, height: int, width: int) -> Int[Array, '2 n']:
    """Of each box, whole pixels: of ten draws the first that is smaller than the image both ways, or 0 and 0."""
    areas, ratios = jax.random.split(key)
    area = height * width * jax.random.uniform(areas, (n, 10), minval=0.02, maxval=0.33)
    ratio = jnp.exp(jax.random.uniform(ratios, (n, 10), minval=math.log(0.3), maxval=math.log(3.3)))
    sides = jnp.round(jnp.sqrt(jnp.stack([area * ratio, area / ratio]))).astype(int)
    fits = (sides[0] < height) & (sides[1] < width)
    first = sides[:, jnp.arange(n), fits.argmax(axis=1)]
    return jnp.where(fits.any(axis=1), first, 0)


def span(start: Int[Array, '*n'], length: Int[Array, '*n'], size: int) -> Bool[Array, '*n size']:
    """Which of `size` places in a line are among the `length` from `start` on."""
    at = jnp.arange(size) - start[..., None]
    return (at >= 0) & (at < length[..., None])
