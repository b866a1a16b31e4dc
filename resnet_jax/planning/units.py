"""What the backward pass needs of the forward pass, and what both move through memory, from a network's plan. No JAX.

A convolution or dense layer keeps its input, for the gradient of its kernel; so do batch normalisation and max pooling.
ReLU keeps one byte a number, of its sign. What several of them keep is kept once. It is what `jax.vjp` of the models
keeps on accelerators, on a batch, but for what does not grow with it (parameters, BN's statistics). On the CPU tiny
maps and grouped convolutions are computed otherwise and keep more, and bodies that are one loop keep less.
"""

from dataclasses import replace
from functools import cache, singledispatch

from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.blocks import BlockPlan, block
from resnet_jax.models.counts import Signal
from resnet_jax.models.heads import head
from resnet_jax.models.parts import (
    Act,
    Concat,
    Conv,
    Dense,
    Dropout,
    GlobalPool,
    HalfResolution,
    LinearProjection,
    Norm,
    Part,
    Parts,
    Pool,
    Scalar,
    SqueezeExcite,
    Subsample,
)  # fmt: skip
from resnet_jax.models.stems import stem
from resnet_jax.planning.tape import Tape, Unit, Value


def through(parts: Parts, value: Value, tape: Tape) -> Value:
    for part in parts:
        value = _pass(part, value, tape)
    return value


@singledispatch
def _pass(part: Part, value: Value, tape: Tape) -> Value:
    """What has no case of its own is linear and fused with what stands beside it: it keeps and moves nothing."""
    return tape.behind(part, value)


@_pass.register(Conv)
@_pass.register(Dense)
def _(part: Conv | Dense, value: Value, tape: Tape) -> Value:
    after = tape.behind(part, value)
    tape.keep(value)
    # Backward: the gradient of the input reads that of the output, the kernel's that and the input.
    tape.move(value.size + after.size, 2 * value.size + 2 * after.size)
    return after


@_pass.register
def _(part: Norm, value: Value, tape: Tape) -> Value:
    """Statistics in one pass, the result in another; backward likewise two sums, then the gradient."""
    if tape.arch.norm == 'group':  # its gradient is derived: it keeps numbers centred, twice these, and normal ones
        tape.keep(*(tape.value(value.signal) for _ in range(3)))
    else:
        tape.keep(value)
    tape.move(3 * value.size, 5 * value.size)
    return tape.behind(part, value)


@_pass.register
def _(part: Act, value: Value, tape: Tape) -> Value:
    tape.keep_mask(value)
    return tape.behind(part, value)


@_pass.register
def _(part: Dropout, value: Value, tape: Tape) -> Value:
    tape.keep_mask(value)
    return tape.behind(part, value)


@_pass.register
def _(part: Pool, value: Value, tape: Tape) -> Value:
    after = tape.behind(part, value)
    tape.keep(value)
    tape.move(value.size + after.size, 2 * value.size + after.size)
    return after


@_pass.register
def _(part: Subsample, value: Value, tape: Tape) -> Value:
    return value if part.strides == 1 else tape.behind(part, value)


@_pass.register
def _(part: GlobalPool, value: Value, tape: Tape) -> Value:
    if part.kind in ('max', 'both'):
        tape.keep(value)
    tape.move(value.size, value.size)
    return tape.behind(part, value)


@_pass.register
def _(part: Scalar, value: Value, tape: Tape) -> Value:
    if part.role == 'gain':
        tape.keep(value)
    return tape.behind(part, value)


@_pass.register
def _(part: SqueezeExcite, value: Value, tape: Tape) -> Value:
    """The mean, two dense layers with ReLU between, σ, and the product."""
    channels = tape.value(replace(value.signal, height=1, width=1))
    narrow = tape.value(replace(channels.signal, channels=part.reduced))
    tape.keep(value, channels, narrow, *(tape.value(channels.signal) for _ in range(2)))
    tape.keep_mask(narrow)
    tape.move(3 * value.size, 5 * value.size)
    return tape.behind(part, value)


@_pass.register
def _(part: Concat, value: Value, tape: Tape) -> Value:
    ends = [through(branch, value, tape) for branch in part.branches]
    joined = tape.value(counts.beside([end.signal for end in ends], sum(end.signal.channels for end in ends)))
    tape.move(2 * joined.size, 2 * joined.size)
    return joined


@_pass.register
def _(part: HalfResolution, value: Value, tape: Tape) -> Value:
    through(part.inner, tape.value(value.signal.strided(2, 2)), tape)
    return tape.behind(part, value)


@_pass.register
def _(part: LinearProjection, value: Value, tape: Tape) -> Value:
    one = through(part.first, value, tape)
    order = ((part.dense,), part.second) if part.between else (part.second, (part.dense,))
    two = through(order[0], one, tape)
    last = through(order[1], two, tape)
    if part.join == 'product':
        tape.keep(one, two, last, tape.value(one.signal))
    return tape.behind(part, value)


def _block(plan: BlockPlan, value: Value, tape: Tape) -> Value:
    split = through(plan.before, value, tape)
    residual = through(plan.residual, split, tape)
    if plan.shortcut is not None:
        shortcut = through(plan.shortcut, split, tape)
        # Forward the sum reads what passes beside; backward two gradients meet at the split.
        tape.move(residual.size, 3 * split.size)
        if plan.gate is not None:
            opened = through((plan.gate,), split, tape)
            closed = tape.value(opened.signal)
            tape.keep(shortcut, opened, closed, *((residual, tape.value(opened.signal)) if plan.exclusive else ()))
    joined = tape.value(residual.signal)
    if plan.join is not None:
        both = tape.value(replace(residual.signal, channels=2 * residual.signal.channels))
        joined = through(plan.join, both, tape)
    return through(plan.after, joined, tape)


@cache
def units(arch: Architecture, itemsize: int) -> tuple[Unit, ...]:
    """Stem, every block and head, in network order, for one example.

    Args:
      itemsize: bytes of a number that is computed with.
    """
    height, width, channels = arch.image_shape
    tape = Tape(arch, itemsize)
    value = tape.value(Signal(height, width, channels))
    tape.enter('stem', value)
    value = through(stem(arch), value, tape)
    for stage, blocks in enumerate(arch.stage_blocks):
        for position in range(blocks):
            tape.enter(f'stage{stage + 1}', value)
            value = _block(block(arch, stage, entry=position == 0), value, tape)
    tape.enter('head', value)
    through(head(arch), value, tape)
    return tuple(tape.units)
