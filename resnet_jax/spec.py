"""What a config means, worked out without JAX: the architecture, its counts, its validity, a run's identity."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.errors import UserError

# dataset -> (height, width, channels), classes, training examples
DATASETS = {
    'digits': ((8, 8, 1), 10, 1438),
    'cifar10': ((32, 32, 3), 10, 50_000),
    'cifar100': ((32, 32, 3), 100, 50_000),
}

CHOICES = {
    'network.block': ('basic', 'preact'),
    'network.shortcut': ('A', 'B', 'C', 'none'),
    'network.subsample': ('stride', 'average'),
    'network.zero_channels': ('split', 'behind'),
    'data.dataset': tuple(DATASETS),
    'data.normalize': ('pixel_mean', 'channel'),
    'train.schedule.name': ('steps', 'cosine'),
    'train.schedule.warmup': ('none', 'constant', 'linear'),
}


@dataclass(frozen=True)
class Architecture:
    """A network, all of it, but for its parameters and how they are run. Fields as in `configs/default.py`."""

    block: str
    stage_blocks: tuple[int, ...]
    widths: tuple[int, ...]
    shortcut: str
    subsample: str
    zero_channels: str
    norm_momentum: float
    norm_epsilon: float
    image_shape: tuple[int, int, int]
    classes: int

    @property
    def blocks(self) -> int:
        return sum(self.stage_blocks)

    @property
    def depth(self) -> int:
        """Layers with weights on the longest path: two a block, the stem, the head."""
        return 2 * self.blocks + 2

    @property
    def entry_blocks(self) -> tuple[int, ...]:
        """Index of the first block of each stage, in network order from 0."""
        return tuple(sum(self.stage_blocks[:stage]) for stage in range(len(self.stage_blocks)))

    @property
    def shortcut_shapes_agree(self) -> tuple[bool, ...]:
        """For every block, in network order: has its output the shape of its input?"""
        changes = self.entry_blocks[1:]  # the first stage starts as wide as the stem leaves it
        return tuple(index not in changes for index in range(self.blocks))


def title(arch: Architecture) -> str:
    """The name of a kind of network, as `preact-110` or `ResNet-20-B`: no two kinds share one."""
    plain = arch.shortcut == 'none'
    kind = 'preact' if arch.block == 'preact' else 'plain' if plain else 'ResNet'
    how = {'A': '', 'none': '' if kind == 'plain' else '-plain'}.get(arch.shortcut, f'-{arch.shortcut}')
    return f'{kind}-{arch.depth}{how}'


def architecture(config: ConfigDict) -> Architecture:
    """The architecture that a validated config describes."""
    network = config.network
    image_shape, classes, _ = DATASETS[config.data.dataset]
    return Architecture(
        block=network.block,
        stage_blocks=((network.depth - 2) // 6,) * len(network.widths),
        widths=tuple(network.widths),
        shortcut=network.shortcut,
        subsample=network.subsample,
        zero_channels=network.zero_channels,
        norm_momentum=network.norm_momentum,
        norm_epsilon=network.norm_epsilon,
        image_shape=image_shape,
        classes=classes,
    )


@dataclass(frozen=True)
class Layer:
    """A layer's cost: `multiply_adds` for one image, as papers count FLOPs (BN, ReLU and additions left out)."""

    name: str
    parameters: int
    multiply_adds: int


def layers(arch: Architecture) -> Iterator[Layer]:
    """Every layer with parameters, in network order, by its path in the variables (blocks numbered from 1)."""
    height, width, channels = arch.image_shape
    pixels = height * width

    def conv(name, size, inputs, outputs):
        weights = size * size * inputs * outputs
        return Layer(name, weights, weights * pixels)

    yield conv('stem/conv1', 3, channels, arch.widths[0])
    yield Layer('stem/bn1', 2 * arch.widths[0], 0)
    inputs, index = arch.widths[0], 0
    for stage, (blocks, outputs) in enumerate(zip(arch.stage_blocks, arch.widths, strict=True), start=1):
        for position in range(blocks):
            changes = stage > 1 and position == 0
            name = f'stage{stage}/block{position + 1}'
            if arch.block == 'preact' and index > 0:
                yield Layer(f'{name}/bn1', 2 * inputs, 0)
            if changes:
                height, width = -(-height // 2), -(-width // 2)
                pixels = height * width
            yield conv(f'{name}/conv1', 3, inputs, outputs)
            if arch.block == 'basic':
                yield Layer(f'{name}/bn1', 2 * outputs, 0)
            yield Layer(f'{name}/bn2', 2 * outputs, 0)
            yield conv(f'{name}/conv2', 3, outputs, outputs)
            if arch.shortcut == 'C' or (arch.shortcut == 'B' and changes):
                yield conv(f'{name}/shortcut/conv_proj', 1, inputs, outputs)
                if arch.block == 'basic':
                    yield Layer(f'{name}/shortcut/bn_proj', 2 * outputs, 0)
            inputs, index = outputs, index + 1
    if arch.block == 'preact':
        yield Layer('head/bn', 2 * inputs, 0)
    yield Layer('head/dense', (inputs + 1) * arch.classes, inputs * arch.classes)


def parameters(arch: Architecture) -> int:
    return sum(layer.parameters for layer in layers(arch))


def multiply_adds(arch: Architecture) -> int:
    """For one image, forwards."""
    return sum(layer.multiply_adds for layer in layers(arch))


def definition(config: ConfigDict | Mapping) -> dict[str, Any]:
    """The settings that define a run, flat (`train.batch_size` -> 128): all but how and where it is carried out."""
    flat = flatten(config)
    return {key: value for key, value in flat.items() if not key.startswith('run.') and key != 'data.data_dir'}


def identity(config: ConfigDict | Mapping) -> str:
    """The hash of a run's definition: equal for two runs exactly where they are the same run."""
    return hashlib.sha256(json.dumps(definition(config), sort_keys=True).encode()).hexdigest()[:16]


def flatten(config: ConfigDict | Mapping, prefix: str = '') -> dict[str, Any]:
    """Nested settings as `{'train.batch_size': 128, …}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            flat |= flatten(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def validate(config: ConfigDict) -> None:
    """Refuses settings that mean nothing, before anything is compiled.

    Raises:
      UserError: one line with the key, its value and what is allowed.
    """
    flat = flatten(config)
    for key, choices in CHOICES.items():
        _check(flat[key] in choices, key, flat[key], f'be one of {", ".join(choices)}')
    for key in ('network.widths', 'train.schedule.boundaries', 'run.snapshots'):
        _check(all(type(each) is int and each >= 0 for each in flat[key]), key, flat[key],
               'hold whole numbers of at least 0')  # fmt: skip
    _validate_network(config)
    for key in ('train.schedule.learning_rate', 'train.schedule.factor'):
        _check(math.isfinite(flat[key]) and flat[key] > 0, key, flat[key], 'be a positive finite number')
    for key in ('train.weight_decay', 'train.schedule.warmup_rate', 'network.norm_epsilon'):
        _check(math.isfinite(flat[key]) and flat[key] >= 0, key, flat[key], 'be a finite number of at least 0')
    for key in ('train.momentum', 'network.norm_momentum'):
        _check(0 <= flat[key] < 1, key, flat[key], 'be at least 0 and below 1')
    for key in ('train.batch_size', 'train.schedule.steps', 'run.steps', 'run.log_every', 'run.save_every',
                'run.eval_batch', 'run.keep', 'run.scan_unroll'):  # fmt: skip
        _check(flat[key] >= 1, key, flat[key], 'be at least 1')
    for key in ('seed', 'data.selection', 'data.shift', 'run.eval_every', 'train.schedule.warmup_steps'):
        _check(flat[key] >= 0, key, flat[key], 'be at least 0')
    # Of a larger seed, JAX would take the last 32 bits alone.
    _check(config.seed < 2**32, 'seed', config.seed, 'be below 2**32')
    boundaries = list(config.train.schedule.boundaries)
    _check(boundaries == sorted(set(boundaries)), 'train.schedule.boundaries', boundaries, 'rise from step to step')
    total = DATASETS[config.data.dataset][2]
    _check(config.data.selection < total, 'data.selection', config.data.selection,
           f'be below the {total} training examples')  # fmt: skip
    examples = total - config.data.selection
    _check(config.train.batch_size <= examples, 'train.batch_size', config.train.batch_size,
           f'be at most the {examples} training examples')  # fmt: skip


def _validate_network(config: ConfigDict) -> None:
    network = config.network
    below = max(8, network.depth - (network.depth - 2) % 6)
    _check(network.depth >= 8 and (network.depth - 2) % 6 == 0, 'network.depth', network.depth,
           f'be 6n+2 with n of at least 1; the nearest are {below} and {below + 6}')  # fmt: skip
    _check(len(network.widths) == 3 and all(width >= 1 for width in network.widths), 'network.widths',
           list(network.widths), 'be three numbers of filters of at least 1')  # fmt: skip
    narrowing = list(network.widths) != sorted(network.widths)
    if network.shortcut == 'A' and narrowing:
        raise UserError(
            f'config.network.widths {list(network.widths)} narrow, and shortcut A can only pad with zero channels; '
            'use shortcut B, or widths that do not fall'
        )


def _check(holds: bool, key: str, value: object, rule: str) -> None:
    if not holds:
        raise UserError(f'config.{key} is {value!r}; it must {rule}')
