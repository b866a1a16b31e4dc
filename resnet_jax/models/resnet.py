"""The residual network: stem, stages, head. `ResNet(arch).apply(variables, images, gates, train=…)` -> logits."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from resnet_jax.models import gates as gating
from resnet_jax.models import heads, stems
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.block import Block
from resnet_jax.models.blocks import block
from resnet_jax.models.gates import Gates
from resnet_jax.models.layers import Sequence, layers
from resnet_jax.models.stage import Stage


class ResNet(nn.Module):
    """Any network of `Architecture`. Its parts are also had one by one: `stem`, `one_block`, `head`.

    Variables: `params` and `batch_stats`, each with `stem`, `stage1`, …, `head`; a stage holds `entry` and, its
    leaves stacked along a leading block axis, `body`. What a network has none of is `{}`.

    Attributes:
      scan_from: bodies of so many blocks and more train as a scan.
      frozen: parts (`stem`, `stage1`, …) that are as in evaluation also while training.
      remat: what the backward pass of training computes again, from its input, instead of keeping it: `none`, every
        `block`, or every `stage`. Only memory and time depend on it.
    """

    arch: Architecture
    scan_from: int = 1
    frozen: tuple[str, ...] = ()
    remat: str = 'none'

    @nn.compact
    def __call__(
        self, images: Float[Array, 'n h w c'], gates: Gates | None = None, *, train: bool
    ) -> Float[Array, 'n classes']:
        if gates is not None and train and gates.residual.ndim == 2:
            raise ValueError(
                'gates of shape (blocks, batch) give every example its own lesion; in training BN would mix them: '
                'use gates of shape (blocks,), or train=False'
            )
        # Of the whole network, and not of each module: how a body is carried out then changes no draw.
        draws = self.make_rng('dropout') if train and self.arch.draws else None
        x = stem(self.arch, name='stem')(images, train=train and 'stem' not in self.frozen)
        for number, first in enumerate(self.arch.entry_blocks):
            name, blocks = f'stage{number + 1}', self.arch.stage_blocks[number]
            stage = Stage(
                entry=block(self.arch, number, entry=True),
                body=block(self.arch, number, entry=False),
                layers=layers(self.arch),
                first=first,
                blocks=blocks,
                share=self.arch.share,
                scan_from=self.scan_from,
                remat=self.remat == 'block',
                name=name,
            )
            own, training = gates and gates.of(slice(first, first + blocks)), train and name not in self.frozen
            run = partial(_run, train=training)
            x = (nn.remat(run) if self.remat == 'stage' and training else run)(stage, x, own, draws)
        last = draws if draws is None else jax.random.fold_in(draws, self.arch.blocks)
        return head(self.arch, name='head')(x, last, train=train)

    def init_variables(self, key: UInt32[Array, '2'] | Array, dtype: jax.typing.DTypeLike = jnp.float32) -> dict:
        """Fresh `{'params', 'batch_stats'}`, initialised by He et al. 2015 (arXiv 1502.01852)."""
        images = jnp.zeros((1, *self.arch.image_shape), dtype)
        return {'batch_stats': {}, **jax.jit(partial(_init, self))(key, images)}

    def intact_gates(self) -> Gates:
        """Gates that change nothing, of shape (blocks,): ones; in a plain network the shortcut's are 0."""
        shortcut = 0.0 if self.arch.plain else 1.0
        return gating.intact(jnp.full(self.arch.blocks, shortcut, jnp.float32))


def _run(stage: Stage, x: Array, gates: Gates | None, draws: Array | None, *, train: bool) -> Array:
    return stage(x, gates, draws, train=train)


def _init(network: ResNet, key: Array, images: Array) -> dict:
    variables = network.init(key, images, train=True)
    return {kind: variables[kind] for kind in ('params', 'batch_stats') if kind in variables}


def stem(arch: Architecture, name: str | None = None) -> Sequence:
    return Sequence(stems.stem(arch), layers(arch), name=name)


def one_block(arch: Architecture, stage: int, *, entry: bool, name: str | None = None) -> Block:
    """The entry block of a stage (counted from 0), or any block of its body."""
    return Block(block(arch, stage, entry=entry), layers(arch), name=name)


def head(arch: Architecture, name: str | None = None) -> Sequence:
    return Sequence(heads.head(arch), layers(arch), name=name)
