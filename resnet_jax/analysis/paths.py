"""Paths: how many blocks are on the paths that carry the gradient? (Veit et al. 2016, arXiv 1605.06431, section 5)

At each of n blocks a path goes through the residual branch or over the shortcut: 2ⁿ paths, binomial(n, k) of them of
length k, which is the number of residual branches on a path. The gradient is the sum of what comes back along every
path. Backward gates let it come back along one (`along`, the paper's protocol); and the vector sum of all paths of
each length is exact, by carrying a cotangent a length back through the blocks (`sums`):

    G[k] <- shortcutᵀ G[k] + residualᵀ G[k - 1]

What a block has before the split and behind the addition is on every path through it. All is in evaluation, with BN's
stored statistics: examples do not mix, and a gradient is that of an example's own cross-entropy.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from scipy import stats

from resnet_jax.analysis.shares import filled
from resnet_jax.errors import UserError
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet, head, stem
from resnet_jax.models.suffix import block_inputs, body_block, enter_stage, entry_block, part

# Along a path through all of 54 blocks, float32 holds no gradient: those of this many times the loss are computed.
LIFT = 2.0**60


class Gradients(NamedTuple):
    """By what the first block is given and by the image: (…, n, h, w, c) each, or the norms of these, (…, n)."""

    first_block: Any
    image: Any


def there(arch: Architecture) -> bool:
    """Are there two ways through a block, which meet in a sum?"""
    return not arch.plain and arch.join == 'add'


def check(arch: Architecture) -> None:
    """Refuses a network that has no paths.

    Raises:
      UserError: it has no shortcuts, or does not add them.
    """
    if not there(arch):
        raise UserError(
            f'paths are those of a network that adds its shortcuts; this one has shortcut {arch.shortcut!r} and join '
            f'{arch.join!r}: take one with a shortcut and join add'
        )


def shares(blocks: int) -> Float[np.ndarray, ' lengths']:
    """The share of the 2ⁿ paths through n blocks that each length from 0 to n has: binomial(n, k) / 2ⁿ."""
    return stats.binom.pmf(np.arange(blocks + 1), blocks, 0.5)


def mean_length(weights: Float[np.ndarray, ' lengths']) -> float:
    """Σ k w[k] / Σ w[k], in blocks; of the norms of `sums`, the effective length of the paths."""
    return float(np.arange(len(weights)) @ weights / np.sum(weights))


def random_paths(rng: np.random.Generator, blocks: int, length: int, draws: int) -> Bool[np.ndarray, 'blocks draws']:
    """Paths through `length` of the residual branches each, drawn uniformly; True where it goes through."""
    through = np.tile(np.arange(blocks) < length, (draws, 1))
    return rng.permuted(through, axis=1).T


def along(intact: Gates, paths: Bool[Array, ' blocks'] | Bool[Array, 'blocks n']) -> Gates:
    """Gates that leave every value, and let the gradient back along one path, or along one an example."""
    through = paths.astype(intact.residual.dtype)
    return intact._replace(shortcut_grad=1 - through, residual_grad=through)


def gradients(
    network: ResNet, variables: dict, images: Float[Array, 'n h w c'], labels: Int[Array, ' n'], gates: Gates
) -> Gradients:
    """LIFT times the gradient under these gates: all of it under the intact ones, a path's under those of `along`."""
    x, back = jax.vjp(partial(_stem, network, variables), images)
    gradient = jax.grad(lambda x: _loss(enter_stage(network, variables, 0, x, gates), labels))(x)
    return Gradients(gradient, back(gradient)[0])


def sums(network: ResNet, variables: dict, images: Float[Array, 'n h w c'], labels: Int[Array, ' n']) -> Gradients:
    """LIFT times what all paths of a length bring back together: (lengths, n, h, w, c), lengths from 0 to `blocks`."""
    arch = network.arch
    _, inputs = block_inputs(network, variables, images)
    carried = _behind_the_blocks(network, variables, inputs[-1], labels)[None]
    for stage in reversed(range(arch.stages)):
        # A path is no longer than there are blocks on its way back from the loss.
        carried = jnp.pad(carried, ((0, arch.stage_blocks[stage]), *[(0, 0)] * 4))
        carried = _back_through_stage(network, variables, stage, inputs[stage], carried)
    _, back = jax.vjp(partial(_stem, network, variables), images)
    return Gradients(carried, jax.vmap(lambda cotangent: back(cotangent)[0])(carried))


def sum_norms(
    network: ResNet, variables: dict, images: Float[Array, 'n h w c'], labels: Int[Array, ' n']
) -> tuple[Gradients, Float[np.ndarray, ' n']]:
    """The norms, (lengths, n), of the sum of all paths of each length; and how far they are from the gradient.

    Returns:
      norms, and ‖Σₖ G[k] - g‖ / ‖g‖ by the image, for g the gradient as JAX has it: rounding alone.
    """
    norms, missed = _sum_norms(network, variables, filled(images), filled(labels))
    return _lowered(norms, len(labels)), np.asarray(missed)[: len(labels)]


def path_norms(
    network: ResNet,
    variables: dict,
    images: Float[Array, 'n h w c'],
    labels: Int[Array, ' n'],
    paths: Bool[np.ndarray, 'blocks n'],
) -> Gradients:
    """The norms, (n,), of what comes back along a path an example. Paths are data: one program serves all."""
    images, labels, count = filled(images), filled(labels), len(labels)
    paths = np.pad(paths, ((0, 0), (0, len(labels) - count)), mode='edge')
    return _lowered(_path_norms(network, variables, images, labels, paths), count)


def norm(x: Float[Array, '*batch h w c']) -> Float[Array, '*batch']:
    """‖x‖ over the last three axes, also where no square of it is held by its dtype."""
    largest = jnp.max(jnp.abs(x), axis=(-3, -2, -1), keepdims=True)
    unit = x / jnp.where(largest == 0, jnp.ones_like(largest), largest)
    return largest[..., 0, 0, 0] * jnp.sqrt(jnp.sum(unit**2, axis=(-3, -2, -1)))


@partial(jax.jit, static_argnames='network')
def _sum_norms(network, variables, images, labels):
    found = sums(network, variables, images, labels)
    whole = gradients(network, variables, images, labels, network.intact_gates()).image
    size = norm(whole)  # 0 where the network is so sure that float32 holds no loss
    missed = norm(jnp.sum(found.image, axis=0) - whole) / jnp.where(size == 0, jnp.ones_like(size), size)
    return Gradients(*map(norm, found)), missed


@partial(jax.jit, static_argnames='network')
def _path_norms(network, variables, images, labels, paths):
    return Gradients(*map(norm, gradients(network, variables, images, labels, along(network.intact_gates(), paths))))


def _lowered(norms: Gradients, count: int) -> Gradients:
    """Of the loss itself, in float64, and of the first `count` examples."""
    return Gradients(*(np.asarray(each, np.float64)[..., :count] / LIFT for each in norms))


def _loss(logits: Array, labels: Array) -> Array:
    """A sum, not a mean: every example's gradient is its own."""
    return LIFT * jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _stem(network: ResNet, variables: dict, images: Array) -> Array:
    first: Any = stem(network.arch)
    return first.apply(part(variables, 'stem'), images, train=False)


def _behind_the_blocks(network: ResNet, variables: dict, inputs: dict, labels: Array) -> Array:
    """The gradient by the last block's output; `inputs` are those of the last stage."""
    arch, gates = network.arch, network.intact_gates()
    if 'body' in inputs:
        x = body_block(network, variables, arch.stages - 1, inputs['body'][-1], arch.blocks - 1, gates)
    else:
        x = entry_block(network, variables, arch.stages - 1, inputs['entry'], gates)
    last: Any = head(arch)
    return jax.grad(lambda x: _loss(last.apply(part(variables, 'head'), x, train=False), labels))(x)


def _back_through_stage(network: ResNet, variables: dict, stage: int, inputs: dict, carried: Array) -> Array:
    first, blocks, intact = network.arch.entry_blocks[stage], network.arch.stage_blocks[stage], network.intact_gates()

    def step(carried, given):
        index, x = given
        return _back_through_block(
            partial(body_block, network, variables, stage, index=index), x, intact, carried
        ), None

    if blocks > 1:
        carried, _ = lax.scan(step, carried, (first + jnp.arange(1, blocks), inputs['body']), reverse=True)
    return _back_through_block(partial(entry_block, network, variables, stage), inputs['entry'], intact, carried)


def _back_through_block(block, x: Array, intact: Gates, carried: Array) -> Array:
    """G[k] <- shortcutᵀ G[k] + residualᵀ G[k - 1], for `block(x=x, gates=gates)`."""

    def transposed(through: bool, cotangents: Array) -> Array:
        gates = along(intact, jnp.full(intact.residual.shape, through))
        _, back = jax.vjp(lambda x: block(x=x, gates=gates), x)
        return jax.vmap(lambda cotangent: back(cotangent)[0])(cotangents)

    return transposed(False, carried).at[1:].add(transposed(True, carried[:-1]))
