"""The same networks in PyTorch, written as its users would: the peer to be measured against, and held to in tests."""

import sys

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from resnet_jax.models.architecture import Architecture


class Block(nn.Module):
    """Basic and full pre-activation block with shortcut A (stride, zeros split)."""

    def __init__(self, preact: bool, inputs: int, features: int, strides: int, activated: bool, shortcut: bool):
        super().__init__()
        self.preact, self.strides, self.pad, self.shortcut = preact, strides, features - inputs, shortcut
        self.conv1 = nn.Conv2d(inputs, features, 3, strides, 1, bias=False)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn1 = nn.Identity() if activated else nn.BatchNorm2d(inputs if preact else features)
        self.act1 = nn.Identity() if activated else nn.ReLU()
        self.bn2 = nn.BatchNorm2d(features)

    def beside(self, x):
        """What the shortcut gives."""
        if self.strides == 1:
            return x
        half = self.pad // 2
        return functional.pad(x[:, :, :: self.strides, :: self.strides], (0, 0, 0, 0, half, self.pad - half))

    def forward(self, x):
        beside = self.beside(x)
        if not self.preact:
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            return functional.relu(y + beside if self.shortcut else y)
        y = self.conv2(functional.relu(self.bn2(self.conv1(self.act1(self.bn1(x))))))
        return y + beside if self.shortcut else y


class ResNet(nn.Module):
    def __init__(self, arch: Architecture):
        super().__init__()
        width, channels = arch.stem_width, arch.image_shape[-1]
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        blocks, inputs = [], width
        for stage, (count, features) in enumerate(zip(arch.stage_blocks, arch.widths, strict=True)):
            for position in range(count):
                strides = 2 if stage and position == 0 else 1
                activated = arch.preactivated and not blocks
                blocks.append(Block(arch.preactivated, inputs, features, strides, activated, arch.shortcut != 'none'))
                inputs = features
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(inputs) if arch.preactivated else None
        self.dense = nn.Linear(inputs, arch.classes)

    def forward(self, x):
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        if self.bn is not None:
            x = functional.relu(self.bn(x))
        return self.dense(x.mean((2, 3)))


def take_variables(model: ResNet, arch: Architecture, variables: dict) -> None:
    """Copies our variables into the peer, unstacking the bodies."""
    params, stats = variables['params'], variables['batch_stats']

    def conv(layer, tree):
        _copy(layer.weight, np.transpose(tree['kernel'], (3, 2, 0, 1)))

    def norm(layer, tree, running):
        _copy(layer.weight, tree['scale'])
        _copy(layer.bias, tree['bias'])
        _copy(layer.running_mean, running['mean'])
        _copy(layer.running_var, running['var'])

    conv(model.conv1, params['stem']['conv1'])
    norm(model.bn1, params['stem']['bn1'], stats['stem']['bn1'])
    peers = iter(model.blocks)
    for stage, count in enumerate(arch.stage_blocks, start=1):
        for position in range(count):
            peer = next(peers)
            tree, running = (_block(kind[f'stage{stage}'], position) for kind in (params, stats))
            for name, layer in tree.items():
                if name.startswith('conv'):
                    conv(getattr(peer, name), layer)
                else:
                    norm(getattr(peer, name), layer, running[name])
    if model.bn is not None:
        norm(model.bn, params['head']['bn'], stats['head']['bn'])
    _copy(model.dense.weight, np.transpose(params['head']['dense']['kernel']))
    _copy(model.dense.bias, params['head']['dense']['bias'])


def _block(stage: dict, position: int) -> dict:
    if position == 0:
        return stage['entry']
    return {name: {leaf: value[position - 1] for leaf, value in layer.items()} for name, layer in stage['body'].items()}


def _copy(target: torch.Tensor, source) -> None:
    with torch.no_grad():
        target.copy_(torch.tensor(np.asarray(source)))


def torchvision():
    """torchvision, also beside a PyTorch of the CPU alone, for which its own operators are not built."""
    try:
        import torchvision as found  # pyright: ignore[reportMissingImports]
    except RuntimeError:
        for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
            del sys.modules[name]
        for operator in ('nms', 'qnms'):
            _OPERATORS.define(f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        import torchvision as found  # pyright: ignore[reportMissingImports]
    return found


_OPERATORS = torch.library.Library('torchvision', 'FRAGMENT')  # what it defines lives as long as it does
