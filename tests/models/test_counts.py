"""What networks cost, against layers written down by hand: parameters, multiply-adds, activations, receptive field."""

import re
from dataclasses import replace

import pytest

from resnet_jax.models import counts, zoo
from tests.models.named import named


def of(arch, what, part=''):
    """The sum over the layers whose names begin so."""
    return sum(getattr(layer, what) for layer in counts.layers(arch) if layer.name.startswith(part))


def field(arch):
    """Pixels that a value of the last convolution sees."""
    return max(layer.signal.field for layer in counts.layers(arch))


def test_layers_are_named_in_network_order():
    names = [layer.name for layer in counts.layers(named('preact_resnet8', shortcut='B'))]
    assert names == [
        'stem/conv1', 'stem/bn1',
        'stage1/block1/conv1', 'stage1/block1/bn2', 'stage1/block1/conv2',
        'stage2/block1/bn1', 'stage2/block1/conv1', 'stage2/block1/bn2', 'stage2/block1/conv2',
        'stage2/block1/conv_proj',
        'stage3/block1/bn1', 'stage3/block1/conv1', 'stage3/block1/bn2', 'stage3/block1/conv2',
        'stage3/block1/conv_proj',
        'head/bn', 'head/dense',
    ]  # fmt: skip


def test_the_blocks_of_an_architecture():
    arch = named('preact_resnet110')
    assert (arch.blocks, counts.depth(arch), arch.entry_blocks) == (54, 110, (0, 18, 36))
    assert [index for index, agree in enumerate(arch.shortcut_shapes_agree) if not agree] == [18, 36]
    assert (arch.image_shape, arch.classes) == ((32, 32, 3), 10)
    assert named('resnet50').shortcut_shapes_agree[:4] == (False, True, True, False)  # 64 to 256 filters in stage 1


# Parameters

RESNET20 = 269_722


@pytest.mark.parametrize(
    ('shortcut', 'original', 'preact'),
    [
        # Projections: 16 x 32 and 32 x 64 weights. Behind an original block's BN follows, behind pre-activation none.
        ('B', 512 + 64 + 2048 + 128, 512 + 2048),
        # n = 3: three of 16 x 16; 16 x 32 and two of 32 x 32; 32 x 64 and two of 64 x 64; BN 3 (32 + 64 + 128).
        ('C', 3 * 256 + 512 + 2 * 1024 + 2048 + 2 * 4096 + 672, 3 * 256 + 512 + 2 * 1024 + 2048 + 2 * 4096),
        ('conv', *[3 * 256 + 512 + 2 * 1024 + 2048 + 2 * 4096] * 2),
        # A gate is a 1x1 convolution with bias beside each branch: as the projections of C, and a bias a filter.
        ('shortcut_gating', *[768 + 2560 + 2048 + 8192 + 3 * (16 + 32 + 64)] * 2),
        ('exclusive_gating', *[768 + 2560 + 2048 + 8192 + 3 * (16 + 32 + 64)] * 2),
        ('dropout', 0, 0),
        ('none', 0, 0),
    ],
)
def test_shortcuts_add_their_parameters(shortcut, original, preact):
    assert counts.parameters(named('resnet20', shortcut=shortcut)) == RESNET20 + original
    assert counts.parameters(named('preact_resnet20', shortcut=shortcut)) == RESNET20 + preact


# Of each stage's body of two blocks: 3x3 kernels of one block, and BN.
KERNELS, NORMS = 2 * 9 * (16**2 + 32**2 + 64**2), 4 * (16 + 32 + 64)


@pytest.mark.parametrize(
    ('share', 'once'), [('none', 0), ('kernels', KERNELS), ('parameters', KERNELS + NORMS), ('all', KERNELS + NORMS)]
)
def test_what_the_blocks_of_a_body_share_is_counted_once(share, once):
    arch = named('resnet20', share=share)
    assert counts.parameters(arch) == RESNET20 - once
    assert counts.multiply_adds(arch) == 40_551_040


@pytest.mark.parametrize(
    ('changes', 'more'),
    [
        # BN has two numbers a filter: 688 filters in all but the head's; biases of 688 filters in its place.
        ({'norm': 'none'}, -688),
        ({'norm': 'group', 'norm_groups': 8}, 0),
        ({'conv': 'standardized'}, 0),
        ({'conv': 'scaled_standardized'}, 688),
        # Of each of nine blocks: four biases and a gain; the stem's bias, the head's.
        ({'norm': 'none', 'gain': 'fixup'}, -2 * 688 + 9 * 5 + 2),
        ({'norm': 'none', 'gain': 'skipinit'}, -688 + 9),
        ({'gain': 'rezero'}, 9),
        # 16, 32 and 64 channels down to a quarter and up again, with biases.
        ({'squeeze_excite': 4}, 3 * sum(2 * c * (c // 4) + c // 4 + c for c in (16, 32, 64))),
        ({'head_widths': (100,)}, -650 + 6500 + 1010),
        ({'pool': 'both'}, 640),
        ({'pool': 'flatten'}, 63 * 640),
        # A 1x1 convolution from twice the width, with BN, behind every block.
        ({'join': 'concatenate'}, 3 * sum(2 * c * c + 2 * c for c in (16, 32, 64))),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_setting_adds_in_parameters(changes, more):
    assert counts.parameters(named('resnet20', **changes)) == RESNET20 + more


# Multiply-adds and activations


def test_multiply_adds_of_resnet20_are_40_55_million():
    by_hand = {
        'stem/conv1': 32 * 32 * 9 * 3 * 16,  # 442,368
        'stage1': 6 * 32 * 32 * 9 * 16 * 16,  # six of 2,359,296
        'stage2': 16 * 16 * 9 * 16 * 32 + 5 * 16 * 16 * 9 * 32 * 32,  # 1,179,648 and five of 2,359,296
        'stage3': 8 * 8 * 9 * 32 * 64 + 5 * 8 * 8 * 9 * 64 * 64,
        'head/dense': 640,
    }
    arch = named('resnet20')
    assert {part: of(arch, 'multiply_adds', part) for part in by_hand} == by_hand
    assert counts.multiply_adds(arch) == sum(by_hand.values()) == 40_551_040
    assert counts.multiply_adds(named('plain20')) == counts.multiply_adds(named('preact_resnet20')) == 40_551_040
    # A projection sees the pixels of its output: 256 x 16 x 32 and 64 x 32 x 64.
    assert counts.multiply_adds(named('resnet20', shortcut='B')) == 40_551_040 + 131_072 + 131_072


def test_halving_the_map_while_doubling_the_filters_keeps_the_cost_of_a_convolution():
    """He et al. 2015, section 3.3. The activations are halved by it."""
    arch = named('resnet34')
    for stage, pixels in enumerate((56**2, 28**2, 14**2, 7**2), start=1):
        (conv,) = (layer for layer in counts.layers(arch) if layer.name == f'stage{stage}/block2/conv2')
        assert conv.multiply_adds == 56**2 * 9 * 64**2 == pixels * 9 * (64 << stage >> 1) ** 2
        assert conv.activations == 56**2 * 64 >> (stage - 1) == pixels * (64 << stage >> 1)


def test_costs_of_odd_images_round_up():
    arch = replace(named('resnet8', stem_width=1, widths=(1, 1, 1)), image_shape=(7, 5, 1))
    pixels = [35, 35, 35, 4 * 3, 4 * 3, 2 * 2, 2 * 2]
    convs = [layer for layer in counts.layers(arch) if 'conv' in layer.name]
    assert [conv.multiply_adds for conv in convs] == [9 * count for count in pixels]
    assert [conv.activations for conv in convs] == pixels


def test_max_pools_round_down_and_padded_ones_up():
    pooled = replace(named('plain8', downsample='max_pool'), image_shape=(15, 14, 3))
    sizes = {layer.name: (layer.signal.height, layer.signal.width) for layer in counts.layers(pooled)}
    assert sizes['stem/conv1'] == (15, 14) and sizes['stage2/block1/conv1'] == (7, 7)
    assert sizes['stage3/block1/conv1'] == (3, 3)
    stem = replace(named('resnet18'), image_shape=(15, 14, 3))  # 7x7/2: 8x7; 3x3/2 padded by 1: 4x4
    sizes = {layer.name: (layer.signal.height, layer.signal.width) for layer in counts.layers(stem)}
    assert sizes['stem/conv1'] == (8, 7) and sizes['stage1/block1/conv1'] == (4, 4)


def test_activations_are_what_convolutions_and_dense_layers_give():
    arch = named('resnet20', shortcut='B')
    assert of(arch, 'activations', 'stem') == 32 * 32 * 16
    assert of(arch, 'activations', 'stage2') == (6 + 1) * 16 * 16 * 32
    assert of(arch, 'activations', 'head') == 10


@pytest.mark.parametrize(
    ('name', 'millions'), [('resnet50', 11.1), ('resnet101', 16.2), ('resnet152', 22.6), ('resnext50_32x4d', 14.4)]
)
def test_activations_are_those_published(name, millions):
    """Radosavovic et al. 2020, arXiv 2003.13678, table 4."""
    assert round(of(named(name), 'activations') / 10**6, 1) == millions


# Receptive field


def test_the_receptive_field_of_a_chain_of_3x3_grows_by_two_at_every_convolution():
    chain = named('plain20', stage_blocks=(5,), widths=(16,))
    fields = [layer.signal.field for layer in counts.layers(chain) if 'conv' in layer.name]
    assert fields == [3 + 2 * layer for layer in range(11)]


def test_strides_spread_what_follows_them():
    fields = {layer.name: layer.signal.field for layer in counts.layers(named('resnet20'))}
    assert [fields[f'stage1/block{block}/conv2'] for block in (1, 2, 3)] == [7, 11, 15]
    assert fields['stage2/block1/conv1'] == 15 + 2  # it strides itself, and sees every pixel
    assert [fields[f'stage2/block{block}/conv2'] for block in (1, 2, 3)] == [17 + 4, 21 + 8, 29 + 8]
    assert [fields[f'stage3/block{block}/conv2'] for block in (1, 2, 3)] == [41 + 8, 49 + 16, 65 + 16]
    # The ImageNet stem: 7x7 by 2 sees 7, 3x3 by 2 four more; then pixels are 4 apart.
    fields = {layer.name: layer.signal.field for layer in counts.layers(named('resnet50'))}
    assert fields['stem/conv1'] == 7 and fields['stage1/block1/conv1'] == 11 and fields['stage1/block1/conv2'] == 19


@pytest.mark.parametrize(
    ('name', 'pixels'),
    [
        # Araujo et al. 2019, Computing Receptive Fields of Convolutional Neural Networks (Distill), table 1.
        ('resnet50_v1', 483), ('resnet101_v1', 1027), ('resnet152_v1', 1507),
        # 11 behind the stem; 4 convolutions a stage, pixels 4, 8, 16 and 32 apart behind the first of it.
        ('resnet18', 11 + 4 * 8 + (8 + 3 * 16) + (16 + 3 * 32) + (32 + 3 * 64)),
        # 2, 2, 4, 4 and 4 of 3x3 with pixels 1, 2, 4, 8 and 16 apart, behind each five a pool, which sees one more.
        ('vgg19', 1 + (4 + 1) + (8 + 2) + (32 + 4) + (64 + 8) + (128 + 16)),
    ],
)  # fmt: skip
def test_receptive_fields_are_those_published_or_added_up(name, pixels):
    assert field(named(name)) == pixels


# Depth

# Whose names count otherwise: wide networks their convolutions, projections too; C and D have three in place of one in
# the stem; VGG-19's small one has one dense layer for three.
OTHERWISE = {'resnet50c': 52, 'vgg19_small': 17, **{f'resnet{depth}d': depth + 2 for depth in zoo.IMAGENET_BLOCKS}}


@pytest.mark.parametrize('name', [name for name in zoo.NAMES if re.search(r'\d', name) and not name.startswith('wrn')])
def test_the_depth_is_the_number_in_the_name(name):
    found = re.search(r'\d+', name)
    assert found and counts.depth(named(name)) == OTHERWISE.get(name, int(found[0]))


@pytest.mark.parametrize(('name', 'depth'), [('wrn16_4', 16), ('wrn28_10', 28), ('wrn40_4', 40)])
def test_wide_networks_are_named_after_their_convolutions(name, depth):
    assert sum('conv' in layer.name for layer in counts.layers(named(name))) == depth


def test_the_longest_path_counts():
    assert counts.depth(named('inception_resnet_small')) == 1 + 3 * 4 + 2 * 3 * 4 + 1
    assert counts.depth(named('resnet20', block='linear_projection')) == 1 + 9 * 3 + 1
    assert counts.depth(named('resnet20', join='concatenate')) == 1 + 9 * 3 + 1
