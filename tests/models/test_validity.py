"""Which settings go together: what is refused and how; what is accepted can be computed, and costs what is counted."""

import itertools
import random
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from resnet_jax.errors import UserError
from resnet_jax.models import counts, validity
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.resnet import ResNet
from resnet_jax.validity import check as check_config
from tests.models.named import named

BOTTLENECK = {'block': 'bottleneck', 'mid_ratios': (0.25, 0.25)}
NF = {'norm': 'none', 'conv': 'scaled_standardized', 'placement': 'full_preactivation'}
FULL = {'placement': 'full_preactivation'}
GROUP = {'norm': 'group', 'norm_groups': 16}

REFUSED = [
    *(({key: 'x'}, f"config.network.{key} is 'x'; it must be one of {choices[0]}, ")
      for key, choices in validity.CHOICES.items()),
    # Numbers
    ({'stage_blocks': ()}, 'config.network.stage_blocks is []; it must name the blocks of at least one stage'),
    ({'widths': (16, 32)}, 'config.network.widths is [16, 32]; it must have one number for each of the 3 stages'),
    ({'stem_strides': (2, 2)}, 'config.network.stem_strides is [2, 2]; it must have 7 numbers'),
    *(({key: 0}, f'config.network.{key} is 0; it must be at least 1')
      for key in ('groups', 'strided_conv', 'stem_width', 'norm_groups')),
    *(({key: -1}, f'config.network.{key} is -1; it must be at least 0') for key in ('squeeze_excite', 'norm_examples')),
    *(({key: value}, f'config.network.{key} is {value}; it must be at least 0 and below 1')
      for key in ('dropout', 'shortcut_dropout', 'head_dropout', 'norm_momentum')
      for value in (-0.1, 1.0, float('nan'))),
    *(({'survival': value}, f'config.network.survival is {value}; it must be above 0 and at most 1')
      for value in (0.0, 1.1, float('nan'))),
    *(({key: value}, f'config.network.{key} is {value}; it must be a finite number of at least 0')
      for key in ('norm_epsilon', 'nf_alpha') for value in (-0.1, float('inf'), float('nan'))),
    *(({key: value}, f'config.network.{key} is {value}; it must be a finite number')
      for key in ('shortcut_scale', 'residual_scale', 'gate_bias') for value in (float('-inf'), float('nan'))),
    # Convolutions of a branch
    ({'block': 'bottleneck'}, 'config.network.mid_ratios is [1.0]; it must have two numbers for the bottleneck'),
    ({'strided_conv': 3}, 'config.network.strided_conv is 3; it must be at most 2: a branch of basic strides there at'),
    ({'block': 'inception', 'strided_conv': 2}, 'config.network.strided_conv is 2; it must be at most 1'),
    ({'groups': 2}, "config.network.groups is 2, which cannot go with block 'basic': only the bottleneck has a"),
    ({**BOTTLENECK, 'groups': 3}, 'config.network.groups is 3; it must divide the 4 filters of the grouped'),
    ({'block': 'inception', 'dropout': 0.5}, "config.network.dropout is 0.5, which cannot go with block 'inception'"),
    ({'mid_ratios': (), 'dropout': 0.5}, 'it stands between two convolutions of a chain; use 0'),
    ({'mid_ratios': (0.01,)}, 'config.network leaves stage1/block1/conv1 no filter; use a wider stem_width, widths'),
    ({'block': 'inception', 'stem_width': 3, 'widths': (3, 8, 16)}, 'leaves stage1/block1/conv_3x3 no filter'),
    ({'stem': 'three', 'stem_width': 1}, 'config.network leaves stem/conv1 no filter'),
    ({'block': 'linear_projection', 'dense_join': 'concatenate', 'widths': (16, 33, 64)},
     'config.network.widths is [16, 33, 64]; it must be even'),
    ({'downsample': 'max_pool', 'block': 'downsampling'}, "which cannot go with block 'downsampling': that block has"),
    ({'downsample': 'max_pool', 'stage_blocks': (1,) * 6, 'widths': (16,) * 6},
     "config.network.downsample is 'max_pool', which halves the 32 px behind the stem 6 times"),
    ({'downsample': 'max_pool', 'stem': 'deep', 'stem_strides': (2,) * 4 + (1,) * 3}, 'halves the 2 px behind the'),
    # Shortcuts
    ({'shortcut': 'identity'}, "config.network.shortcut is 'identity', but stage 2 changes the shape (16 to 32"),
    ({'shortcut': 'identity', 'stem_width': 8}, "stage 1 changes the shape (the stem's 8 to 16 filters, strides 1)"),
    ({'widths': (64, 32, 16)}, 'config.network.widths [64, 32, 16] narrow in stage 2 (64 to 32 filters), and'),
    ({'widths': (8, 16, 32), 'shortcut': 'exclusive_gating'}, "narrow in stage 1 (the stem's 16 to 8 filters), and"),
    ({'shortcut': 'none', 'join': 'concatenate'}, 'there is no shortcut to join; use add'),
    ({'shortcut': 'none', 'shortcut_scale': 0.5}, 'there is no shortcut to join; use 1'),
    # Normalisation
    ({'norm': 'group'}, 'config.network.norm_groups is 32; it must divide the 16 channels of stem/bn1'),
    ({**GROUP, **BOTTLENECK}, 'it must divide the 4 channels of stage1/block1/bn1'),
    ({**GROUP, 'block': 'inception'}, 'it must divide the 4 channels of stage1/block1/bn_1x1'),
    ({**GROUP, 'stem': 'three'}, 'it must divide the 8 channels of stem/bn1'),
    ({**GROUP, 'norm_examples': 32}, "config.network.norm_examples is 32, which cannot go with norm 'group'"),
    ({'norm': 'none', 'norm_examples': 32}, 'only batch normalisation takes examples together; use 0'),
    # Gains
    ({'gain': 'zero_gamma', 'norm': 'none'}, "gain is 'zero_gamma', which cannot go with norm 'none': there is no γ"),
    ({'gain': 'zero_gamma', **FULL}, "which cannot go with placement 'full_preactivation': the branch does not end in"),
    ({'gain': 'zero_gamma', 'placement': 'bn_after_addition'}, 'the branch does not end in normalisation there'),
    ({'gain': 'zero_gamma', 'block': 'linear_projection'}, 'its branch does not end in normalisation'),
    ({'gain': 'skipinit'}, "with norm 'batch': SkipInit stands in for normalisation: use norm none, or rezero"),
    ({'gain': 'fixup'}, "cannot go with norm 'batch': Fixup is training without normalisation: use norm none"),
    ({'gain': 'fixup', 'norm': 'none', **FULL}, 'Fixup is defined for the original placement'),
    ({'gain': 'fixup', 'norm': 'none', 'block': 'inception'}, 'Fixup needs a chain of two convolutions or more'),
    ({'gain': 'fixup', 'norm': 'none', 'mid_ratios': ()}, 'Fixup needs a chain of two convolutions or more'),
    ({'gain': 'fixup', 'norm': 'none', 'conv': 'standardized'}, "Fixup's kernels start at zero, and cannot be"),
    ({'gain': 'fixup', 'norm': 'none', 'dropout': 0.5}, 'config.network.dropout is 0.5, which cannot go with'),
    ({'gain': 'fixup', 'norm': 'none', 'stem': 'three'}, 'Fixup has its biases in a stem of one convolution'),
    ({'gain': 'fixup', 'norm': 'none', 'join': 'concatenate'}, 'Fixup is defined for the sum'),
    ({'gain': 'rezero', 'shortcut': 'none'}, 'a branch that starts at 0 passes nothing, and nothing passes beside it'),
    ({'residual_scale': 0.0, 'shortcut': 'none'}, 'config.network.residual_scale is 0.0, which cannot go with'),
    ({'survival': 0.5, 'shortcut': 'none'}, 'where a branch is dropped nothing would pass; use 1.0'),
    ({**NF, 'gain': 'nf', **FULL, 'shortcut': 'A'}, 'the variance starts anew at each projection, and there alone'),
    ({'gain': 'nf'}, "cannot go with norm 'batch': NF networks are without normalisation: use norm none"),
    ({**NF, 'gain': 'nf', 'conv': 'plain'}, "go with conv 'plain': NF networks have scaled_standardized kernels"),
    ({**NF, 'gain': 'nf', 'placement': 'original'}, 'NF networks are pre-activated'),
]  # fmt: skip


@pytest.mark.parametrize(('settings', 'said'), REFUSED, ids=lambda value: str(value) if isinstance(value, dict) else '')
def test_what_cannot_be_is_refused_in_one_line(settings, said):
    config = default.get_config()
    config.network.update(settings)
    with pytest.raises(UserError) as error:
        check_config(config)
    assert said in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
    'settings',
    [
        {'shortcut': 'B', 'widths': (64, 32, 16)},
        {'shortcut': 'none', 'widths': (64, 32, 16)},
        {'shortcut': 'identity', 'block': 'downsampling', 'widths': (64, 32, 16)},
        {'shortcut': 'identity', 'stage_blocks': (3,), 'widths': (16,)},
        {'downsample': 'max_pool', 'stage_blocks': (1,) * 5, 'widths': (16,) * 5},
        {**GROUP, **BOTTLENECK, 'mid_ratios': (1.0, 1.0)},
        {**BOTTLENECK, 'strided_conv': 3, 'groups': 4},
    ],
    ids=str,
)
def test_what_is_nearly_refused_is_accepted(settings):
    validity.check(named('resnet20', **settings))


# Whatever is accepted can be computed

CHOICES = [(key, choice) for key, choices in validity.CHOICES.items() for choice in choices]

# What a choice cannot do without.
WITH = {
    ('block', 'bottleneck'): BOTTLENECK,
    ('shortcut', 'identity'): {'block': 'downsampling'},
    ('gain', 'skipinit'): {'norm': 'none'},
    ('gain', 'fixup'): {'norm': 'none'},
    ('gain', 'nf'): NF,
}

NUMBERS = {
    'stem_width': (1, 2, 3, 8), 'stem_strides': ((1,) * 7, (2, 1, 2, 1, 1, 1, 1)), 'groups': (1, 2), 'dropout': (0.3,),
    'mid_ratios': ((), (0.5,), (0.5, 2.0), (0.25, 0.25)), 'strided_conv': (1, 2, 3), 'squeeze_excite': (4, 100),
    'shortcut_scale': (0.5,), 'residual_scale': (0.1,), 'survival': (0.5,), 'norm_groups': (1, 2, 4),
    'norm_examples': (2,), 'head_widths': ((5,), (4, 3)), 'head_dropout': (0.5,),
}  # fmt: skip


def drawn(rng, settings):
    """A network of small images with these settings, and some others at random."""
    pool = {**validity.CHOICES, **NUMBERS}
    blocks = rng.choice([(2,), (1, 2), (3, 1), (1, 1, 2)])
    widths = rng.choice([(8, 16, 32), (8, 8, 8), (16, 8, 4), (1, 2, 3), (6, 15, 16)])[: len(blocks)]
    others = rng.sample([key for key in pool if key not in settings], rng.randint(1, 9))
    return Architecture(
        **{
            **default.get_config().network.to_dict(), 'stage_blocks': blocks, 'widths': widths,
            'stem_width': rng.choice([4, 8]), 'norm_groups': 4, **{key: rng.choice(pool[key]) for key in others},
            **settings,
        },
        image_shape=(rng.choice([1, 2, 5, 8, 9]), rng.choice([2, 7, 8]), rng.choice([1, 3])),
        classes=rng.choice([1, 10]),
    )  # fmt: skip


def refusal(arch):
    """What a network is refused with; empty where it is not."""
    try:
        validity.check(arch)
    except UserError as error:
        return str(error)
    return ''


@pytest.mark.parametrize('choice', CHOICES, ids='-'.join)
def test_every_choice_is_accepted_among_others_and_what_is_accepted_can_be_computed(choice):
    rng = random.Random('-'.join(choice))
    settings = {**WITH.get(choice, {}), choice[0]: choice[1]}
    arch = next(arch for arch in (drawn(rng, settings) for _ in range(200)) if not refusal(arch))
    network = ResNet(arch)
    variables = jax.eval_shape(network.init_variables, jax.random.key(0))
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params'])) == counts.parameters(arch)

    def logits(variables, images, key):
        return network.apply(variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': key})[0]

    images = jax.ShapeDtypeStruct((4, *arch.image_shape), jnp.float32)
    assert jax.eval_shape(logits, variables, images, jax.random.key(0)).shape == (4, arch.classes)


def test_random_settings_are_accepted_or_refused_in_one_line():
    rng = random.Random(0)
    said = [refusal(drawn(rng, {})) for _ in range(300)]
    assert not any('\n' in each for each in said)
    assert 30 < sum(not each for each in said) < 270


def test_a_network_is_valid_at_any_length():
    """Validity sees two blocks of each stage: they show what a longer body would."""
    short, long = ({'stage_blocks': (count,) * 3} for count in (2, 5))
    for settings in itertools.chain([{}], (each for each, _ in REFUSED if 'stage_blocks' not in each)):
        archs = [replace(named('resnet20'), **{**settings, **blocks}) for blocks in (short, long)]
        assert len({bool(refusal(arch)) for arch in archs}) == 1
