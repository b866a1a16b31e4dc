"""Gradients: what reaches each block of ∂loss/∂(its input), and what of it the identity carries there.

He et al. 2015 (arXiv 1512.03385): where the shortcut is the identity and nothing stands behind the addition, the last
output of a stage is x_L = x_l + Σ F_i, so that

    ∂loss/∂x_l = ∂loss/∂x_L + Σ_{i ≥ l} ∂loss/∂x_L · ∂F_i/∂x_l        (He et al. 2016, arXiv 1603.05027, eq. 5)

an identity term and a residual term, which cancel where the residual term is -1 times the other. All in evaluation,
an example's gradient being that of its own cross-entropy, in nats.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from resnet_jax.analysis.saliency import log_probability
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.blocks import block
from resnet_jax.models.resnet import ResNet, head
from resnet_jax.models.suffix import block_inputs, body_block, entry_block, part

See = Callable[[Array, Array, Array], Any]  # a block's input, the cotangent there, that at its stage's end -> arrays


class Flow(NamedTuple):
    """The gradient on its way back, an example each.

    Attributes:
      size: ‖∂loss/∂x‖ of every block's input, in network order, and of what the head is given.
      carried: ⟨∂loss/∂x_l, ∂loss/∂x_L⟩ / ‖∂loss/∂x_L‖², with x_L the last output of the block's stage: 1 where the
        identity carries it back and the branches change nothing of it. NaN where the shapes differ, and for an
        example whose loss has no gradient.
      cosine: of the two.
    """

    size: Float[Array, 'places n']
    carried: Float[Array, 'blocks n']
    cosine: Float[Array, 'blocks n']


class Terms(NamedTuple):
    """The gradient in a stage's body of b blocks, term by term, an example each. Sizes are relative to ∂loss/∂x_L.

    Attributes:
      size: ‖∂loss/∂x_L · ∂F_i/∂x_l‖, of block l of the body (row) and i (column); 0 for i < l.
      along: its component along ∂loss/∂x_L; -1 in all would cancel it.
      residual_size, residual_along: the same of the sum over i.
      gap: ‖identity term + residual terms - ∂loss/∂x_l‖, relative to ‖∂loss/∂x_l‖.
    """

    size: Float[Array, 'b b n']
    along: Float[Array, 'b b n']
    residual_size: Float[Array, 'b n']
    residual_along: Float[Array, 'b n']
    gap: Float[Array, 'b n']


def adds_to_identity(arch: Architecture) -> bool:
    """Is each block of a body x + F(x), its input plus a branch, and nothing else?"""
    plan = block(arch, 0, entry=False)
    return plan.shortcut == () and plan.before == plan.after == () and plan.join is None and plan.gate is None


@partial(jax.jit, static_argnames='network')
def flow(network: ResNet, variables: dict, images: Float[Array, 'n h w c'], labels: Int[Array, ' n']) -> Flow:
    """The gradient at every block's input, in one pass back."""
    _, inputs = block_inputs(network, variables, images)
    last = last_gradient(network, variables, last_output(network, variables, inputs), labels)
    # Of an example classified with confidence it is so small that its square would be 0.
    scale = jnp.max(jnp.abs(last), axis=(1, 2, 3))
    last = last / scale[:, None, None, None]

    def see(x, g, end):
        if g.shape != end.shape:
            return norms(g), *[jnp.full(len(g), jnp.nan, g.dtype)] * 2
        along = inner(g, end)
        return norms(g), along / inner(end, end), along / (norms(g) * norms(end))

    _, (size, carried, cosine) = pull_back(network, variables, inputs, last, see)
    return Flow(scale * jnp.concatenate([size, norms(last)[None]]), carried, cosine)


@partial(jax.jit, static_argnames='network')
def decompose(
    network: ResNet, variables: dict, images: Float[Array, 'n h w c'], labels: Int[Array, ' n']
) -> list[Terms | None]:
    """The identity term and every residual term in the body of each stage; None where a stage has no body.

    The network must be one of `adds_to_identity`. A body of b blocks costs b² blocks.
    """
    _, inputs = block_inputs(network, variables, images)
    g, found = last_gradient(network, variables, last_output(network, variables, inputs), labels), []
    for stage in reversed(range(network.arch.stages)):
        terms = None
        if 'body' in inputs[stage]:
            g, terms = _terms(network, variables, stage, inputs[stage]['body'], g)
        found.insert(0, terms)
        g = _back_entry(network, variables, stage, inputs[stage]['entry'], g)
    return found


def _terms(network: ResNet, variables: dict, stage: int, inputs: Array, end: Array) -> tuple[Array, Terms]:
    """Carries one cotangent for each branch from that branch on back, through whole blocks; and the whole one."""
    first, intact = network.arch.entry_blocks[stage] + 1, network.intact_gates()
    alone = intact._replace(shortcut=jnp.zeros_like(intact.shortcut))

    def step(carry, given):
        terms, g = carry
        place, x = given
        _, through = jax.vjp(lambda x: body_block(network, variables, stage, x, first + place, intact), x)
        _, of_branch = jax.vjp(lambda x: body_block(network, variables, stage, x, first + place, alone), x)
        (terms,), (g,) = jax.vmap(through)(terms), through(g)
        terms = terms.at[place].set(of_branch(end)[0])
        return (terms, g), _relative(terms, g, end)

    blocks = len(inputs)
    start = jnp.zeros((blocks, *end.shape), end.dtype), end
    (_, g), seen = lax.scan(step, start, (jnp.arange(blocks), inputs), reverse=True)
    return g, Terms(*seen)


def _relative(terms: Array, g: Array, end: Array) -> tuple[Array, ...]:
    unit, squared = norms(end), inner(end, end)
    residual = jnp.sum(terms, axis=0)
    return (
        jax.vmap(norms)(terms) / unit,
        jax.vmap(lambda term: inner(term, end))(terms) / squared,
        norms(residual) / unit,
        inner(residual, end) / squared,
        norms(end + residual - g) / norms(g),
    )


def pull_back(network: ResNet, variables: dict, inputs: list[dict], g: Array, see: See) -> tuple[Array, Any]:
    """Takes a cotangent of the last block's output back through all blocks.

    Args:
      inputs: what `block_inputs` keeps.
      see: what is kept of each block: of its input, the cotangent there and that at its stage's end, arrays of a
        shape that is the same for all blocks.

    Returns:
      The cotangent of the first block's input, and what was seen, (blocks, …) in network order.
    """
    seen = []
    for stage in reversed(range(network.arch.stages)):
        x, end = inputs[stage]['entry'], g
        if 'body' in inputs[stage]:
            g, of_body = _back_body(network, variables, stage, inputs[stage]['body'], g, see)
            seen.insert(0, of_body)
        g = _back_entry(network, variables, stage, x, g)
        seen.insert(0, jax.tree.map(lambda leaf: leaf[None], see(x, g, end)))
    return g, jax.tree.map(lambda *parts: jnp.concatenate(parts), *seen)


def _back_body(network: ResNet, variables: dict, stage: int, inputs: Array, end: Array, see: See) -> tuple[Array, Any]:
    first, gates = network.arch.entry_blocks[stage] + 1, network.intact_gates()

    def step(g, given):
        place, x = given
        _, back = jax.vjp(lambda x: body_block(network, variables, stage, x, first + place, gates), x)
        (g,) = back(g)
        return g, see(x, g, end)

    return lax.scan(step, end, (jnp.arange(len(inputs)), inputs), reverse=True)


def _back_entry(network: ResNet, variables: dict, stage: int, x: Array, g: Array) -> Array:
    _, back = jax.vjp(lambda x: entry_block(network, variables, stage, x, network.intact_gates()), x)
    return back(g)[0]


def last_output(network: ResNet, variables: dict, inputs: list[dict]) -> Array:
    """What the head is given, from what `block_inputs` keeps."""
    arch, gates = network.arch, network.intact_gates()
    stage, last = arch.stages - 1, inputs[-1]
    if 'body' in last:
        return body_block(network, variables, stage, last['body'][-1], arch.blocks - 1, gates)
    return entry_block(network, variables, stage, last['entry'], gates)


def apply_head(network: ResNet, variables: dict, x: Float[Array, 'n h w c']) -> Float[Array, 'n classes']:
    """The logits of the last block's output."""
    last: Any = head(network.arch)
    return last.apply(part(variables, 'head'), x, train=False)


def last_gradient(network: ResNet, variables: dict, x: Float[Array, 'n h w c'], labels: Int[Array, ' n']) -> Array:
    """∂loss/∂x of the last block's output x, for each example by its own loss."""

    def loss(x: Array) -> Array:
        return -jnp.sum(log_probability(apply_head(network, variables, x), labels))

    return jax.grad(loss)(x)


def inner(a: Float[Array, 'n *axes'], b: Float[Array, 'n *axes']) -> Float[Array, ' n']:
    """⟨a, b⟩ of each example."""
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)))


def norms(a: Float[Array, 'n *axes']) -> Float[Array, ' n']:
    """‖a‖ of each example."""
    return jnp.sqrt(inner(a, a))
