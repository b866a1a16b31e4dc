"""Depth: what each block of a trained network adds to the signal, in which direction, and what is known behind it.

A block gives y = after(shortcut(h) + F(h)): h is what it is given, F(h) what its residual branch adds, with its gain.
Blocks in network order; all in evaluation.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from resnet_jax.analysis.gradients import apply_head, inner, last_output, norms
from resnet_jax.analysis.saliency import log_probability
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.block import Block
from resnet_jax.models.blocks import Position, block
from resnet_jax.models.gates import Gates
from resnet_jax.models.layers import layers
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.stage import block_of
from resnet_jax.models.suffix import block_inputs, body_block, entry_block, part

LEARNED_GAINS = ('skipinit', 'rezero', 'fixup')


class Blocks(NamedTuple):
    """What every block does to every example, (blocks, n) each.

    Attributes:
      size: ‖F(h)‖ / ‖h‖ (Hauser 2019, arXiv 1902.04106: the scaled perturbation).
      change: ‖y - h‖ / ‖h‖, 0 of the identity; NaN where the shapes differ.
      cosine: of F(h) and ∂L/∂h, where L is the example's cross-entropy (Jastrzebski et al. 2018, arXiv 1710.04773);
        0 where one of them is 0, NaN where the shapes differ.
      distance: mean over features of y - Y, where Y is the last output of the block's stage (Greff et al. 2017,
        arXiv 1612.07771).
      squared: mean over features of (y - Y)².
      mean, square: of Y and Y² over features.
    """

    size: Array
    change: Array
    cosine: Array
    distance: Array
    squared: Array
    mean: Array
    square: Array


@partial(jax.jit, static_argnames='network')
def blocks(network: ResNet, variables: dict, images: Float[Array, 'n h w c'], labels: Int[Array, ' n']) -> Blocks:
    """Of all blocks, in one pass forwards and one back. Every block's input of these images is kept in between."""
    arch = network.arch
    _, inputs = block_inputs(network, variables, images)
    last, found = last_output(network, variables, inputs), []
    g = jax.grad(lambda x: -jnp.sum(log_probability(apply_head(network, variables, x), labels)))(last)
    ends = [following['entry'] for following in inputs[1:]] + [last]
    for stage in reversed(range(arch.stages)):
        first, see = arch.entry_blocks[stage], partial(_see, network, variables, stage, ends[stage])
        if 'body' in inputs[stage]:
            body = inputs[stage]['body']
            numbers = first + 1 + jnp.arange(len(body))
            g, of_body = lax.scan(partial(see, entry=False), g, (numbers, body), reverse=True)
            found.append(of_body)
        g, of_entry = see(g, (first, inputs[stage]['entry']), entry=True)
        found.append(jax.tree.map(lambda row: row[None], of_entry))
    return jax.tree.map(lambda *stages: jnp.concatenate(stages), *reversed(found))


@partial(jax.jit, static_argnames='network')
def read_outs(network: ResNet, variables: dict, images: Float[Array, 'n h w c']) -> Float[Array, 'blocks n classes']:
    """Logits of the head plugged in behind each block of the last stage (Jastrzebski et al. 2018).

    Nothing is trained again: where the head has BN, its statistics are those of the last block's output.
    """
    logits, inputs = block_inputs(network, variables, images)
    if 'body' not in inputs[-1]:
        return logits[None]
    before = lax.map(lambda x: apply_head(network, variables, x), inputs[-1]['body'])
    return jnp.concatenate([before, logits[None]])


def gains(arch: Architecture, variables: dict) -> Float[np.ndarray, ' blocks']:
    """The learned number that multiplies each block's branch (SkipInit, ReZero, Fixup); NaN where there is none."""
    found = np.full(arch.blocks, np.nan)
    if arch.gain in LEARNED_GAINS:
        for number, (first, length) in enumerate(zip(arch.entry_blocks, arch.stage_blocks, strict=True), start=1):
            stage = variables['params'][f'stage{number}']
            found[first] = stage['entry']['gain']['value']
            if length > 1:  # one number where the body shares its parameters
                found[first + 1 : first + length] = stage['body']['gain']['value']
    return found


def _see(
    network: ResNet, variables: dict, stage: int, end: Array, g: Array, given: tuple, *, entry: bool
) -> tuple[Array, Blocks]:
    """The cotangent of a block's input from that of its output, and what the block does."""
    number, x = given
    intact = network.intact_gates()
    if entry:
        y, back = jax.vjp(lambda x: entry_block(network, variables, stage, x, intact), x)
    else:
        y, back = jax.vjp(lambda x: body_block(network, variables, stage, x, number, intact), x)
    added, (g,) = _added(network.arch, variables, stage, x, number, entry=entry), back(g)
    same, none = y.shape == x.shape, jnp.full(len(x), jnp.nan, x.dtype)
    return g, Blocks(
        size=norms(added) / norms(x),
        change=norms(y - x) / norms(x) if same else none,
        cosine=inner(_unit(added), _unit(g)) if same else none,
        distance=_mean(y - end),
        squared=_mean((y - end) ** 2),
        mean=_mean(end),
        square=_mean(end**2),
    )


def _added(arch: Architecture, variables: dict, stage: int, x: Array, number: int | Array, *, entry: bool) -> Array:
    """F(x): the block without what stands behind the sum, its shortcut closed."""
    place = number - arch.entry_blocks[stage]
    its = part(variables, f'stage{stage + 1}', 'entry' if entry else 'body')
    if not entry:
        its = block_of(its, place - 1, arch.stage_blocks[stage] - 1, arch.share)
    alone: Any = Block(replace(block(arch, stage, entry=entry), after=(), join=None), layers(arch))
    closed = Gates(*(jnp.asarray(gate, x.dtype) for gate in (0, 1, 1, 1)))
    return alone.apply(its, x, closed, Position(number, place), train=False)


def _mean(x: Float[Array, 'n *axes']) -> Float[Array, ' n']:
    return jnp.mean(x.reshape(len(x), -1), axis=1)


def _unit(x: Float[Array, 'n *axes']) -> Float[Array, 'n *axes']:
    """Of length 1, or 0. By its largest number first: in float32 the square of a small gradient is 0."""
    largest = jnp.max(jnp.abs(x), axis=tuple(range(1, x.ndim)))
    for length in (lambda x: largest, norms):
        scale = length(x).reshape(-1, *(1,) * (x.ndim - 1))
        x = x / jnp.where(scale == 0, jnp.ones_like(scale), scale)
    return x
