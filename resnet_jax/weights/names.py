"""Which tensor of torchvision's and timm's state dicts is which of our leaves: the one source for import and export.

The networks' plans are walked (`counts.layers`), and each layer's name is translated. Seen as (h, w, in, out), every
kernel of ours is torch's (out, in, h, w), be it a convolution's or a dense layer's; vectors are the same in both.
"""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cache, reduce
from math import isqrt
from operator import getitem
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from resnet_jax import config as configuration
from resnet_jax import spec, validity
from resnet_jax.errors import UserError
from resnet_jax.models import counts, zoo
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.blocks import block as block_plan
from resnet_jax.models.heads import head as head_plan
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.stems import stem as stem_plan

# The named networks that torchvision or timm has, or whose names theirs are (the others' classes make them so:
# resnet200 of torchvision's ResNet, preact_resnet200 of timm's ResNetV2).
REFERENCES = tuple(name for name in zoo.FIXED if not name.startswith('plain'))

LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'gain': 'gain',
          'mean': 'running_mean', 'var': 'running_var'}  # fmt: skip


class Tensor(NamedTuple):
    """A tensor of a state dict and the leaf that it is.

    Attributes:
      name, shape: in torch.
      path: of our leaf in the variables.
      block: its index on the leaf's leading axis, where the leaf is that of a stage's body.
      view: its shape with us, a kernel's as (h, w, in, out).
    """

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    block: int | None
    view: tuple[int, ...]


class Names(NamedTuple):
    """What a library calls our layers.

    Attributes:
      block: form of the name of a block's layer: of the `stage` and `block` (from 0), the `layer`, and the `module` of
        a sequence in which a ReLU stands behind every convolution, and a pool before every stage but the first.
      layers: theirs by ours, where they differ: `stem/conv1` in stem and head, `conv1` in every block.
      linear: the dense layers that are no 1x1 convolutions there.
    """

    block: str
    layers: Mapping[str, str]
    linear: tuple[str, ...] = ('head/dense',)


IMAGENET_STEM = {'stem/conv1': 'conv1', 'stem/bn1': 'bn1'}
DEEP_STEM = {
    'stem/conv1': 'conv1.0', 'stem/bn1': 'conv1.1', 'stem/conv2': 'conv1.3', 'stem/bn2': 'conv1.4',
    'stem/conv3': 'conv1.6', 'stem/bn3': 'bn1',
}  # fmt: skip
PROJECTION = {'conv_proj': 'downsample.0', 'bn_proj': 'downsample.1'}
POOLED_PROJECTION = {'conv_proj': 'downsample.1', 'bn_proj': 'downsample.2'}
SQUEEZE_EXCITE = {'se_reduce': 'se.fc1', 'se_expand': 'se.fc2', 'head/dense': 'fc'}
# The first activation stands in the first block there, and at the end of the stem with us.
PREACT = Names('stages.{stage}.blocks.{block}.{layer}', {
    'stem/conv1': 'stem.conv', 'stem/bn1': 'stages.0.blocks.0.norm1', 'bn1': 'norm1', 'bn2': 'norm2', 'bn3': 'norm3',
    'conv_proj': 'downsample.conv', 'head/bn': 'norm', 'head/dense': 'head.fc',
}, linear=())  # fmt: skip
NF = Names('stages.{stage}.{block}.{layer}', {
    'stem/conv1': 'stem.conv', 'conv_proj': 'downsample.conv', 'head/dense': 'head.fc',
})  # fmt: skip
VGG = Names('features.{module}', {
    'stem/conv1': 'features.0', 'head/dense1': 'classifier.0', 'head/dense2': 'classifier.3',
    'head/dense': 'classifier.6',
}, linear=('head/dense1', 'head/dense2', 'head/dense'))  # fmt: skip
TIMM_VGG = Names('features.{module}', {
    'stem/conv1': 'features.0', 'head/dense1': 'pre_logits.fc1', 'head/dense2': 'pre_logits.fc2',
    'head/dense': 'head.fc',
})  # fmt: skip


def libraries(arch: Architecture) -> dict[str, Names]:
    """By library the names of a network that one of REFERENCES stands for; where both have it, torchvision first."""
    if arch.plain:
        return {'torchvision': VGG, 'timm': TIMM_VGG}
    if arch.preactivated:
        return {'timm': NF if arch.gain == 'nf' else PREACT}
    deep, pooled = arch.stem == 'three', arch.subsample == 'average'
    names = Names('layer{number}.{block}.{layer}', {
        **(DEEP_STEM if deep else IMAGENET_STEM), **(POOLED_PROJECTION if pooled else PROJECTION), **SQUEEZE_EXCITE,
    })  # fmt: skip
    only_timm = deep or pooled or arch.squeeze_excite
    return {'timm': names} if only_timm else {'torchvision': names, 'timm': names}


def tensors(arch: Architecture, names: Names) -> list[Tensor]:
    """Every tensor of the network's state dict, but for BN's `num_batches_tracked`, in network order."""
    found = []
    for layer in counts.layers(arch):
        where, block, theirs = _place(arch, layer.name, names)
        for kind, tree in shapes(arch).items():
            for part in where:
                tree = tree.get(part, {})
            for leaf, value in tree.items():
                view = _view(arch, layer.name, value.shape if block is None else value.shape[1:])
                shape = _shape(leaf, view, linear=layer.name in names.linear)
                found.append(Tensor(f'{theirs}.{LEAVES[leaf]}', shape, (kind, *where, leaf), block, view))
    return found


@cache
def shapes(arch: Architecture) -> dict:
    """The shapes and dtypes of a network's variables."""
    return jax.eval_shape(ResNet(arch).init_variables, jax.random.key(0))


def take(tensor: Tensor, variables: dict) -> np.ndarray:
    """The tensor out of our variables, laid out as torch has it."""
    leaf = reduce(getitem, tensor.path, variables)
    own = np.asarray(leaf if tensor.block is None else leaf[tensor.block]).reshape(tensor.view)
    return np.ascontiguousarray(own.transpose(3, 2, 0, 1) if own.ndim == 4 else own).reshape(tensor.shape)


def put(tensor: Tensor, value: np.ndarray, variables: dict) -> None:
    """The inverse of `take`: writes torch's value into its place in our variables."""
    if len(tensor.view) == 4:
        h, w, inputs, outputs = tensor.view
        value = value.reshape(outputs, inputs, h, w).transpose(2, 3, 1, 0)
    leaf = reduce(getitem, tensor.path, variables)
    where = ... if tensor.block is None else tensor.block
    leaf[where] = value.reshape(leaf[where].shape)


def reference(config: ConfigDict) -> str:
    """The name of REFERENCES that computes what a run's network does in evaluation, of whatever images and classes.

    Raises:
      UserError: none does.
    """
    ours = _evaluated(spec.architecture(config))
    for name in REFERENCES:
        if ours == _evaluated(spec.architecture(settings(name))):
            return name
    raise no_counterpart(f'a network like this ({configuration.title(config.network)})')


def difference(name: str) -> str:
    """What is to be said where a reference's names are the libraries', but not what it computes; else empty."""
    if not name.endswith('_v1'):
        return ''
    return (
        f'{name} strides in the first 1x1 of a block; torchvision and timm, where {name.removesuffix("_v1")} has these '
        'names, in the 3x3: there the same weights compute something else'
    )


def settings(name: str) -> ConfigDict:
    """The config of a reference on ImageNet, for which its weights were made."""
    if name not in REFERENCES:
        zoo.settings(name)  # says what is near, where nothing is called that
        raise no_counterpart(name)
    config = configuration.load('configs/default.py')
    config.network.update(zoo.settings(name))
    config.data.update(dataset='imagenet2012', normalize='imagenet', crop_fraction=0.875)
    validity.check(config)
    return config


def no_counterpart(what: str) -> UserError:
    return UserError(f'neither torchvision nor timm has {what}; they have {", ".join(REFERENCES)}')


def _evaluated(arch: Architecture) -> Hashable:
    """By what two networks differ in evaluation: their plans, but for what acts in training or at its start alone."""
    gain = 'none' if arch.gain == 'zero_gamma' else arch.gain
    arch = replace(arch, dropout=0.0, head_dropout=0.0, gain=gain, classes=0)
    blocks = tuple(block_plan(arch, stage, entry=entry) for stage in range(arch.stages) for entry in (True, False))
    return (
        stem_plan(arch), arch.stage_blocks, blocks, head_plan(arch),
        arch.norm, arch.norm_epsilon, arch.conv, arch.share,
    )  # fmt: skip


def _place(arch: Architecture, name: str, names: Names) -> tuple[tuple[str, ...], int | None, str]:
    """Where a layer of `counts.layers` lies in the variables, at which index, and what it is called in torch."""
    if not name.startswith('stage'):
        return tuple(name.split('/')), None, names.layers[name]
    part, counted, layer = name.split('/')
    stage, block = int(part.removeprefix('stage')) - 1, int(counted.removeprefix('block')) - 1
    theirs = names.block.format(
        stage=stage, number=stage + 1, block=block, layer=names.layers.get(layer, layer),
        module=2 * (arch.entry_blocks[stage] + block + 1) + stage,
    )  # fmt: skip
    return (part, 'body' if block else 'entry', layer), block - 1 if block else None, theirs


def _view(arch: Architecture, layer: str, own: tuple[int, ...]) -> tuple[int, ...]:
    """A dense layer's kernel as that of a convolution over all that it sees: one pixel, or the map that was flattened
    before it (by height, width, channel; torch flattens by channel, height, width)."""
    if len(own) != 2:
        return own
    inputs, outputs = own
    channels = arch.widths[-1] if arch.pool == 'flatten' and layer == 'head/dense1' else inputs
    side = isqrt(inputs // channels)
    return side, side, channels, outputs


def _shape(leaf: str, view: tuple[int, ...], *, linear: bool) -> tuple[int, ...]:
    if leaf == 'gain':
        return (*view, 1, 1, 1)
    if leaf != 'kernel':
        return view
    h, w, inputs, outputs = view
    return (outputs, inputs * h * w) if linear else (outputs, inputs, h, w)
