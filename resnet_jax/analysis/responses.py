"""Responses: how large is what each layer gives (He et al. 2015, arXiv 1512.03385, section 4.2 and figure 7)?

The response of a 3x3 layer is its output after batch normalisation, before ReLU and addition.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from resnet_jax.models.architecture import Architecture
from resnet_jax.models.blocks import block
from resnet_jax.models.parts import Conv, Norm, Parts
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.stems import stem


def has_responses(arch: Architecture) -> bool:
    """Is every convolution followed by normalisation, in a branch that is one chain?"""
    behind = arch.placement in ('original', 'relu_before_addition', 'relu_only_preactivation')
    return behind and arch.norm != 'none' and arch.block in ('basic', 'bottleneck')


def responses(
    network: ResNet, variables: dict, parts: Iterable[Float[Array, '_n h w c']]
) -> Float[np.ndarray, ' layers']:
    """The standard deviation of every 3x3 layer's response, in evaluation, in network order.

    It is over all examples of all parts, pixels and channels. The network must be one of `has_responses`.

    Args:
      parts: images, as many at a time as fit the memory.
    """
    found = [(len(images), jax.device_get(_moments(network, variables, images))) for images in parts]
    counts = [count for count, _ in found]
    means, variances = np.moveaxis(np.array([moments for _, moments in found]), -1, 0)
    mean = np.average(means, axis=0, weights=counts)
    return np.sqrt(np.average(variances + np.square(means - mean), axis=0, weights=counts))


@partial(jax.jit, static_argnames='network')
def _moments(network: ResNet, variables: dict, images: Float[Array, 'n h w c']) -> Float[Array, 'layers 2']:
    """Mean and variance of every layer's response to one part."""
    places = [(path, names) for path, parts in _sequences(network.arch) if (names := _behind_3x3(parts))]
    paths = {(*path, name) for path, names in places for name in names}
    _, kept = network.apply(
        variables, images, train=False, mutable=['intermediates'],
        capture_intermediates=lambda module, method: method == '__call__' and module.path in paths,
    )  # fmt: skip
    found = []
    for path, names in places:
        own = _module(kept['intermediates'], path)
        found.append(jnp.stack([_of_layer(own[name]['__call__'][0]) for name in names], axis=1).reshape(-1, 2))
    return jnp.concatenate(found)


def _sequences(arch: Architecture) -> list[tuple[tuple[str, ...], Parts]]:
    """Stem and branches with the paths of their modules, in network order; a body once."""
    found: list[tuple[tuple[str, ...], Parts]] = [(('stem',), stem(arch))]
    for stage, blocks in enumerate(arch.stage_blocks):
        name = f'stage{stage + 1}'
        found.append(((name, 'entry'), block(arch, stage, entry=True).residual))
        if blocks > 1:
            found.append(((name, 'body'), block(arch, stage, entry=False).residual))
    return found


def _behind_3x3(parts: Parts) -> list[str]:
    """The normalisations that follow 3x3 convolutions."""
    return [
        norm.name for conv, norm in pairwise(parts)
        if isinstance(conv, Conv) and conv.size == (3, 3) and isinstance(norm, Norm)
    ]  # fmt: skip


def _module(kept: Mapping, path: tuple[str, ...]) -> Mapping:
    for name in path:
        kept = kept[name]
    return kept


def _of_layer(response: Float[Array, '*blocks n h w c']) -> Float[Array, 'layers 2']:
    """Of one layer; of a body's, that come stacked, of each block's."""
    each = [jnp.atleast_1d(moment(response, axis=(-4, -3, -2, -1))) for moment in (jnp.mean, jnp.var)]
    return jnp.stack(each, axis=-1)
