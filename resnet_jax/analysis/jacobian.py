"""Jacobians: by how much does a network, or one block of it, amplify a small change of what it is given?

All in evaluation, where examples do not mix: a Jacobian is an example's own. A random direction of length 1 is
stretched on the average to ‖J‖_F² / dim (its square, dim being that of the input): the square of what Philipp et al.
2017 (arXiv 1712.05577) call ‖J‖_qm. Relative to the norms on both sides that is their gradient scale coefficient,

    GSC(k, l) = ‖∂h_l/∂h_k‖_qm ‖h_k‖ / ‖h_l‖.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from resnet_jax.analysis.gradients import apply_head, inner, last_output, norms, pull_back
from resnet_jax.analysis.saliency import log_probability
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.block import Block
from resnet_jax.models.blocks import BlockPlan, Position, block
from resnet_jax.models.layers import layers
from resnet_jax.models.resnet import ResNet, stem
from resnet_jax.models.stage import block_of
from resnet_jax.models.suffix import block_inputs, part


class Gains(NamedTuple):
    """What becomes of a small change of the image: at the image, every block's input, the head's, and the logits.

    Attributes:
      size: ‖h‖, unchanged.
      gain: ‖h(x + εu) - h(x)‖ / ε, for each direction u of length 1.
    """

    size: Float[Array, 'places n']
    gain: Float[Array, 'directions places n']


class Sensitivity(NamedTuple):
    """What depends how far on the image, every block's input, and the head's.

    Attributes:
      logits: ‖∂logits/∂h‖_F².
      softmax: ‖∂softmax/∂h‖_F² (by the image: Novak et al. 2018, arXiv 1802.08760, eq. 1).
      steepest: the adversarial direction, of length 1: that in which an image's loss rises most. 0 where the loss has
        no gradient.
    """

    logits: Float[Array, 'places n']
    softmax: Float[Array, 'places n']
    steepest: Float[Array, 'n h w c']


class BlockJacobian(NamedTuple):
    """Of each block alone: ‖J‖_F² and the largest singular value, of which power iteration gives a lower bound."""

    frobenius: Float[Array, 'blocks n']
    largest: Float[Array, 'blocks n']


def unit_directions(key: Array, like: Float[Array, 'n h w c'], count: int) -> Float[Array, 'directions n h w c']:
    """Directions of length 1, uniform on the sphere, as many for each image."""
    drawn = jax.random.normal(key, (count, *like.shape), like.dtype)
    return drawn / _spread(jax.vmap(norms)(drawn), drawn)


def gains(
    network: ResNet,
    variables: dict,
    images: Float[Array, 'n h w c'],
    directions: Float[Array, 'directions n h w c'],
    epsilon: float,
) -> Gains:
    """What a change of ε‖x‖ in each direction becomes on its way through the network.

    Args:
      epsilon: the length of the change, relative to the image's.
    """
    states = _forward(network, variables, images)
    length, found = epsilon * norms(images), []
    for direction in directions:  # one at a time: of all together the states might not fit the memory
        changed = images + _spread(length, images) * direction
        found.append(_distances(changed, images, _forward(network, variables, changed), states) / length)
    return Gains(_distances(images, images, states, None), jnp.stack(found))


class States(NamedTuple):
    """What a network computes on the way: the inputs of its blocks (`block_inputs`), of its head, and the logits."""

    inputs: list[dict]
    last: Array
    logits: Array


@partial(jax.jit, static_argnames='network')
def _forward(network: ResNet, variables: dict, images: Array) -> States:
    logits, inputs = block_inputs(network, variables, images)
    return States(inputs, last_output(network, variables, inputs), logits)


def _in_order(images: Array, states: States) -> list[Array]:
    """Image, stem's output, …, logits, as they come: single ones (1, n, …), those of a body (blocks, n, …)."""
    inside = [
        x for stage in states.inputs for x in (stage['entry'][None], *([stage['body']] if 'body' in stage else []))
    ]
    return [images[None], *inside, states.last[None], states.logits[None]]


@jax.jit
def _distances(images: Array, from_images: Array, states: States, other: States | None) -> Float[Array, 'places n']:
    """Between two images' states, by place; from 0 where there is no other."""
    here = _in_order(images, states)
    there = jax.tree.map(jnp.zeros_like, here) if other is None else _in_order(from_images, other)
    return jnp.concatenate([jax.vmap(norms)(a - b) for a, b in zip(here, there, strict=True)])


def dimensions(network: ResNet, variables: dict) -> list[int]:
    """How many numbers an example has at each place of `Gains`."""
    one = jax.ShapeDtypeStruct((1, *network.arch.image_shape), jnp.float32)
    ordered = jax.eval_shape(lambda x: _in_order(x, _forward(network, variables, x)), one)
    return [math.prod(state.shape[2:]) for state in ordered for _ in range(state.shape[0])]


def sensitivity(
    network: ResNet,
    variables: dict,
    images: Float[Array, 'n h w c'],
    labels: Int[Array, ' n'],
    key: Array,
    *,
    draws: int,
) -> Sensitivity:
    """How far the output depends on every state, by Hutchinson's E‖Jᵀv‖² with the probes v of `probes`."""
    states = _forward(network, variables, images)
    return _sensitivity(network, variables, images, labels, states, probes(key, states.logits, draws))


@partial(jax.jit, static_argnames='network')
def _sensitivity(network, variables, images, labels, states, drawn) -> Sensitivity:
    own: Any = stem(network.arch)
    _, to_image = jax.vjp(lambda images: own.apply(part(variables, 'stem'), images, train=False), images)
    _, to_last = jax.vjp(lambda x: apply_head(network, variables, x), states.last)

    def pulled(cotangent):
        (last,) = to_last(cotangent)
        first, seen = pull_back(network, variables, states.inputs, last, lambda x, g, end: inner(g, g))
        (image,) = to_image(first)
        return jnp.concatenate([inner(image, image)[None], seen, inner(last, last)[None]]), image

    p = jax.nn.softmax(states.logits)
    of_softmax = p * (drawn - jnp.sum(p * drawn, axis=-1, keepdims=True))
    of_loss = jax.grad(lambda logits: -jnp.sum(log_probability(logits, labels)))(states.logits)
    of_loss = _unit(of_loss)  # of an example classified with confidence it is too small to be squared
    squares, by_image = lax.map(pulled, jnp.concatenate([drawn, of_softmax, of_loss[None]]))
    halves = squares[:-1].reshape(2, len(drawn), *squares.shape[1:])
    of_logits, of_probabilities = jnp.mean(halves, axis=1)
    return Sensitivity(of_logits, of_probabilities, _unit(by_image[-1]))


def probes(key: Array, like: Float[Array, 'n outputs'], draws: int) -> Float[Array, 'probes n outputs']:
    """Random vectors v with E vvᵀ = 1 for each example: orthogonal to each other, so that as many as there are outputs
    give ‖J‖_F² exactly. There are never more than that."""
    outputs = like.shape[-1]
    drawn = jax.random.normal(key, (len(like), outputs, outputs), like.dtype)
    orthogonal, _ = jnp.linalg.qr(drawn)
    return jnp.moveaxis(orthogonal[..., : min(draws, outputs)], -1, 0) * jnp.sqrt(jnp.asarray(outputs, like.dtype))


def block_jacobians(
    network: ResNet, variables: dict, images: Float[Array, 'n h w c'], key: Array, *, iterations: int
) -> BlockJacobian:
    """The Jacobian of every block by its input, in network order. Blocks of one plan and shape are one program."""
    arch, gates, found = network.arch, network.intact_gates(), []
    inputs = _forward(network, variables, images).inputs
    alike = replace(arch, stage_blocks=())  # in networks of any depth
    for stage, (first, blocks) in enumerate(zip(arch.entry_blocks, arch.stage_blocks, strict=True)):
        for place in range(blocks):
            own = part(variables, f'stage{stage + 1}', 'body' if place else 'entry')
            if place:
                own = block_of(own, place - 1, blocks - 1, arch.share)
            x = inputs[stage]['body'][place - 1] if place else inputs[stage]['entry']
            index = first + place
            position, key_of_block = Position(jnp.int32(index), jnp.int32(place)), jax.random.fold_in(key, index)
            found.append(_of_block(own, x, gates.of(index), position, key_of_block, arch=alike, iterations=iterations,
                                   plan=block(arch, stage, entry=not place)))  # fmt: skip
    return BlockJacobian(*(jnp.stack(each) for each in zip(*found, strict=True)))


@partial(jax.jit, static_argnames=('plan', 'arch', 'iterations'))
def _of_block(own, x, gates, position, key, *, plan: BlockPlan, arch: Architecture, iterations: int):
    module: Any = Block(plan, layers(arch))
    return norms_of_jacobian(
        lambda x: module.apply(own, x, gates, position, train=False), x, key, iterations=iterations
    )  # fmt: skip


def norms_of_jacobian(
    function: Callable[[Array], Array], x: Float[Array, 'n *axes'], key: Array, *, iterations: int
) -> tuple[Float[Array, ' n'], Float[Array, ' n']]:
    """‖J‖_F² (Hutchinson: E‖Jᵀv‖², v of signs) and σ_max (power iteration on JᵀJ) of a function of each example alone.

    Where JJᵀ is diagonal, as of an orthogonal map, one draw gives ‖J‖_F² exactly.

    Args:
      iterations: of the power method, each with one draw of v.
    """
    push, pull, y = jacobian_products(function, x)

    def step(index, state):
        v, total, _ = state
        pushed = push(v)
        signs = jax.random.rademacher(jax.random.fold_in(key, index), y.shape, y.dtype)
        pulled, sample = jax.vmap(pull)(jnp.stack([pushed, signs]))
        return _unit(pulled), total + inner(sample, sample), norms(pushed)

    start = _unit(jax.random.normal(jax.random.fold_in(key, iterations), x.shape, x.dtype))
    zeros = jnp.zeros(len(x), x.dtype)
    _, total, largest = lax.fori_loop(0, iterations, step, (start, zeros, zeros))
    return total / iterations, largest


def jacobian_products(function: Callable[[Array], Array], x: Array) -> tuple[Callable, Callable, Array]:
    """v -> J v and w -> Jᵀ w of the function's Jacobian at x, and its value there.

    J v is the transpose of the transpose: the convolutions have no forward mode on the CPU (`models/convolve.py`).
    """
    y, back = jax.vjp(function, x)

    def pull(w: Array) -> Array:
        return back(w)[0]

    def push(v: Array) -> Array:
        return jax.vjp(pull, jnp.zeros_like(y))[1](v)[0]

    return push, pull, y


def _unit(v: Float[Array, 'n *axes']) -> Array:
    size = _spread(norms(v), v)
    return jnp.where(size > 0, v / jnp.where(size > 0, size, 1), 0)


def _spread(numbers: Float[Array, '*batch n'], like: Array) -> Array:
    """One number an example, over the example's axes."""
    return numbers.reshape(numbers.shape + (1,) * (like.ndim - numbers.ndim))
