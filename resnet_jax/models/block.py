"""A residual block: two branches, two gates, by its plan."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from resnet_jax.models.blocks import BlockPlan, Position
from resnet_jax.models.gates import Gates, gate, join
from resnet_jax.models.layers import Context, Layers, compute, run


class Block(nn.Module):
    """y = after(s · shortcut(before(x)) + r · residual(before(x))), with the gates s and r."""

    plan: BlockPlan
    layers: Layers

    @nn.compact
    def __call__(
        self,
        x: Float[Array, 'n h w c'],
        gates: Gates | None,
        position: Position,
        draws: Array | None = None,
        *,
        train: bool,
    ) -> Float[Array, 'n h2 w2 features']:
        plan, context = self.plan, Context(self.layers, train, position, draws)
        record_input(self, x)
        x = run(plan.before, x, context)
        residual = run(plan.residual, x, context)
        shortcut: Any = None  # a plan with a gate or a join has one
        if plan.shortcut is not None:
            shortcut = run(plan.shortcut, x, context)
        elif plan.passes and gates is not None:
            # Without gates nothing passes. With them the signal could: the intact gate is 0.
            shortcut = x
        if plan.gate is not None:
            g = nn.sigmoid(compute(plan.gate, x, context))
            residual, shortcut = residual * g if plan.exclusive else residual, shortcut * (1 - g)
        if plan.join is None:
            y = join(shortcut, residual, gates)
        else:
            y = run(plan.join, beside(shortcut, residual, gates), context)
        return run(plan.after, y, context)


def beside(shortcut: Array, residual: Array, gates: Gates | None) -> Array:
    """[s · shortcut, r · residual] on the channels."""
    if gates is not None:
        shortcut = gate(shortcut, gates.shortcut, gates.shortcut_grad)
        residual = gate(residual, gates.residual, gates.residual_grad)
    return jnp.concatenate([shortcut, residual], axis=-1)


def record_input(block: nn.Module, x: Array) -> None:
    """Keeps a block's input under `intermediates/…/input` when that collection is asked for; else costs nothing."""
    block.sow('intermediates', 'input', x, reduce_fn=lambda _, new: new, init_fn=lambda: x)
