"""What configs mean without JAX: golden counts, a run's identity, and what is refused."""

import json
import math

import pytest

from configs import cifar10, default, digits
from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.models import zoo

# He et al. 2015 (arXiv 1512.03385), CIFAR-10: counted from the layers. Three stages of n blocks at 16, 32 and 64
# filters: stem 432 + 32; convolutions 4,608 n, 18,432 n - 4,608 and 73,728 n - 18,432; BN 448 n; head 650.
RESNET = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}

# Without shortcuts the same: shortcut A has no parameters. Pre-activation too: each block normalises its input
# (32, 64 or 128 numbers) where it normalised the second convolution's output. The first block has no need to, which
# saves 32; the entry blocks of stages 2 and 3 have narrower inputs, which saves 32 and 64; the head's BN adds 128.
PARAMETERS = {f'{family}{depth}': count for family in zoo.FAMILIES for depth, count in RESNET.items()}


def named(name, **changes):
    config = default.get_config()
    config.network.update(zoo.settings(name))
    for key, value in changes.items():
        config.network[key] = value
    return spec.architecture(config)


def test_every_named_network_has_an_expected_count():
    assert set(PARAMETERS) == set(zoo.NAMES)


@pytest.mark.parametrize(('name', 'count'), PARAMETERS.items())
def test_parameters_are_the_papers(name, count):
    arch = named(name)
    n = (arch.depth - 2) // 6
    assert spec.parameters(arch) == count == 97_216 * n - 21_926
    assert name.endswith(str(arch.depth)) and arch.stage_blocks == (n, n, n)


@pytest.mark.parametrize('n', [1, 2, 7, 27])
def test_the_closed_form_holds_for_any_depth(n):
    assert spec.parameters(named(f'resnet{6 * n + 2}')) == 97_216 * n - 21_926


@pytest.mark.parametrize(
    ('shortcut', 'basic', 'preact'),
    [
        # Projections: 16 x 32 and 32 x 64 weights. Behind a basic block's BN follows, behind pre-activation none.
        ('B', 512 + 64 + 2048 + 128, 512 + 2048),
        # n = 3: three of 16 x 16; 16 x 32 and two of 32 x 32; 32 x 64 and two of 64 x 64; BN 3 (32 + 64 + 128).
        ('C', 3 * 256 + 512 + 2 * 1024 + 2048 + 2 * 4096 + 672, 3 * 256 + 512 + 2 * 1024 + 2048 + 2 * 4096),
    ],
)
def test_projections_add_their_parameters(shortcut, basic, preact):
    assert spec.parameters(named('resnet20', shortcut=shortcut)) == RESNET[20] + basic
    assert spec.parameters(named('preact_resnet20', shortcut=shortcut)) == RESNET[20] + preact


def test_multiply_adds_of_resnet20_are_40_55_million():
    by_hand = {
        'stem/conv1': 32 * 32 * 9 * 3 * 16,  # 442,368
        'stage1': 6 * 32 * 32 * 9 * 16 * 16,  # six of 2,359,296
        'stage2': 16 * 16 * 9 * 16 * 32 + 5 * 16 * 16 * 9 * 32 * 32,  # 1,179,648 and five of 2,359,296
        'stage3': 8 * 8 * 9 * 32 * 64 + 5 * 8 * 8 * 9 * 64 * 64,
        'head/dense': 640,
    }
    arch = named('resnet20')
    for part, count in by_hand.items():
        assert sum(layer.multiply_adds for layer in spec.layers(arch) if layer.name.startswith(part)) == count
    assert spec.multiply_adds(arch) == sum(by_hand.values()) == 40_551_040
    assert spec.multiply_adds(named('plain20')) == spec.multiply_adds(named('preact_resnet20')) == 40_551_040
    # A projection sees the pixels of its output: 256 x 16 x 32 and 64 x 32 x 64.
    assert spec.multiply_adds(named('resnet20', shortcut='B')) == 40_551_040 + 131_072 + 131_072


def test_multiply_adds_of_odd_images_round_up():
    config = digits.get_config('resnet8')
    config.network.widths = (1, 1, 1)
    arch = spec.architecture(config)
    arch = type(arch)(**{**vars(arch), 'image_shape': (7, 5, 1)})
    counts = [layer.multiply_adds // 9 for layer in spec.layers(arch) if 'conv' in layer.name]
    assert counts == [35, 35, 35, 4 * 3, 4 * 3, 2 * 2, 2 * 2]


def test_layers_are_named_in_network_order():
    names = [layer.name for layer in spec.layers(named('preact_resnet8', shortcut='B'))]
    assert names == [
        'stem/conv1', 'stem/bn1',
        'stage1/block1/conv1', 'stage1/block1/bn2', 'stage1/block1/conv2',
        'stage2/block1/bn1', 'stage2/block1/conv1', 'stage2/block1/bn2', 'stage2/block1/conv2',
        'stage2/block1/shortcut/conv_proj',
        'stage3/block1/bn1', 'stage3/block1/conv1', 'stage3/block1/bn2', 'stage3/block1/conv2',
        'stage3/block1/shortcut/conv_proj',
        'head/bn', 'head/dense',
    ]  # fmt: skip


def test_the_blocks_of_an_architecture():
    arch = named('preact_resnet110')
    assert (arch.blocks, arch.depth, arch.entry_blocks) == (54, 110, (0, 18, 36))
    assert [index for index, agree in enumerate(arch.shortcut_shapes_agree) if not agree] == [18, 36]
    assert (arch.image_shape, arch.classes) == ((32, 32, 3), 10)
    assert spec.architecture(digits.get_config()).image_shape == (8, 8, 1)


# Names


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('resnet_20', 'did you mean resnet20?'),
        ('preact_resnet_110', 'did you mean preact_resnet110?'),
        ('densenet121', 'families: resnet, plain, preact_resnet, each with a depth 6n+2'),
        ('', 'families: resnet'),
        ('20', 'families: resnet'),
        ('resnet20\n', 'no network is called'),
    ],
)
def test_an_unknown_network_is_refused_with_the_nearest_name(name, said):
    with pytest.raises(UserError) as error:
        zoo.settings(name)
    assert said in str(error.value) and '\n' not in str(error.value)


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
        spec.validate(config)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'network__depth': 21}, 'config.network.depth is 21; it must be 6n+2 with n of at least 1'),
        ({'network__depth': 25}, 'the nearest are 20 and 26'),
        ({'network__depth': 2}, 'the nearest are 8 and 14'),
        ({'network__depth': -4}, 'the nearest are 8 and 14'),
        ({'network__block': 'bottleneck'}, "config.network.block is 'bottleneck'; it must be one of basic, preact"),
        ({'network__shortcut': 'a'}, "config.network.shortcut is 'a'; it must be one of A, B, C, none"),
        ({'network__widths': (16, 32)}, 'config.network.widths is [16, 32]; it must be three numbers of filters'),
        ({'network__widths': (0, 32, 64)}, 'config.network.widths is [0, 32, 64]'),
        ({'network__widths': (16, 32, 64.0)}, 'config.network.widths is [16, 32, 64.0]; it must hold whole numbers'),
        ({'network__widths': ('a', 'b', 'c')}, 'it must hold whole numbers of at least 0'),
        ({'network__widths': (64, 32, 16)}, 'use shortcut B, or widths that do not fall'),
        ({'network__norm_momentum': 1.0}, 'config.network.norm_momentum is 1.0; it must be at least 0 and below 1'),
        ({'network__norm_epsilon': -1e-5}, 'config.network.norm_epsilon is -1e-05'),
        ({'data__dataset': 'mnist'}, "config.data.dataset is 'mnist'; it must be one of digits, cifar10, cifar100"),
        ({'data__normalize': 'none'}, 'config.data.normalize'),
        ({'data__shift': -1}, 'config.data.shift is -1; it must be at least 0'),
        ({'data__selection': 50_000}, 'config.data.selection is 50000; it must be below the 50000 training examples'),
        ({'data__selection': 49_999}, 'config.train.batch_size is 128; it must be at most the 1 training examples'),
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
        ({'run__steps': 0}, 'config.run.steps is 0; it must be at least 1'),
        ({'run__eval_every': -1}, 'config.run.eval_every is -1; it must be at least 0'),
        ({'run__snapshots': ('a',)}, 'config.run.snapshots'),
        ({'run__scan_unroll': 0}, 'config.run.scan_unroll is 0'),
        ({'seed': -1}, 'config.seed is -1; it must be at least 0'),
        ({'seed': 2**32}, 'config.seed is 4294967296; it must be below 2**32'),
    ],
    ids=lambda value: ' '.join(f'{k}={v}' for k, v in value.items()) if isinstance(value, dict) else '',
)  # fmt: skip
def test_a_setting_that_means_nothing_is_refused_in_one_line(changes, said):
    assert said in refused(**changes)


def test_narrowing_widths_are_possible_where_a_projection_takes_them():
    config = default.get_config()
    config.network.update(shortcut='B', widths=(64, 32, 16))
    spec.validate(config)
