"""Normalisation and augmentation as pure functions, inside the compiled step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8


class Normalization(NamedTuple):
    """Subtracted from, and divided by, images in [0, 1]: of shape (h, w, c) or (1, 1, c)."""

    mean: np.ndarray | Array
    deviation: np.ndarray | Array


# Of the training images' channels, as everyone rounds them.
IMAGENET = Normalization(
    np.array([[[0.485, 0.456, 0.406]]], np.float32), np.array([[[0.229, 0.224, 0.225]]], np.float32)
)


def statistics(images: np.ndarray, how: str) -> Normalization:
    """The normalisation that a training split of uint8 images (n, h, w, c) gives.

    Args:
      how: pixel_mean (He et al. 2015: each pixel's mean is subtracted) or channel (mean and deviation a channel).
    """
    count = len(images)
    mean = images.sum(axis=0, dtype=np.int64) / (255 * count)
    if how == 'pixel_mean':
        return Normalization(mean.astype(np.float32), np.ones((1, 1, 1), np.float32))
    pixels = count * images.shape[1] * images.shape[2]
    squares = sum(
        np.square(part, dtype=np.uint32).sum(axis=(0, 1, 2), dtype=np.int64) for part in np.array_split(images, 32)
    )
    channel = mean.mean(axis=(0, 1), keepdims=True)
    deviation = np.sqrt(squares / (255.0**2 * pixels) - channel**2)
    return Normalization(channel.astype(np.float32), np.maximum(deviation, 1e-6).astype(np.float32))


def normalize(images: UInt8[Array, 'n h w c'], normalization: Normalization) -> Float[Array, 'n h w c']:
    """Bytes to float32 about 0."""
    scaled = images.astype(jnp.float32) / 255
    return (scaled - normalization.mean[None]) / normalization.deviation[None]


def augment(key: Key[Array, ''], images: Float[Array, 'n h w c'], *, shift: int, flip: bool) -> Float[Array, 'n h w c']:
    """A random crop of each image padded by `shift` zero pixels, mirrored one time in two if `flip`.

    The papers' augmentation for CIFAR (He et al. 2015, section 4.2). Every image has its own draw.
    """
    crops, mirrors = jax.random.split(key)
    if shift:
        images = _crop(crops, images, shift)
    if flip:
        mirrored = jax.random.bernoulli(mirrors, shape=(len(images), 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    return images


def _crop(key: Array, images: Array, shift: int) -> Array:
    pads = ((0, 0), (shift, shift), (shift, shift), (0, 0))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * shift + 1)

    def crop(padded, corner):
        return jax.lax.dynamic_slice(padded, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(jnp.pad(images, pads), corners)
