"""The same networks as they are commonly written in Flax: `nn.Conv`, `nn.BatchNorm`, one block after the other."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from resnet_jax.models import heads, stems
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.block import Block
from resnet_jax.models.blocks import Position, block
from resnet_jax.models.layers import Layers, Sequence


class Conv(nn.Module):
    features: int
    kernel_size: tuple[int, int]
    strides: int
    groups: int
    bias: float | None
    init_scale: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        padding = [(size // 2, size // 2) for size in self.kernel_size]
        return nn.Conv(
            self.features, self.kernel_size, self.strides, padding, feature_group_count=self.groups,
            use_bias=self.bias is not None,
        )(x)  # fmt: skip


class Norm(nn.Module):
    start: float

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)


class ResNet(nn.Module):
    """`train_step` takes it in place of ours. Only max pooling, with its gradient, is ours here too."""

    arch: Architecture
    frozen: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, x: Array, gates: None = None, *, train: bool) -> Array:
        layers: Any = Layers(Conv, Norm)
        x = Sequence(stems.stem(self.arch), layers, name='stem')(x, train=train)
        for stage, blocks in enumerate(self.arch.stage_blocks):
            for index in range(blocks):
                plan = block(self.arch, stage, entry=index == 0)
                x = Block(plan, layers)(x, None, Position(0, index), train=train)
        return Sequence(heads.head(self.arch), layers, name='head')(x, train=train)

    def init_variables(self, key: Array) -> dict:
        variables = jax.jit(lambda key, x: self.init(key, x, train=True))(key, jnp.zeros((1, *self.arch.image_shape)))
        return {kind: variables[kind] for kind in ('params', 'batch_stats')}
