"""A task whose optimum is known: y = x + ε M x, the identity plus a small map, learned by stacks of small blocks.

He et al. 2015 (arXiv 1512.03385, section 3.1) suppose that a solver finds a function close to the identity more easily
beside a shortcut than from nothing. Here x is normal, (width,), and M orthogonal, so that the small map is ε long.
A stack is blocks h <- s h + W₂ ρ(W₁ h), ρ the ReLU: plain with s = 0, residual with s = 1. Both can be the optimum
exactly, for x = ρ(x) - ρ(-x): with 2 width hidden units a block is any linear map.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

Key = UInt32[Array, '2'] | Array
KINDS = ('residual', 'plain', 'plain_from_identity')
MOMENTUM = 0.9


class Stack(NamedTuple):
    """A stack of blocks: what is learned, and whether there is a shortcut (0 or 1)."""

    first: Array  # W₁ (depth, hidden, width)
    second: Array  # W₂ (depth, width, hidden)
    shortcut: Array


class Distance(NamedTuple):
    """How far a stack is from the optimum, and its blocks from the identity: ratios of root mean squares."""

    error: Array  # of f(x) - y to the small map y - x: the optimum has 0, the identity 1
    change: Array  # (depth,): of what a block changes its input by to that input; the identity has 0


def small_map(key: Key, width: int, size: float) -> Float[Array, 'width width']:
    """ε M, M a random orthogonal matrix."""
    return size * jax.random.orthogonal(key, width)


def start(kind: str, key: Key, depth: int, width: int) -> Stack:
    """An untrained stack of a kind of `KINDS`, of 4 width hidden units a block.

    plain: as He et al. 2015 (arXiv 1502.01852) draw weights, which keeps the length of the signal. residual: so too,
    but W₂ divided by √depth, which keeps it within a factor. plain_from_identity: the same function as a residual
    stack at its start, its shortcut made of 2 width of the hidden units, and learned like all else.
    """
    hidden = 4 * width
    free = hidden - 2 * width if kind == 'plain_from_identity' else hidden
    of_first, of_second = jax.random.split(key)
    first = jax.random.normal(of_first, (depth, free, width)) * jnp.sqrt(1 / width)
    second = jax.random.normal(of_second, (depth, width, free)) * jnp.sqrt(2 / free)
    if kind != 'plain':
        second = second / jnp.sqrt(depth)
    if kind == 'plain_from_identity':
        one = jnp.broadcast_to(jnp.eye(width), (depth, width, width))
        first = jnp.concatenate([one, -one, first], axis=1)
        second = jnp.concatenate([one, -one, second], axis=2)
    return Stack(first, second, jnp.asarray(1.0 if kind == 'residual' else 0.0))


def apply(stack: Stack, x: Float[Array, 'n width']) -> tuple[Float[Array, 'n width'], Float[Array, 'depth n width']]:
    """What the stack makes of x, and what each block is given."""

    def block(h: Array, weights: tuple[Array, Array]) -> tuple[Array, Array]:
        first, second = weights
        return stack.shortcut * h + jax.nn.relu(h @ first.T) @ second.T, h

    return lax.scan(block, x, (stack.first, stack.second))


@jax.jit
@partial(jax.vmap, in_axes=(0, None, None))
def distances(stack: Stack, small: Float[Array, 'width width'], x: Float[Array, 'n width']) -> Distance:
    """Of each of many stacks, on the same inputs x."""
    y, given = apply(stack, x)
    outputs = jnp.concatenate([given[1:], y[None]])
    wanted = x @ small.T
    return Distance(_length(y - x - wanted) / _length(wanted), _length(outputs - given) / _length(given))


def _length(x: Array) -> Array:
    """Root mean square over inputs and their coordinates."""
    return jnp.sqrt(jnp.mean(jnp.square(x), axis=(-2, -1)))


class Training(NamedTuple):
    """A stack on its way."""

    stack: Stack
    velocity: tuple[Array, Array]
    key: Array  # draws the inputs


def beginning(stacks: Sequence[Stack], keys: Sequence[Key]) -> Training:
    """Many stacks before the first step, together: each array with a leading axis."""
    many = jax.tree.map(lambda *each: jnp.stack(each), *stacks)
    return Training(many, (jnp.zeros_like(many.first), jnp.zeros_like(many.second)), jnp.stack(keys))


@partial(jax.jit, static_argnames='batch')
def train(
    trainings: Training,
    small: Float[Array, 'width width'],
    rates: Float[Array, ' many'],
    since: Int[Array, ''],
    until: Int[Array, ''],
    *,
    batch: int,
) -> Training:
    """Many stacks, each at its own learning rate, through steps `since` to `until` (exclusive).

    SGD with momentum 0.9 on the loss |f(x) - y|² / 2, its mean over a batch of fresh inputs at every step.
    """

    def one(training: Training, rate: Array) -> Training:
        return lax.fori_loop(since, until, partial(_step, small, rate, batch), training)

    return jax.vmap(one)(trainings, rates)


def _step(small: Array, rate: Array, batch: int, number: Array, now: Training) -> Training:
    x = jax.random.normal(jax.random.fold_in(now.key, number), (batch, len(small)))

    def loss(weights: tuple[Array, Array]) -> Array:
        y, _ = apply(Stack(*weights, now.stack.shortcut), x)
        return jnp.sum(jnp.square(y - x - x @ small.T)) / (2 * batch)

    weights = now.stack.first, now.stack.second
    velocity = jax.tree.map(lambda v, gradient: MOMENTUM * v + gradient, now.velocity, jax.grad(loss)(weights))
    first, second = jax.tree.map(lambda weight, v: weight - rate * v, weights, velocity)
    return Training(Stack(first, second, now.stack.shortcut), velocity, now.key)
