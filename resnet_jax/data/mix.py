"""Targets as shares of the classes, two images mixed into one, and the loss of both."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key

from resnet_jax.data.augment import span

PRESENT = 0.2  # the share from which on a class is in the picture (timm's threshold in the recipes of the paper)


def targets(labels: Int32[Array, ' n'], classes: int, smoothing: float) -> Float[Array, 'n classes']:
    """The share of each class in each example: 1 - smoothing of its own, and `smoothing` spread over all of them.

    (Szegedy et al. 2016, arXiv 1512.00567, section 7.)
    """
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32) * (1 - smoothing) + smoothing / classes


def mix(
    key: Key[Array, ''], images: Float[Array, 'n h w c'], targets: Float[Array, 'n k'], mixup: float, cutmix: float
) -> tuple[Float[Array, 'n h w c'], Float[Array, 'n k']]:
    """Each example and its partner as one, by one share λ ~ Beta(alpha, alpha) for the whole batch.

    mixup (Zhang et al. 2018, arXiv 1710.09412): λ of the one and 1 - λ of the other, pixels as targets. cutmix (Yun
    et al. 2019, arXiv 1905.04899): a box of 1 - λ of the area, of the other, in the one; what of it lies outside the
    image is lost, and the targets' λ is what is left of the one. Where both are asked for, each batch is mixed by
    one of them, with equal chance.

    The partner is the mirror in the batch's order, as in timm: copies of an image, which repeated augmentation puts
    side by side, are not mixed with each other, as they would be with a neighbour.

    Args:
      mixup: alpha of mixup; 0: none.
      cutmix: alpha of cutmix; 0: none.
    """
    if not (mixup or cutmix):
        return images, targets
    chosen, shares, boxes = jax.random.split(key, 3)
    _, height, width, _ = images.shape
    owns = [jax.random.beta(shares, mixup, mixup, (1, 1))] if mixup else []
    owns += [_outside(boxes, height, width, cutmix)] if cutmix else []
    own = jnp.where(jax.random.bernoulli(chosen), owns[0], owns[-1])
    return _blend(images, own[..., None].astype(images.dtype)), _blend(targets, own.mean().astype(targets.dtype))


def _blend(batch: Array, own: Array) -> Array:
    return own * batch + (1 - own) * batch[::-1]


def _outside(key: Array, height: int, width: int, alpha: float) -> Float[Array, 'h w']:
    """0 in a box whose centre is any pixel, and whose sides are √(1 - λ) of the image's; 1 outside."""
    shares, rows, columns = jax.random.split(key, 3)
    side = jnp.sqrt(1 - jax.random.beta(shares, alpha, alpha))

    def inside(key, size):
        length = (size * side).astype(int)
        return span(jax.random.randint(key, (), 0, size) - length // 2, length, size)

    return jnp.where(inside(rows, height)[:, None] & inside(columns, width), 0.0, 1.0)


def loss(logits: Float[Array, 'n k'], targets: Float[Array, 'n k'], kind: str) -> Float[Array, '']:
    """The mean loss of a batch.

    Args:
      kind: softmax: cross-entropy of the softmax with the targets. sigmoid: binary cross-entropy of every class, the
        mean over examples and classes, in which every class of a mixed image is wholly present: a target above 0.2
        is 1, any other 0 (Wightman et al. 2021, arXiv 2110.00476, and timm's BinaryCrossEntropy as their recipes
        call it; so smoothing changes nothing). Being a mean over the classes too, its gradient is smaller than that
        of the softmax by about their number: the paper's LAMB does not feel that, descent at a fixed rate does.
    """
    if kind == 'softmax':
        return optax.softmax_cross_entropy(logits, targets).mean()
    present = (targets > PRESENT).astype(logits.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, present).mean()
