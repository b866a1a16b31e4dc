"""The same networks as they are commonly written in Flax: `nn.Conv`, `nn.BatchNorm`, one block after the other."""

from collections.abc import Callable
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


def conv(
    features: int, size: tuple[int, int], strides: int, groups: int, bias: float | None, init: float, *, name: str
) -> nn.Conv:
    padding = [(side // 2, side // 2) for side in size]
    return nn.Conv(
        features, size, strides, padding, feature_group_count=groups, use_bias=bias is not None, name=name
    )  # fmt: skip


def norm(*, start: float, name: str) -> Callable:
    return lambda x, *, train: nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=x.dtype, name=name)(x)


class ResNet(nn.Module):
    """`train_step` takes it in place of ours. Only max pooling, with its gradient, is ours here too."""

    arch: Architecture
    frozen: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, x: Array, gates: None = None, *, train: bool) -> Array:
        layers: Any = Layers(conv, norm)
        x = Sequence(stems.stem(self.arch), layers, name='stem')(x, train=train)
        for stage, blocks in enumerate(self.arch.stage_blocks):
            for index in range(blocks):
                plan = block(self.arch, stage, entry=index == 0)
                x = Block(plan, layers)(x, None, Position(0, index), train=train)
        return Sequence(heads.head(self.arch), layers, name='head')(x, train=train)

    def init_variables(self, key: Array) -> dict:
        variables = jax.jit(lambda key, x: self.init(key, x, train=True))(key, jnp.zeros((1, *self.arch.image_shape)))
        return {kind: variables[kind] for kind in ('params', 'batch_stats')}
