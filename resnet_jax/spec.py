"""What a config means, worked out without JAX: the architecture, its validity, a run's identity."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.models import validity
from resnet_jax.models.architecture import Architecture

# dataset -> (height, width, channels), classes, training examples
DATASETS = {
    'digits': ((8, 8, 1), 10, 1438),
    'cifar10': ((32, 32, 3), 10, 50_000),
    'cifar100': ((32, 32, 3), 100, 50_000),
    'imagenet2012': ((224, 224, 3), 1000, 1_281_167),
}

CHOICES = {
    'data.dataset': tuple(DATASETS),
    'data.normalize': ('pixel_mean', 'channel', 'imagenet'),
    'train.schedule.name': ('steps', 'cosine'),
    'train.schedule.warmup': ('none', 'constant', 'linear'),
}

# What lists of whole numbers hold at the least.
LISTS = {
    'network.stage_blocks': 1, 'network.widths': 1, 'network.stem_strides': 1, 'network.head_widths': 1,
    'train.schedule.boundaries': 0, 'run.snapshots': 0,
}  # fmt: skip


def architecture(config: ConfigDict) -> Architecture:
    """The architecture that a validated config describes."""
    image_shape, classes, _ = DATASETS[config.data.dataset]
    network = config.network.items()
    settings: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in network}
    return Architecture(**settings, image_shape=image_shape, classes=classes)


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
    for key, least in LISTS.items():
        _check(all(type(each) is int and each >= least for each in flat[key]), key, flat[key],
               f'hold whole numbers of at least {least}')  # fmt: skip
    ratios = flat['network.mid_ratios']
    _check(all(type(each) in (int, float) and 0 < each < math.inf for each in ratios), 'network.mid_ratios', ratios,
           'hold positive numbers')  # fmt: skip
    validity.check(architecture(config))
    for key in ('train.schedule.learning_rate', 'train.schedule.factor'):
        _check(math.isfinite(flat[key]) and flat[key] > 0, key, flat[key], 'be a positive finite number')
    for key in ('train.weight_decay', 'train.schedule.warmup_rate'):
        _check(math.isfinite(flat[key]) and flat[key] >= 0, key, flat[key], 'be a finite number of at least 0')
    _check(0 <= flat['train.momentum'] < 1, 'train.momentum', flat['train.momentum'], 'be at least 0 and below 1')
    for key in ('train.batch_size', 'train.schedule.steps', 'run.steps', 'run.log_every', 'run.save_every',
                'run.eval_batch', 'run.keep', 'run.scan_from'):  # fmt: skip
        _check(flat[key] >= 1, key, flat[key], 'be at least 1')
    for key in ('seed', 'data.selection', 'data.shift', 'run.eval_every', 'train.schedule.warmup_steps'):
        _check(flat[key] >= 0, key, flat[key], 'be at least 0')
    _check(0 < config.data.crop_fraction <= 1, 'data.crop_fraction', config.data.crop_fraction,
           'be above 0 and at most 1')  # fmt: skip
    channels, classes = DATASETS[config.data.dataset][0][2], DATASETS[config.data.dataset][1]
    _check(config.data.classes == 0 or 2 <= config.data.classes <= classes, 'data.classes', config.data.classes,
           f'be 0 (all classes), or 2 to {classes}')  # fmt: skip
    _check(config.data.normalize != 'imagenet' or channels == 3, 'data.normalize', config.data.normalize,
           f'be another one: {config.data.dataset} has {channels} channel')  # fmt: skip
    # Of a larger seed, JAX would take the last 32 bits alone.
    _check(config.seed < 2**32, 'seed', config.seed, 'be below 2**32')
    boundaries = list(config.train.schedule.boundaries)
    _check(boundaries == sorted(set(boundaries)), 'train.schedule.boundaries', boundaries, 'rise from step to step')
    total = DATASETS[config.data.dataset][2]
    _check(config.data.selection < total, 'data.selection', config.data.selection,
           f'be below the {total} training examples')  # fmt: skip
    examples = total - config.data.selection
    _check(0 <= config.data.examples <= examples, 'data.examples', config.data.examples,
           f'be 0 (all), or at most the {examples} training examples')  # fmt: skip
    examples = config.data.examples or examples
    parts = ('stem', *(f'stage{stage}' for stage in range(1, len(config.network.stage_blocks) + 1)))
    _check(all(part in parts for part in config.train.frozen), 'train.frozen', list(config.train.frozen),
           f'be among {", ".join(parts)}')  # fmt: skip
    active, blocks = config.train.active_blocks, sum(config.network.stage_blocks)
    _check(0 <= active < blocks, 'train.active_blocks', active,
           f'be at least 0 (all blocks) and below the {blocks} blocks of the network')  # fmt: skip
    _check(not active or config.network.shortcut != 'none', 'train.active_blocks', active,
           'be 0 in a network without shortcuts: where a block is deleted nothing would pass')  # fmt: skip
    group = config.network.norm_examples
    _check(group == 0 or config.train.batch_size % group == 0, 'network.norm_examples', group,
           f'divide the batch of {config.train.batch_size}')  # fmt: skip
    _check(config.train.batch_size <= examples, 'train.batch_size', config.train.batch_size,
           f'be at most the {examples} training examples')  # fmt: skip


def _check(holds: bool, key: str, value: object, rule: str) -> None:
    if not holds:
        raise UserError(f'config.{key} is {value!r}; it must {rule}')
