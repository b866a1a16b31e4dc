"""What configs mean without JAX: a run's identity, and what is refused."""

import json
import math

import pytest

from configs import cifar10, default, digits
from resnet_jax import config as configuration
from resnet_jax import spec, validity
from resnet_jax.errors import UserError
from resnet_jax.models import zoo

# Identity


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + '2'
    return (*value, 99) if isinstance(value, tuple) else value + 1


SETTINGS = spec.flatten(default.get_config())
OF_THE_RUN_ALONE = {key for key in SETTINGS if key.startswith('run.')} | {'data.data_dir'}


@pytest.mark.parametrize('key', SETTINGS)
def test_the_identity_changes_with_every_setting_but_how_and_where_it_is_run(key):
    config = default.get_config()
    owner = config
    *sections, name = key.split('.')
    for section in sections:
        owner = owner[section]
    owner[name] = changed(owner[name])
    same = spec.identity(config) == spec.identity(default.get_config())
    assert same == (key in OF_THE_RUN_ALONE)
    assert (key in spec.definition(config)) == (not same)


def test_the_identity_is_that_of_the_stored_config():
    config = digits.get_config()
    stored = json.loads(json.dumps(config.to_dict()))
    assert spec.identity(stored) == spec.identity(config) == spec.identity(config.lock())
    assert len(spec.identity(config)) == 16
    assert len({spec.identity(cifar10.get_config(name)) for name in zoo.NAMES}) == len(zoo.NAMES)


def test_flatten_names_settings_by_their_path():
    flat = spec.flatten(default.get_config())
    assert flat['train.schedule.boundaries'] == [32_000, 48_000] and flat['seed'] == 0


# What is refused, one line each


def refused(**changes):
    config = default.get_config()
    for key, value in changes.items():
        owner = config
        *sections, name = key.split('__')
        for section in sections:
            owner = owner[section]
        owner[name] = value
    with pytest.raises(UserError) as error:
        validity.check(config)
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
        ({'data__crop_fraction': 0.0}, 'config.data.crop_fraction is 0.0; it must be above 0 and at most 1'),
        ({'data__crop_fraction': 1.1}, 'config.data.crop_fraction is 1.1; it must be above 0 and at most 1'),
        ({'data__dataset': 'digits', 'data__normalize': 'imagenet'}, 'be another one: digits has 1 channel'),
        ({'data__shift': -1}, 'config.data.shift is -1; it must be at least 0'),
        ({'data__selection': 50_000}, 'config.data.selection is 50000; it must be below the 50000 training examples'),
        ({'data__selection': 49_999}, 'config.train.batch_size is 128; it must be at most the 1 training examples'),
        ({'data__classes': 1}, 'config.data.classes is 1; it must be 0 (all classes), or 2 to 10'),
        ({'data__classes': 11}, 'config.data.classes is 11; it must be 0 (all classes), or 2 to 10'),
        ({'data__examples': -1}, 'config.data.examples is -1; it must be 0 (all), or at most the 50000 training'),
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


# Names


def titled(name='resnet20', **changes):
    config = default.get_config()
    config.network.update({**zoo.settings(name), **changes})
    return configuration.title(config.network)


@pytest.mark.parametrize('name', zoo.NAMES)
def test_a_named_network_has_its_name_for_a_title(name):
    assert titled(name) == name


def test_another_network_is_called_after_the_nearest_and_by_what_it_differs_in():
    assert titled(stage_blocks=(4, 4, 4)) == 'resnet26'
    assert titled('preact_resnet110', shortcut='B') == 'preact_resnet110-shortcut-B'
    assert titled(shortcut='none', norm='group', norm_groups=8) == 'plain20-norm-group-norm_groups-8'
    assert titled(widths=(16, 24, 32), stage_blocks=(3, 1, 2)) == 'resnet20-stage_blocks-3_1_2-widths-16_24_32'
