"""Refuses settings that mean nothing, before anything is read or compiled. Imports no JAX."""

import math
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.models import counts
from resnet_jax.models import validity as networks
from resnet_jax.models.architecture import Architecture

CHOICES = {
    'unit': ('step', 'epoch'),
    'data.crop': ('view', 'random_resized', 'random_scale'),
    'data.decode': ('scaled', 'exact'),
    'data.corrupt': ('stop', 'skip'),
    'data.normalize': ('pixel_mean', 'channel', 'imagenet'),
    'train.compute': ('float32', 'bfloat16'),
    'train.optimizer': ('sgd', 'lars', 'lamb', 'adamw'),
    'train.loss': ('softmax', 'sigmoid'),
    'train.schedule.name': ('steps', 'cosine'),
    'train.schedule.warmup': ('none', 'constant', 'linear'),
    'train.schedule.scaling': ('none', 'linear', 'sqrt'),
    'run.placement': ('auto', 'device', 'stream'),
    'run.unsaved': ('stop', 'go_on'),
    'run.nonfinite': ('stop', 'skip'),
    'run.remat': ('none', 'block', 'stage'),
}

# What lists of whole numbers hold at the least.
LISTS = {
    'network.stage_blocks': 1, 'network.widths': 1, 'network.stem_strides': 1, 'network.head_widths': 1,
    'data.crop_scale': 1, 'train.phases.epochs': 1, 'train.phases.pixels': 1, 'train.phases.batch_sizes': 1,
    'train.schedule.boundaries': 0, 'run.snapshots': 0,
}  # fmt: skip

# The last words of parameters' paths, of any network: `value` is a learned number that stands alone.
KINDS = ('kernel', 'bias', 'scale', 'gain', 'value')

# Lists of a fixed length.
LENGTHS = {'data.crop_area': 2, 'data.crop_ratio': 2, 'data.crop_scale': 2, 'data.jitter': 4, 'train.betas': 2}

POSITIVE = ('train.schedule.learning_rate', 'train.schedule.factor', 'train.epsilon', 'train.trust')
NOT_NEGATIVE = (
    'train.weight_decay', 'train.schedule.warmup_rate', 'train.mixup', 'train.cutmix', 'data.lighting',
    'data.rand_augment_deviation', 'train.clip_norm',
)  # fmt: skip
SHARES = ('train.label_smoothing', 'data.erase', 'data.rand_augment_magnitude')  # from 0 to 1
AT_LEAST_0 = (
    'seed', 'data.pixels', 'data.channels', 'data.labels', 'data.selection', 'data.examples', 'data.shift',
    'data.rand_augment', 'run.eval_every', 'run.workers', 'run.keep_best', 'train.schedule.warmup_steps',
)  # fmt: skip
AT_LEAST_1 = (
    'train.batch_size', 'train.schedule.steps', 'run.steps', 'run.log_every', 'run.save_every', 'run.eval_batch',
    'run.keep', 'run.scan_from', 'run.fsdp', 'data.repeats', 'train.microbatches', 'train.schedule.scaling_batch',
    'train.seeds',
)  # fmt: skip


def check(config: ConfigDict) -> None:
    """Refuses what cannot be.

    Raises:
      UserError: one line with the key, its value and what is allowed.
    """
    check_values(config)
    flat = spec.flatten(config)
    networks.check(spec.architecture(config))
    _check_data(config.data)
    _check_crops(config.data, flat)
    _check_colours(config.data, flat)
    _check_examples(config)
    _check_training(config)


def check_values(config: ConfigDict) -> None:
    """Refuses single values that mean nothing, which can be said before the data are asked.

    Raises:
      UserError: one line with the key, its value and what is allowed.
    """
    flat = spec.ADDED | spec.flatten(config)
    _check_kinds(flat)
    _check_numbers(flat)
    phases = config.train.phases
    lengths = {len(phases[key]) for key in ('epochs', 'pixels', 'batch_sizes')}
    _rule(len(lengths) == 1, 'train.phases', phases.to_dict(), 'have as many epochs as pixels and batch_sizes')


def _check_kinds(flat: Mapping[str, Any]) -> None:
    for key, choices in CHOICES.items():
        _rule(flat[key] in choices, key, flat[key], f'be one of {", ".join(choices)}')
    for key, length in LENGTHS.items():
        _rule(len(flat[key]) == length, key, flat[key], f'hold {length} numbers')
    for key, least in LISTS.items():
        _rule(all(type(each) is int and each >= least for each in flat[key]), key, flat[key],
              f'hold whole numbers of at least {least}')  # fmt: skip
    for key in ('data.crop_area', 'data.crop_ratio', 'data.jitter', 'train.betas'):
        _rule(all(type(each) in (int, float) and math.isfinite(each) for each in flat[key]), key, flat[key],
              'hold finite numbers')  # fmt: skip
    ratios = flat['network.mid_ratios']
    _rule(all(type(each) in (int, float) and 0 < each < math.inf for each in ratios), 'network.mid_ratios', ratios,
          'hold positive numbers')  # fmt: skip


def _check_numbers(flat: Mapping[str, Any]) -> None:
    for key in POSITIVE:
        _rule(math.isfinite(flat[key]) and flat[key] > 0, key, flat[key], 'be a positive finite number')
    for key in NOT_NEGATIVE:
        _rule(math.isfinite(flat[key]) and flat[key] >= 0, key, flat[key], 'be a finite number of at least 0')
    for key in SHARES:
        _rule(0 <= flat[key] <= 1, key, flat[key], 'be from 0 to 1')
    for key in ('train.momentum', 'train.ema'):
        _rule(0 <= flat[key] < 1, key, flat[key], 'be at least 0 and below 1')
    _rule(all(0 <= beta < 1 for beta in flat['train.betas']), 'train.betas', flat['train.betas'],
          'hold numbers of at least 0 and below 1')  # fmt: skip
    for key in AT_LEAST_1:
        _rule(flat[key] >= 1, key, flat[key], 'be at least 1')
    for key in AT_LEAST_0:
        _rule(flat[key] >= 0, key, flat[key], 'be at least 0')
    # Of a larger seed, JAX would take the last 32 bits alone.
    _rule(flat['seed'] < 2**32, 'seed', flat['seed'], 'be below 2**32')
    _rule(flat['seed'] + flat['train.seeds'] <= 2**32, 'train.seeds', flat['train.seeds'],
          f'leave the last seed below 2**32; the first is {flat["seed"]}')  # fmt: skip


def _check_data(data: ConfigDict) -> None:
    _rule(re.fullmatch(r'[a-z][a-z0-9_]*', data.dataset), 'data.dataset', data.dataset,
          'be a name of small letters, digits and _ (a folder is dataset=folder, data_dir=PATH)')  # fmt: skip
    _rule(0.1 <= data.crop_fraction <= 1, 'data.crop_fraction', data.crop_fraction, 'be from 0.1 to 1')
    _rule(0 < data.test_share < 1, 'data.test_share', data.test_share, 'be above 0 and below 1')
    channels, classes = spec.image_shape(data)[2], spec.outputs(data)
    own = 0 if data.dataset == 'synthetic' else spec.DATASETS.get(data.dataset, ((), 0, 0))[1]
    _rule(classes >= own, 'data.labels', classes, f'be 0 (as many outputs as classes), or at least the {own} classes')
    _rule(channels in (1, 3), 'data.channels', channels, 'be 1 (grey) or 3 (colour)')
    _rule(data.classes == 0 or 2 <= data.classes <= classes, 'data.classes', data.classes,
          f'be 0 (all classes), or 2 to {classes}')  # fmt: skip
    _rule(data.normalize != 'imagenet' or channels == 3, 'data.normalize', data.normalize,
          f'be another one: {data.dataset} has {channels} channel')  # fmt: skip


def _check_crops(data: ConfigDict, flat: Mapping[str, Any]) -> None:
    low, high = data.crop_area
    _rule(0 < low <= high <= 1, 'data.crop_area', flat['data.crop_area'],
          'be two shares of the image, the smaller first')  # fmt: skip
    low, high = data.crop_ratio
    _rule(0 < low <= high, 'data.crop_ratio', flat['data.crop_ratio'], 'be two ratios, the smaller first')
    low, high = data.crop_scale
    _rule(low <= high, 'data.crop_scale', flat['data.crop_scale'], 'be two sides in pixels, the smaller first')
    largest = max(spec.image_shape(data)[0], *flat['train.phases.pixels'], 0)
    _rule(data.crop != 'random_scale' or low >= largest, 'data.crop_scale', flat['data.crop_scale'],
          f'be at least the {largest} pixels of the crop')  # fmt: skip
    _rule(data.crop == 'view' or data.dataset not in spec.PIXELS_ALREADY, 'data.crop', data.crop,
          f'be view: the images of {data.dataset} are pixels already')  # fmt: skip


def _check_colours(data: ConfigDict, flat: Mapping[str, Any]) -> None:
    *factors, hue = data.jitter
    _rule(all(0 <= each <= 1 for each in factors) and 0 <= hue <= 0.5, 'data.jitter', flat['data.jitter'],
          'be three numbers from 0 to 1, and one from 0 to 0.5')  # fmt: skip
    coloured = {
        'data.jitter': any(data.jitter[2:]),
        'data.lighting': data.lighting,
        'data.rand_augment': data.rand_augment,
    }
    for key, asked in coloured.items():
        _rule(not asked or spec.image_shape(data)[2] == 3, key, flat[key],
              f'leave colours alone: {data.dataset} has none')  # fmt: skip
    if data.dataset == 'digits':
        for key in ('data.jitter', 'data.rand_augment'):
            _rule(not (any(flat[key]) if key == 'data.jitter' else flat[key]), key, flat[key],
                  'be off: the pixels of digits are no bytes')  # fmt: skip
        for key, one in (('data.pixels', 8), ('data.channels', 1)):
            _rule(flat[key] in (0, one), key, flat[key], 'be 0: the images of digits are pixels already')


def _check_examples(config: ConfigDict) -> None:
    """What is known of the number of examples without the data; `sources.check` asks the data."""
    if config.data.dataset not in spec.DATASETS:
        return
    total = spec.DATASETS[config.data.dataset][2]
    _rule(config.data.selection < total, 'data.selection', config.data.selection,
          f'be below the {total} training examples')  # fmt: skip
    examples = total - config.data.selection
    _rule(config.data.examples <= examples, 'data.examples', config.data.examples,
          f'be 0 (all), or at most the {examples} training examples')  # fmt: skip
    examples = config.data.examples or examples
    _rule(config.train.batch_size <= examples, 'train.batch_size', config.train.batch_size,
          f'be at most the {examples} training examples')  # fmt: skip


def _check_training(config: ConfigDict) -> None:
    boundaries = list(config.train.schedule.boundaries)
    _rule(boundaries == sorted(set(boundaries)), 'train.schedule.boundaries', boundaries, 'rise from step to step')
    parts = ('stem', *(f'stage{stage}' for stage in range(1, len(config.network.stage_blocks) + 1)))
    _rule(all(part in parts for part in config.train.frozen), 'train.frozen', list(config.train.frozen),
          f'be among {", ".join(parts)}')  # fmt: skip
    there = words(spec.architecture(config))
    for word in config.train.undecayed:
        _rule(word in there, 'train.undecayed', word, f"hold words of the parameters' paths: {', '.join(there)}")
    active, blocks = config.train.active_blocks, sum(config.network.stage_blocks)
    _rule(0 <= active < blocks, 'train.active_blocks', active,
          f'be at least 0 (all blocks) and below the {blocks} blocks of the network')  # fmt: skip
    _rule(not active or config.network.shortcut != 'none', 'train.active_blocks', active,
          'be 0 in a network without shortcuts: where a block is deleted nothing would pass')  # fmt: skip
    phases = config.train.phases
    _rule(not phases.epochs or config.data.crop != 'view', 'data.crop', config.data.crop,
          'be random_resized or random_scale where train.phases change the size')  # fmt: skip
    _rule(not phases.epochs or config.data.normalize != 'pixel_mean', 'data.normalize', config.data.normalize,
          'be channel or imagenet where train.phases change the size')  # fmt: skip
    _rule(not phases.epochs or config.network.pool != 'flatten', 'network.pool', config.network.pool,
          'be another one where train.phases change the size')  # fmt: skip
    smoothing = config.train.label_smoothing
    _rule(not smoothing or config.train.loss == 'softmax', 'train.label_smoothing', smoothing,
          'be 0 with train.loss sigmoid, which takes each class for present or absent')  # fmt: skip
    group, parts = config.network.norm_examples, config.train.microbatches
    for batch in (config.train.batch_size, *phases.batch_sizes):
        _rule(batch % parts == 0, 'train.microbatches', parts, f'divide the batch of {batch}')
        _rule(group == 0 or batch // parts % group == 0, 'network.norm_examples', group,
              f'divide the {"batch" if parts == 1 else "microbatch"} of {batch // parts}')  # fmt: skip
    _rule(not config.run.keep_best or config.data.selection, 'run.keep_best', config.run.keep_best,
          'be 0 unless data.selection holds examples out: the best is not chosen on the test set')  # fmt: skip


def words(arch: Architecture) -> list[str]:
    """What the paths of a network's parameters are made of (stem, stage1, entry, conv1, …), and all KINDS: of those it
    may have none, so that 'kernels alone decay' is one setting for every network."""
    found = dict.fromkeys(KINDS)
    for layer in counts.layers(arch):
        path = re.sub(r'/block\d+/', '/body/', layer.name.replace('/block1/', '/entry/'))
        found |= dict.fromkeys(path.split('/'))
    return list(found)


def _rule(holds: object, key: str, value: object, rule: str) -> None:
    if not holds:
        raise UserError(f'config.{key} is {value!r}; it must {rule}')
