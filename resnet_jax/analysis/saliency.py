"""Saliency: which pixels of an image a class depends on, after Simonyan et al. 2014 (arXiv 1312.6034, section 3.1).

They differentiate the score of the class, the number before the softmax; here it is the logarithm of its probability,
which the scores of the other classes enter too.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from resnet_jax.models.resnet import ResNet


@partial(jax.jit, static_argnames='network')
def saliency(
    network: ResNet, variables: dict, images: Float[Array, 'n h w c'], classes: Int[Array, ' n']
) -> Float[Array, 'n h w']:
    """max over channels of |∂ log p / ∂ x|, where p is the softmax probability of the image's class.

    Args:
      images: as the network takes them.
      classes: one for each image.
    """

    def total(images: Array) -> Array:
        logits: Any = network.apply(variables, images, train=False)
        return jnp.sum(log_probability(logits, classes))

    return jnp.max(jnp.abs(jax.grad(total)(images)), axis=-1)


def log_probability(logits: Float[Array, 'n classes'], classes: Int[Array, ' n']) -> Float[Array, ' n']:
    """log p = -log(1 + Σ exp(zⱼ - z)) over the others: its gradient keeps its digits where p is nearly 1.

    Of log_softmax that gradient is 1 - p for the class itself, which cancels.
    """
    own = jax.nn.one_hot(classes, logits.shape[1], dtype=bool)
    distances = logits - jnp.take_along_axis(logits, classes[:, None], axis=1)
    return -jax.nn.softplus(jax.nn.logsumexp(distances, axis=1, where=~own))
