"""Settings that mean nothing are refused in one line, before anything is read or compiled."""

import math

import pytest

from configs import default
from resnet_jax import validity
from resnet_jax.errors import UserError

DIGITS = {'data__dataset': 'digits'}
# Two phases as they may be.
PHASES = {
    'data__crop': 'random_resized', 'data__normalize': 'channel', 'train__phases__epochs': (1, 1),
    'train__phases__pixels': (16, 32), 'train__phases__batch_sizes': (8, 8),
}  # fmt: skip


def changed(**changes):
    config = default.get_config()
    for key, value in changes.items():
        owner = config
        *sections, name = key.split('__')
        for section in sections:
            owner = owner[section]
        owner[name] = value
    return config


def refused(**changes):
    with pytest.raises(UserError) as error:
        validity.check(changed(**changes))
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'network__widths': (0, 32, 64)}, 'config.network.widths is [0, 32, 64]; it must hold whole numbers of at'),
        ({'network__widths': (16, 32, 64.0)}, 'config.network.widths is [16, 32, 64.0]; it must hold whole numbers'),
        ({'network__widths': ('a', 'b', 'c')}, 'it must hold whole numbers of at least 1'),
        ({'network__stage_blocks': (3, 0, 3)}, 'config.network.stage_blocks is [3, 0, 3]; it must hold whole numbers'),
        ({'network__stage_blocks': (3, True, 3)}, 'config.network.stage_blocks is [3, True, 3]'),
        ({'network__stem_strides': (2, 2, 1, 1, 1, 1, 0)}, 'it must hold whole numbers of at least 1'),
        ({'network__head_widths': (-1,)}, 'config.network.head_widths is [-1]; it must hold whole numbers of at least'),
        ({'network__mid_ratios': (0.0,)}, 'config.network.mid_ratios is [0.0]; it must hold positive numbers'),
        ({'network__mid_ratios': (math.nan,)}, 'config.network.mid_ratios is [nan]; it must hold positive numbers'),
        ({'network__mid_ratios': (math.inf,)}, 'config.network.mid_ratios is [inf]; it must hold positive numbers'),
        ({'network__mid_ratios': ('a',)}, "config.network.mid_ratios is ['a']; it must hold positive numbers"),
        ({'network__norm_examples': 3}, 'config.network.norm_examples is 3; it must divide the batch of 128'),
        ({'data__dataset': 'mnist'}, "config.data.pixels is 0, which the dataset 'mnist' fills in when a run begins"),
        ({'data__dataset': '../x', 'data__pixels': 8, 'data__channels': 3, 'data__labels': 2}, 'it must be a name of'),
        ({'data__normalize': 'none'}, 'config.data.normalize'),
        ({'data__crop_fraction': 0.0}, 'config.data.crop_fraction is 0.0; it must be from 0.1 to 1'),
        ({'data__crop_fraction': 1.1}, 'config.data.crop_fraction is 1.1; it must be from 0.1 to 1'),
        ({'data__dataset': 'digits', 'data__normalize': 'imagenet'}, 'be another one: digits has 1 channel'),
        ({'data__shift': -1}, 'config.data.shift is -1; it must be at least 0'),
        ({'data__selection': 50_000}, 'config.data.selection is 50000; it must be below the 50000 training examples'),
        ({'data__selection': 49_999}, 'config.train.batch_size is 128; it must be at most the 1 training examples'),
        ({'data__classes': 1}, 'config.data.classes is 1; it must be 0 (all classes), or 2 to 10'),
        ({'data__classes': 11}, 'config.data.classes is 11; it must be 0 (all classes), or 2 to 10'),
        ({'data__examples': -1}, 'config.data.examples is -1; it must be at least 0'),
        ({'data__examples': 45_001, 'data__selection': 5_000}, 'it must be 0 (all), or at most the 45000 training'),
        ({'data__examples': 127}, 'config.train.batch_size is 128; it must be at most the 127 training examples'),
        ({'train__batch_size': 0}, 'config.train.batch_size is 0; it must be at least 1'),
        ({'train__batch_size': 50_001}, 'it must be at most the 50000 training examples'),
        ({'train__momentum': 1.0}, 'config.train.momentum is 1.0'),
        ({'train__momentum': math.nan}, 'config.train.momentum is nan'),
        ({'train__weight_decay': math.nan}, 'config.train.weight_decay is nan'),
        ({'train__weight_decay': -1e-4}, 'config.train.weight_decay is -0.0001'),
        ({'train__schedule__learning_rate': -0.1}, 'learning_rate is -0.1; it must be a positive finite number'),
        ({'train__schedule__learning_rate': 0.0}, 'config.train.schedule.learning_rate is 0.0'),
        ({'train__schedule__learning_rate': math.nan}, 'config.train.schedule.learning_rate is nan'),
        ({'train__schedule__learning_rate': math.inf}, 'config.train.schedule.learning_rate is inf'),
        ({'train__schedule__boundaries': (48_000, 32_000)}, 'it must rise from step to step'),
        ({'train__schedule__boundaries': (32_000, 32_000)}, 'it must rise from step to step'),
        ({'train__schedule__boundaries': (-1, 32_000)}, 'it must hold whole numbers of at least 0'),
        ({'train__schedule__warmup': 'cosine'}, 'it must be one of none, constant, linear'),
        ({'train__schedule__name': 'step'}, 'it must be one of steps, cosine'),
        ({'train__frozen': ('stem', 'stage4')}, "frozen is ['stem', 'stage4']; it must be among stem, stage1"),
        ({'train__frozen': ('head',)}, 'it must be among stem, stage1, stage2, stage3'),
        ({'unit': 'epochs'}, "config.unit is 'epochs'; it must be one of step, epoch"),
        ({'data__crop': 'random'}, "data.crop is 'random'; it must be one of view, random_resized, random_scale"),
        ({'data__decode': 'fast'}, 'it must be one of scaled, exact'),
        ({'data__corrupt': 'ignore'}, 'it must be one of stop, skip'),
        ({'data__pixels': -1}, 'config.data.pixels is -1; it must be at least 0'),
        ({'data__channels': 4}, 'config.data.channels is 4; it must be 1 (grey) or 3 (colour)'),
        ({'data__labels': 9}, 'config.data.labels is 9; it must be 0 (as many outputs as classes), or at least the 10'),
        ({'data__test_share': 0.0}, 'config.data.test_share is 0.0; it must be above 0 and below 1'),
        ({'data__test_share': 1.0}, 'config.data.test_share is 1.0; it must be above 0 and below 1'),
        ({'data__crop_area': (0.08,)}, 'config.data.crop_area is [0.08]; it must hold 2 numbers'),
        ({'data__crop_area': ('a', 'b')}, "config.data.crop_area is ['a', 'b']; it must hold finite numbers"),
        ({'data__crop_ratio': (None, 1.0)}, 'config.data.crop_ratio is [None, 1.0]; it must hold finite numbers'),
        ({'data__jitter': ('0.1', 0.1, 0.1, 0.1)}, 'it must hold finite numbers'),
        ({'data__crop_area': (0.0, 1.0)}, 'it must be two shares of the image, the smaller first'),
        ({'data__crop_area': (0.5, 1.1)}, 'it must be two shares of the image, the smaller first'),
        ({'data__crop_area': (0.5, 0.4)}, 'it must be two shares of the image, the smaller first'),
        ({'data__crop_area': (0.5, math.nan)}, 'it must hold finite numbers'),
        ({'data__crop_ratio': (0.0, 1.0)}, 'it must be two ratios, the smaller first'),
        ({'data__crop_ratio': (1.5, 0.5)}, 'it must be two ratios, the smaller first'),
        ({'data__crop_scale': (256, 480.0)}, 'config.data.crop_scale is [256, 480.0]; it must hold whole numbers'),
        ({'data__crop_scale': (480, 256)}, 'it must be two sides in pixels, the smaller first'),
        ({'data__crop_scale': (31, 40), 'data__crop': 'random_scale'}, 'it must be at least the 32 pixels of the crop'),
        ({'data__crop_scale': (40, 40), 'data__crop': 'random_scale', 'data__normalize': 'channel',
          'train__phases__epochs': (1,), 'train__phases__pixels': (48,), 'train__phases__batch_sizes': (8,)},
         'it must be at least the 48 pixels of the crop'),
        ({'data__jitter': (0.1, 0.1, 0.1)}, 'config.data.jitter is [0.1, 0.1, 0.1]; it must hold 4 numbers'),
        ({'data__jitter': (1.1, 0.0, 0.0, 0.0)}, 'it must be three numbers from 0 to 1, and one from 0 to 0.5'),
        ({'data__jitter': (0.0, 0.0, 0.0, 0.6)}, 'it must be three numbers from 0 to 1, and one from 0 to 0.5'),
        ({'data__jitter': (-0.1, 0.0, 0.0, 0.0)}, 'it must be three numbers from 0 to 1, and one from 0 to 0.5'),
        ({'data__channels': 1, 'data__jitter': (0.0, 0.0, 0.1, 0.0)}, 'leave colours alone: cifar10 has none'),
        ({'data__channels': 1, 'data__lighting': 0.1}, 'config.data.lighting is 0.1; it must leave colours alone'),
        ({'data__channels': 1, 'data__rand_augment': 2}, 'config.data.rand_augment is 2; it must leave colours alone'),
        ({'data__lighting': -0.1}, 'config.data.lighting is -0.1; it must be a finite number of at least 0'),
        ({'data__rand_augment': -1}, 'config.data.rand_augment is -1; it must be at least 0'),
        ({'data__rand_augment_magnitude': 9.0}, 'config.data.rand_augment_magnitude is 9.0; it must be from 0 to 1'),
        ({'data__rand_augment_deviation': math.inf}, 'it must be a finite number of at least 0'),
        ({'data__erase': 1.5}, 'config.data.erase is 1.5; it must be from 0 to 1'),
        ({'data__repeats': 0}, 'config.data.repeats is 0; it must be at least 1'),
        ({**DIGITS, 'data__jitter': (0.1, 0.0, 0.0, 0.0)}, 'it must be off: the pixels of digits are no bytes'),
        ({**DIGITS, 'data__crop': 'random_resized'}, 'it must be view: the images of digits are pixels already'),
        ({**DIGITS, 'data__pixels': 16}, 'config.data.pixels is 16; it must be 0: the images of digits are pixels'),
        ({**DIGITS, 'data__channels': 3}, 'config.data.channels is 3; it must be 0: the images of digits are pixels'),
        ({'data__dataset': 'synthetic', 'data__crop': 'random_scale'}, 'it must be view: the images of synthetic are'),
        ({'train__optimizer': 'adam'}, "config.train.optimizer is 'adam'; it must be one of sgd, lars, lamb, adamw"),
        ({'train__loss': 'hinge'}, 'it must be one of softmax, sigmoid'),
        ({'train__label_smoothing': 1.1}, 'config.train.label_smoothing is 1.1; it must be from 0 to 1'),
        ({'train__label_smoothing': 0.1, 'train__loss': 'sigmoid'}, 'label_smoothing is 0.1; it must be 0 with'),
        ({'train__mixup': -0.1}, 'config.train.mixup is -0.1; it must be a finite number of at least 0'),
        ({'train__cutmix': math.nan}, 'config.train.cutmix is nan; it must be a finite number of at least 0'),
        ({**PHASES, 'train__phases__pixels': (16,)}, 'it must have as many epochs as pixels and batch_sizes'),
        ({**PHASES, 'train__phases__epochs': (0, 1)}, 'phases.epochs is [0, 1]; it must hold whole numbers of at'),
        ({**PHASES, 'train__phases__batch_sizes': (8, 0)}, 'it must hold whole numbers of at least 1'),
        ({**PHASES, 'data__crop': 'view'}, 'it must be random_resized or random_scale where train.phases change'),
        ({**PHASES, 'data__normalize': 'pixel_mean'}, 'it must be channel or imagenet where train.phases change the'),
        ({**PHASES, 'network__pool': 'flatten'}, 'it must be another one where train.phases change the size'),
        ({**PHASES, 'network__norm_examples': 16}, 'config.network.norm_examples is 16; it must divide the batch of 8'),
        ({'run__placement': 'host'}, 'it must be one of auto, device, stream'),
        ({'run__workers': -1}, 'config.run.workers is -1; it must be at least 0'),
        ({'run__steps': 0}, 'config.run.steps is 0; it must be at least 1'),
        ({'run__eval_every': -1}, 'config.run.eval_every is -1; it must be at least 0'),
        ({'run__snapshots': ('a',)}, 'config.run.snapshots'),
        ({'run__scan_from': 0}, 'config.run.scan_from is 0'),
        ({'seed': -1}, 'config.seed is -1; it must be at least 0'),
        ({'seed': 2**32}, 'config.seed is 4294967296; it must be below 2**32'),
    ],
    ids=lambda value: ' '.join(f'{k}={v}' for k, v in value.items()) if isinstance(value, dict) else '',
)  # fmt: skip
def test_a_setting_that_means_nothing_is_refused_in_one_line(changes, said):
    assert said in refused(**changes)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        PHASES,
        {**PHASES, 'data__crop': 'random_scale', 'data__crop_scale': (32, 32)},
        {**DIGITS, 'data__pixels': 8, 'data__channels': 1, 'data__lighting': 0.0},
        {'data__channels': 1, 'data__jitter': (0.1, 0.1, 0.0, 0.0)},
        {'data__labels': 12, 'data__classes': 11},
        {'data__dataset': 'synthetic', 'data__labels': 2},
        {'data__dataset': 'my_photographs', 'data__pixels': 64, 'data__channels': 3, 'data__labels': 2},
        {'train__loss': 'sigmoid', 'train__mixup': 0.2, 'train__cutmix': 1.0, 'train__optimizer': 'lamb'},
    ],
    ids=lambda value: ' '.join(f'{k}={v}' for k, v in value.items()),
)
def test_what_means_something_is_not_refused(changes):
    validity.check(changed(**changes))
