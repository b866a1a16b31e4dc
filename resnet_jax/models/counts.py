"""What a network costs, counted from its plan: parameters, multiply-adds, activations, receptive field. No JAX."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch

from resnet_jax.models.architecture import Architecture
from resnet_jax.models.blocks import BlockPlan, block
from resnet_jax.models.heads import head
from resnet_jax.models.parts import (
    Concat,
    Conv,
    Dense,
    GlobalPool,
    HalfResolution,
    LinearProjection,
    Norm,
    Pad,
    Part,
    Parts,
    Pool,
    Scalar,
    SqueezeExcite,
    Subsample,
)  # fmt: skip
from resnet_jax.models.stems import stem


@dataclass(frozen=True)
class Signal:
    """What passes between two layers: its size, and of its pixels the receptive field and the distance in input pixels.

    `layers`: convolutions and dense layers on the longest path so far.
    """

    height: int
    width: int
    channels: int
    field: int = 1
    jump: int = 1
    layers: int = 0

    def strided(self, size: int, strides: int) -> 'Signal':
        """Seen through fields of `size` pixels, every `strides`-th."""
        return replace(
            self, height=-(-self.height // strides), width=-(-self.width // strides),
            field=self.field + (size - 1) * self.jump, jump=self.jump * strides,
        )  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A layer's cost for one image. Multiply-adds as papers count FLOPs: normalisation, ReLU, additions left out.

    `leaves`: shapes of its arrays of parameters. `activations`: numbers that a convolution or dense layer gives
    (Radosavovic et al. 2020, arXiv 2003.13678).
    """

    name: str
    leaves: tuple[tuple[int, ...], ...]
    multiply_adds: int
    activations: int
    signal: Signal

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.leaves)


class Walk:
    """Goes through parts as the signal does, and keeps a row for every layer with parameters."""

    def __init__(self, arch: Architecture, signal: Signal):
        self.arch, self.signal, self.rows = arch, signal, []

    def through(self, parts: Parts, path: str, signal: Signal) -> Signal:
        for part in parts:
            signal = _pass(part, signal, self, path)
        return signal

    def row(self, path: str, name: str, leaves: tuple[tuple[int, ...], ...], per_pixel: int, after: Signal) -> None:
        """`per_pixel`: multiply-adds at each pixel of the result; 0 for what is no convolution and no dense layer."""
        pixels = after.height * after.width
        activations = pixels * after.channels if per_pixel else 0
        self.rows.append(Layer(f'{path}/{name}', leaves, per_pixel * pixels, activations, after))


@singledispatch
def _pass(part: Part, signal: Signal, walk: Walk, path: str) -> Signal:
    """The signal behind a part; what has no case of its own has no parameters and changes no shape."""
    return signal


@_pass.register
def _(part: Conv, signal: Signal, walk: Walk, path: str) -> Signal:
    (height, width), after = part.size, signal.strided(max(part.size), part.strides)
    after = replace(after, channels=part.features, layers=signal.layers + 1)
    kernel = (height, width, signal.channels // part.groups, part.features)
    gain = ((part.features,),) if walk.arch.conv == 'scaled_standardized' else ()
    bias = ((part.features,),) if part.bias is not None else ()
    walk.row(path, part.name, (kernel, *gain, *bias), math.prod(kernel), after)
    return after


@_pass.register
def _(part: Dense, signal: Signal, walk: Walk, path: str) -> Signal:
    after = replace(signal, channels=part.features, layers=signal.layers + 1)
    walk.row(path, part.name, *_dense(signal.channels, part.features), after)
    return after


@_pass.register
def _(part: Norm, signal: Signal, walk: Walk, path: str) -> Signal:
    walk.row(path, part.name, ((signal.channels,),) * 2, 0, signal)
    return signal


@_pass.register
def _(part: Scalar, signal: Signal, walk: Walk, path: str) -> Signal:
    walk.row(path, part.name, ((),), 0, signal)
    return signal


@_pass.register
def _(part: Pool, signal: Signal, walk: Walk, path: str) -> Signal:
    after = signal.strided(part.size, part.strides)
    pad = (part.size - 1) // 2  # without padding an odd edge is left out
    sides = ((side + 2 * pad - part.size) // part.strides + 1 for side in (signal.height, signal.width))
    return replace(after, height=next(sides), width=next(sides))


@_pass.register
def _(part: Subsample, signal: Signal, walk: Walk, path: str) -> Signal:
    return signal.strided(part.strides if part.how == 'average' else 1, part.strides)


@_pass.register
def _(part: Pad, signal: Signal, walk: Walk, path: str) -> Signal:
    return replace(signal, channels=part.features)


@_pass.register
def _(part: GlobalPool, signal: Signal, walk: Walk, path: str) -> Signal:
    pixels = signal.height * signal.width
    factor = {'flatten': pixels, 'both': 2}.get(part.kind, 1)
    return replace(signal, height=1, width=1, channels=signal.channels * factor)


@_pass.register
def _(part: SqueezeExcite, signal: Signal, walk: Walk, path: str) -> Signal:
    narrow = replace(signal, height=1, width=1, channels=part.reduced)
    walk.row(path, f'{part.name}_reduce', *_dense(signal.channels, part.reduced), narrow)
    wide = replace(narrow, channels=signal.channels)
    walk.row(path, f'{part.name}_expand', *_dense(part.reduced, signal.channels), wide)
    return signal


def _dense(inputs: int, features: int) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Kernel and bias, and the multiply-adds."""
    return ((inputs, features), (features,)), inputs * features


@_pass.register
def _(part: Concat, signal: Signal, walk: Walk, path: str) -> Signal:
    ends = [walk.through(branch, path, signal) for branch in part.branches]
    return beside(ends, sum(end.channels for end in ends))


@_pass.register
def _(part: HalfResolution, signal: Signal, walk: Walk, path: str) -> Signal:
    end = walk.through(part.inner, path, signal.strided(2, 2))
    full = signal.strided(1, part.strides)
    return replace(full, channels=end.channels, field=end.field, layers=end.layers)


@_pass.register
def _(part: LinearProjection, signal: Signal, walk: Walk, path: str) -> Signal:
    one = walk.through(part.first, path, signal)
    order = ((part.dense,), part.second) if part.between else (part.second, (part.dense,))
    last = walk.through(order[1], path, walk.through(order[0], path, one))
    return last if part.join == 'product' else beside([last, one], last.channels + one.channels)


def beside(ends: list[Signal], channels: int) -> Signal:
    """Signals of one size, joined: the widest field and the longest path count."""
    return replace(
        ends[0], channels=channels, field=max(end.field for end in ends), layers=max(end.layers for end in ends)
    )


def _through_block(plan: BlockPlan, signal: Signal, walk: Walk, path: str) -> Signal:
    split = walk.through(plan.before, path, signal)
    ends = [walk.through(plan.residual, path, split)]
    if plan.shortcut is not None:
        passed = walk.through(plan.shortcut, path, split)
        ends.append(replace(passed, layers=0))  # the depth of a network is that of its branches
    if plan.gate is not None:
        walk.through((plan.gate,), path, split)
    joined = beside(ends, ends[0].channels)
    if plan.join is not None:
        joined = walk.through(plan.join, path, replace(joined, channels=2 * joined.channels))
    return walk.through(plan.after, path, joined)


def walk(arch: Architecture) -> tuple[list[Layer], Signal]:
    """Every layer with parameters in network order, by its path (blocks numbered from 1), and the signal of the logits.

    What the blocks of a stage's body share is counted where it first stands.
    """
    height, width, channels = arch.image_shape
    walked = Walk(arch, Signal(height, width, channels))
    signal = walked.through(stem(arch), 'stem', walked.signal)
    for stage, blocks in enumerate(arch.stage_blocks):
        for position in range(blocks):
            plan, first = block(arch, stage, entry=position == 0), len(walked.rows)
            signal = _through_block(plan, signal, walked, f'stage{stage + 1}/block{position + 1}')
            if position > 1:
                walked.rows[first:] = [_shared(arch, layer) for layer in walked.rows[first:]]
    signal = walked.through(head(arch), 'head', signal)
    return walked.rows, signal


def _shared(arch: Architecture, layer: Layer) -> Layer:
    """A layer of a body's later block: what it shares with the first it does not have once more."""
    own = {'none': True, 'kernels': not layer.multiply_adds}.get(arch.share, False)
    return layer if own else replace(layer, leaves=())


def layers(arch: Architecture) -> Iterator[Layer]:
    yield from walk(arch)[0]


def parameters(arch: Architecture) -> int:
    return sum(layer.parameters for layer in layers(arch))


def multiply_adds(arch: Architecture) -> int:
    """For one image, forwards."""
    return sum(layer.multiply_adds for layer in layers(arch))


def depth(arch: Architecture) -> int:
    """Layers with weights on the longest path."""
    return walk(arch)[1].layers
