"""The recipes to the letter."""

import json

import pytest

from configs import default
from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.models import zoo

# CIFAR-10 and the digits


def test_resnet20_is_the_recipe_of_he_et_al_2015():
    """arXiv 1512.03385, section 4.2."""
    assert json.loads(configuration.load('configs/cifar10.py').to_json()) == {
        'seed': 0,
        'unit': 'step',
        'network': {
            'stem': 'cifar', 'stem_width': 16, 'stem_strides': [2, 2, 1, 1, 1, 1, 1],
            'block': 'basic', 'stage_blocks': [3, 3, 3], 'widths': [16, 32, 64], 'mid_ratios': [1.0], 'groups': 1,
            'strided_conv': 1, 'downsample': 'stride', 'squeeze_excite': 0, 'dropout': 0.0, 'placement': 'original',
            'shortcut': 'A', 'subsample': 'stride', 'zero_channels': 'split', 'shortcut_scale': 1.0,
            'residual_scale': 1.0, 'gate_bias': -6.0, 'shortcut_dropout': 0.5, 'join': 'add', 'dense': 'after',
            'dense_join': 'product', 'share': 'none', 'survival': 1.0, 'norm': 'batch', 'norm_groups': 32,
            'norm_examples': 0, 'norm_momentum': 0.9, 'norm_epsilon': 1e-5, 'conv': 'plain', 'gain': 'none',
            'nf_alpha': 0.2, 'pool': 'average', 'head_widths': [], 'head_dropout': 0.0,
        },
        'data': {
            'dataset': 'cifar10', 'data_dir': '', 'selection': 0, 'normalize': 'pixel_mean', 'crop_fraction': 1.0,
            'shift': 4, 'flip': True, 'classes': 0, 'examples': 0, 'test_share': 0.2, 'pixels': 0, 'channels': 0,
            'labels': 0, 'fingerprint': '', 'crop': 'view', 'crop_area': [0.08, 1.0], 'crop_ratio': [0.75, 4 / 3],
            'crop_scale': [256, 480], 'decode': 'scaled', 'corrupt': 'stop', 'repeats': 1, 'jitter': [0.0] * 4,
            'lighting': 0.0, 'rand_augment': 0, 'rand_augment_magnitude': 0.3, 'rand_augment_deviation': 0.0,
            'erase': 0.0,
        },
        'train': {
            'batch_size': 128, 'seeds': 1, 'microbatches': 1, 'compute': 'float32', 'optimizer': 'sgd', 'momentum': 0.9,
            'nesterov': False, 'betas': [0.9, 0.999], 'epsilon': 1e-6, 'trust': 0.001, 'clip_norm': 0.0,
            'weight_decay': 1e-4, 'undecayed': [], 'ema': 0.0, 'loss': 'softmax', 'label_smoothing': 0.0,
            'mixup': 0.0, 'cutmix': 0.0, 'start_from': '', 'new_head': True, 'active_blocks': 0, 'frozen': [],
            'phases': {'epochs': [], 'pixels': [], 'batch_sizes': []},
            'schedule': {
                'name': 'steps', 'learning_rate': 0.1, 'scaling': 'none', 'scaling_batch': 256,
                'boundaries': [32_000, 48_000], 'factor': 0.1, 'steps': 64_000, 'warmup': 'none', 'warmup_steps': 0,
                'warmup_rate': 0.01,
            },
        },
        'run': {
            'steps': 64_000, 'log_every': 100, 'eval_every': 2_000, 'eval_batch': 500, 'save_every': 2_000, 'keep': 2,
            'keep_best': 0, 'snapshots': [0], 'checkpoints': '', 'unsaved': 'stop', 'nonfinite': 'stop', 'fsdp': 1,
            'remat': 'none', 'scan_from': 5, 'tensorboard': True, 'wandb': '', 'placement': 'auto', 'workers': 0,
        },
    }  # fmt: skip


def differences(file, base='configs/cifar10.py:resnet20'):
    """The settings in which a recipe differs from another."""
    ours, theirs = (spec.flatten(configuration.load(each)) for each in (file, base))
    return {key: value for key, value in ours.items() if value != theirs[key]}


def blocks(count):
    return {'network.stage_blocks': [count] * 3}


PREACT = {'network.placement': 'full_preactivation'}
WARMED = {'train.schedule.warmup': 'constant', 'train.schedule.warmup_steps': 400}


@pytest.mark.parametrize(
    ('recipe', 'expected'),
    [
        ('resnet20', {}),
        ('resnet32', blocks(5)),
        ('resnet44', blocks(7)),
        ('resnet56', blocks(9)),
        # "0.01 until the training error is below 80 %, about 400 iterations"
        ('resnet110', {**blocks(18), **WARMED}),
        ('resnet1202', {**blocks(200), **WARMED}),
        ('plain20', {'network.shortcut': 'none'}),
        ('plain56', {'network.shortcut': 'none', **blocks(9)}),
        ('plain110', {'network.shortcut': 'none', **blocks(18), **WARMED}),
        # He et al. 2016, arXiv 1603.05027: always 400 iterations at 0.01.
        ('preact_resnet20', {**PREACT, **WARMED}),
        ('preact_resnet110', {**PREACT, **blocks(18), **WARMED}),
        # Veit et al. 2016, arXiv 1605.06431: 164 epochs of 390 steps, the rate divided by 10 after 81 and 122.
        (
            'veit2016',
            {
                **PREACT,
                **blocks(18),
                'data.normalize': 'channel',
                'train.schedule.boundaries': [31_590, 47_580],
                'train.schedule.steps': 63_960,
                'run.steps': 63_960,
            },
        ),
    ],
)
def test_the_recipes_of_cifar10_differ_as_the_papers_do(recipe, expected):
    assert differences(f'configs/cifar10.py:{recipe}') == expected


def test_the_digits_are_thirty_epochs_of_a_pre_activation_resnet110():
    assert differences('configs/digits.py', 'configs/default.py') == {
        **PREACT,
        **blocks(18),
        'data.dataset': 'digits',
        'data.normalize': 'channel',
        'data.shift': 1,
        'data.flip': False,
        'train.nesterov': True,
        'train.schedule.name': 'cosine',
        'train.schedule.steps': 30 * (1438 // 128),
        'train.schedule.warmup': 'linear',
        'train.schedule.warmup_steps': 33,
        'run.steps': 330,
        'run.log_every': 11,
        'run.eval_every': 33,
        'run.eval_batch': 360,
        'run.save_every': 110,
    }


# CIFAR-100


def test_pre_activation_networks_of_cifar100_are_trained_as_those_of_cifar10_and_wide_ones_by_their_own_recipe():
    """He et al. 2016, arXiv 1603.05027, appendix; Zagoruyko and Komodakis 2016, arXiv 1605.07146, section 3."""
    for name in ('preact_resnet164', 'resnet110', 'resnet20'):
        assert differences(f'configs/cifar100.py:{name}', f'configs/cifar10.py:{name}') == {
            'data.dataset': 'cifar100', **(WARMED if name == 'resnet20' else {})
        }  # fmt: skip
    wide = differences('configs/cifar100.py:wrn28_10', 'configs/default.py')
    assert {key: value for key, value in wide.items() if not key.startswith('network.')} == {
        'data.dataset': 'cifar100',
        'unit': 'epoch',
        'data.normalize': 'channel',
        'train.weight_decay': 5e-4,
        'train.nesterov': True,
        'train.schedule.factor': 0.2,
        'train.schedule.boundaries': [60, 120, 160],
        'train.schedule.steps': 200,
        'run.steps': 200,
        'run.eval_every': 5,
        'run.save_every': 5,
    }


# ImageNet


def recipe(argument):
    """The settings of a recipe of ImageNet that are not the default, those of the network apart; and the network's that
    are not those of its name."""
    config = configuration.load(f'configs/imagenet.py:{argument}')
    own = differences(f'configs/imagenet.py:{argument}', 'configs/default.py')
    name = {'he2015': 'resnet50_v1', 'bag_of_tricks': 'resnet50d'}.get(argument, 'resnet50')
    named = spec.flatten({**default.get_config().network, **zoo.settings(name)})
    network = {key: value for key, value in spec.flatten(config.network).items() if value != named[key]}
    return {key: value for key, value in own.items() if not key.startswith('network.')}, network


def of_imagenet(epochs, **more):
    """What the four have in common: images of 224 pixels, one evaluation an epoch on the centre of 256."""
    return {
        'unit': 'epoch', 'data.dataset': 'imagenet2012', 'data.pixels': 224, 'data.crop_fraction': 224 / 256,
        'data.shift': 0, 'run.eval_every': 1, 'run.save_every': 1, 'run.eval_batch': 256, 'run.steps': epochs,
        'train.schedule.steps': epochs, **more,
    }  # fmt: skip


BOXES = {'data.crop': 'random_resized', 'data.normalize': 'imagenet'}
KERNELS_ALONE = {'train.undecayed': ['bias', 'scale', 'gain', 'value']}
NESTEROV = {'train.nesterov': True}
SCALED = {'train.schedule.scaling': 'linear'}  # its batch of 256 is the default
FIVE = {'train.schedule.warmup_steps': 5}
COSINE = {'train.schedule.name': 'cosine', 'train.schedule.warmup': 'linear', **FIVE}


def test_he2015_is_its_section_3_4():
    """600,000 steps of 256 are 120 epochs; decay 1e-4, momentum 0.9 and rate 0.1 are the defaults."""
    settings, network = recipe('he2015')
    assert settings == of_imagenet(120, **{
        'data.crop': 'random_scale', 'data.lighting': 0.1, 'train.batch_size': 256,
        'train.schedule.boundaries': [40, 80],
    }) and network == {}  # fmt: skip
    config = configuration.load('configs/imagenet.py:he2015')
    assert round(120 * spec.DATASETS['imagenet2012'][2] / 256, -4) == 600_000
    assert (config.data.crop_scale, config.data.normalize) == ((256, 480), 'pixel_mean')
    train = config.train
    assert (train.weight_decay, train.momentum, train.nesterov) == (1e-4, 0.9, False)
    assert (train.schedule.learning_rate, train.schedule.factor) == (0.1, 0.1)


def test_goyal2017_is_its_section_5():
    """90 epochs of 0.1 a batch of 256, divided by 10 after 30, 60 and 80; γ of the last BN is 0. The warm-up of five
    epochs is that of larger batches."""
    settings, network = recipe('goyal2017')
    assert network == {'gain': 'zero_gamma'}
    assert settings == of_imagenet(90, **{
        **BOXES, **KERNELS_ALONE, **NESTEROV, **FIVE, **SCALED, 'train.batch_size': 256,
        'train.schedule.boundaries': [30, 60, 80],
    })  # fmt: skip
    config = configuration.load('configs/imagenet.py:goyal2017')
    assert (config.data.crop_area, config.data.crop_ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert (config.train.weight_decay, config.train.schedule.learning_rate) == (1e-4, 0.1)
    assert config.train.schedule.scaling_batch == 256


def test_the_bag_of_tricks_is_its_sections_2_and_5():
    """The rate is 0.1 · batch / 256 (section 3.1): 0.4."""
    settings, network = recipe('bag_of_tricks')
    assert network == {'gain': 'zero_gamma'}
    assert settings == of_imagenet(200, **{
        **BOXES, **KERNELS_ALONE, **NESTEROV, **COSINE, **SCALED, 'train.batch_size': 1024,
        'data.jitter': [0.4, 0.4, 0.4, 0.0], 'data.lighting': 0.1, 'train.label_smoothing': 0.1, 'train.mixup': 0.2,
    })  # fmt: skip


def test_strikes_back_a2_is_its_table_2():
    settings, network = recipe('strikes_back_a2')
    assert network == {'gain': 'zero_gamma', 'survival': 0.95}
    assert settings == of_imagenet(300, **{
        **BOXES, **KERNELS_ALONE, **COSINE, 'data.crop_fraction': 0.95, 'data.repeats': 3, 'data.rand_augment': 2,
        'data.rand_augment_magnitude': 0.7, 'data.rand_augment_deviation': 0.05, 'train.batch_size': 2048,
        'train.optimizer': 'lamb', 'train.weight_decay': 0.02, 'train.clip_norm': 1.0,
        'train.loss': 'sigmoid', 'train.mixup': 0.1, 'train.cutmix': 1.0, 'train.schedule.learning_rate': 5e-3,
    })  # fmt: skip


def test_a_networks_name_alone_is_goyals_recipe_and_beside_a_recipe_it_replaces_its_network():
    assert differences('configs/imagenet.py:resnet50', 'configs/imagenet.py:goyal2017') == {}
    assert differences('configs/imagenet.py:he2015,resnet101_v1', 'configs/imagenet.py:he2015') == {
        'network.stage_blocks': [3, 4, 23, 3]
    }
    with pytest.raises(UserError, match='the recipe comes first, one of he2015, goyal2017'):
        configuration.load('configs/imagenet.py:resnet101_v1,he2015')
    plain = spec.flatten(configuration.load('configs/imagenet.py:goyal2017,plain34'))
    assert plain['network.gain'] == 'none'  # without a shortcut nothing would pass where γ is 0


# Folders


def test_a_folder_is_fine_tuned_gently_and_trained_from_scratch_as_imagenet_is():
    common = {'unit': 'epoch', **BOXES, 'data.dataset': 'folder', 'data.crop_fraction': 0.875, 'data.shift': 0}
    tuned = differences('configs/folder.py:resnet18', 'configs/folder.py:scratch,resnet18')
    assert tuned == {
        'data.crop_area': [0.25, 1.0], 'train.start_from': 'runs/imported', 'train.weight_decay': 1e-5,
        'train.schedule.learning_rate': 0.01, 'train.schedule.steps': 20, 'run.steps': 20,
    }  # fmt: skip
    scratch = differences('configs/folder.py:scratch,resnet18', 'configs/imagenet.py:goyal2017,resnet18')
    assert {key: value for key, value in scratch.items() if not key.startswith('run.')} == {
        'data.dataset': 'folder', 'data.pixels': 0, 'network.gain': 'none', 'train.batch_size': 32,
        'train.undecayed': [], 'train.schedule.name': 'cosine', 'train.schedule.steps': 100,
        'train.schedule.boundaries': [32_000, 48_000], 'train.schedule.warmup': 'linear',
        'train.schedule.warmup_steps': 1, 'train.schedule.scaling': 'none',
    }  # fmt: skip
    assert common.items() <= spec.flatten(configuration.load('configs/folder.py:scratch,resnet18')).items()
