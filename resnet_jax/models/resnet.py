"""The residual network: stem, stages, head. `ResNet(arch).apply(variables, images, gates, train=…)` -> logits."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from resnet_jax.models import gates as gating
from resnet_jax.models.blocks import BasicBlock, PreActBlock
from resnet_jax.models.conv import Conv
from resnet_jax.models.gates import Gates
from resnet_jax.models.heads import PoolHead
from resnet_jax.models.norm import BatchNorm
from resnet_jax.models.shortcuts import Shortcut
from resnet_jax.models.stage import Stage
from resnet_jax.models.stems import CifarStem
from resnet_jax.spec import Architecture

BLOCKS = {'basic': BasicBlock, 'preact': PreActBlock}


class ResNet(nn.Module):
    """Any network of `spec.Architecture`. Its parts are also had one by one: `stem`, `block`, `head`.

    Variables: `params` and `batch_stats`, each with `stem`, `stage1`, …, `head`; a stage holds `entry` and, its
    leaves stacked along a leading block axis, `body`.
    """

    arch: Architecture
    scan_unroll: int = 1

    @nn.compact
    def __call__(
        self, images: Float[Array, 'n h w c'], gates: Gates | None = None, *, train: bool
    ) -> Float[Array, 'n classes']:
        if gates is not None and train and gates.residual.ndim == 2:
            raise ValueError(
                'gates of shape (blocks, batch) give every example its own lesion; in training BN would mix them: '
                'use gates of shape (blocks,), or train=False'
            )
        x = stem(self.arch, name='stem')(images, train=train)
        for number, first in enumerate(self.arch.entry_blocks):
            blocks = self.arch.stage_blocks[number]
            stage = Stage(
                entry=block(self.arch, number, entry=True),
                body=block(self.arch, number, entry=False),
                blocks=blocks,
                scan_unroll=self.scan_unroll,
                name=f'stage{number + 1}',
            )
            x = stage(x, gates and gates.of(slice(first, first + blocks)), train=train)
        return head(self.arch, name='head')(x, train=train)

    def init_variables(self, key: UInt32[Array, '2'] | Array, dtype: jax.typing.DTypeLike = jnp.float32) -> dict:
        """Fresh `{'params', 'batch_stats'}`, initialised by He et al. 2015 (arXiv 1502.01852)."""
        images = jnp.zeros((1, *self.arch.image_shape), dtype)
        return jax.jit(partial(self.init, train=True))(key, images)

    def intact_gates(self) -> Gates:
        """Gates that change nothing, of shape (blocks,): ones; in a plain network the shortcut's are 0."""
        shortcut = 0.0 if self.arch.shortcut == 'none' else 1.0
        return gating.intact(jnp.full(self.arch.blocks, shortcut, jnp.float32))


def stem(arch: Architecture, name: str | None = None) -> CifarStem:
    return CifarStem(arch.widths[0], Conv, _norm(arch), nn.relu, name=name)


def block(arch: Architecture, stage: int, *, entry: bool) -> partial:
    """The entry block of a stage (counted from 0), or any block of its body, as a partial that wants a name."""
    made = partial(
        BLOCKS[arch.block],
        features=arch.widths[stage],
        strides=2 if entry and stage > 0 else 1,
        conv=Conv,
        norm=_norm(arch),
        act=nn.relu,
        shortcut=partial(
            Shortcut, kind=arch.shortcut, subsample=arch.subsample, zero_channels=arch.zero_channels, conv=Conv
        ),
    )
    return partial(made, activated=True) if arch.block == 'preact' and entry and stage == 0 else made


def head(arch: Architecture, name: str | None = None) -> PoolHead:
    return PoolHead(arch.classes, _norm(arch) if arch.block == 'preact' else None, nn.relu, name=name)


def _norm(arch: Architecture) -> partial:
    return partial(BatchNorm, momentum=arch.norm_momentum, epsilon=arch.norm_epsilon)
