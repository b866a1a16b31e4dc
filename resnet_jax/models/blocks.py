"""Residual blocks: two branches, two gates. `conv`, `norm` and `act` come as ready partials."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from resnet_jax.models.gates import Gates, join
from resnet_jax.models.shortcuts import projects


class BasicBlock(nn.Module):
    """conv-BN-ReLU-conv-BN, add, ReLU (He et al. 2015, arXiv 1512.03385, figure 2)."""

    features: int
    strides: int
    conv: Callable
    norm: Callable
    act: Callable
    shortcut: Callable

    @nn.compact
    def __call__(
        self, x: Float[Array, 'n h w c'], gates: Gates | None, *, train: bool
    ) -> Float[Array, 'n h2 w2 features']:
        record_input(self, x)
        y = self.conv(self.features, kernel_size=3, strides=self.strides, name='conv1')(x)
        y = self.act(self.norm(name='bn1')(y, train=train))
        y = self.conv(self.features, kernel_size=3, name='conv2')(y)
        y = self.norm(name='bn2')(y, train=train)
        shortcut = self.shortcut(features=self.features, strides=self.strides, norm=self.norm, name='shortcut')
        return self.act(join(shortcut(x, gated=gates is not None, train=train), y, gates))


class PreActBlock(nn.Module):
    """BN-ReLU-conv-BN-ReLU-conv, add: full pre-activation (He et al. 2016, arXiv 1603.05027, figure 4e).

    A projection takes the activated input; an identity takes the input itself. The network's first block
    (`activated`) finds its input activated by the stem, before the split, and starts with its convolution.
    """

    features: int
    strides: int
    conv: Callable
    norm: Callable
    act: Callable
    shortcut: Callable
    activated: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, 'n h w c'], gates: Gates | None, *, train: bool
    ) -> Float[Array, 'n h2 w2 features']:
        record_input(self, x)
        y = active = x if self.activated else self.act(self.norm(name='bn1')(x, train=train))
        y = self.conv(self.features, kernel_size=3, strides=self.strides, name='conv1')(y)
        y = self.act(self.norm(name='bn2')(y, train=train))
        y = self.conv(self.features, kernel_size=3, name='conv2')(y)
        shortcut = self.shortcut(features=self.features, strides=self.strides, norm=None, name='shortcut')
        changes_shape = self.strides != 1 or x.shape[-1] != self.features
        source = active if projects(shortcut.kind, changes_shape=changes_shape) else x
        return join(shortcut(source, gated=gates is not None, train=train), y, gates)


def record_input(block: nn.Module, x: Array) -> None:
    """Keeps a block's input under `intermediates/…/input` when that collection is asked for; else costs nothing."""
    block.sow('intermediates', 'input', x, reduce_fn=lambda _, new: new, init_fn=lambda: x)
