"""The named networks: their parameters and multiply-adds, each by a count that is not this project's; their names.

Where no other program counts a network, the formula is written down here, from the layers that its paper lists.
"""

import pytest

from resnet_jax.errors import UserError
from resnet_jax.models import counts, zoo
from tests.models.named import named

M, G = 10**6, 10**9

# CIFAR-10 by He et al. 2015 (arXiv 1512.03385, section 4.2), n blocks a stage. Parameters: stem 432 + 32; convolutions
# 4,608 n, 18,432 n - 4,608 and 73,728 n - 18,432; BN 448 n; dense 650. Multiply-adds: stem 442,368; convolutions
# 2,359,296 each, but the first of stages 2 and 3, 1,179,648; dense 640. Without shortcuts the same: shortcut A has no
# parameters. Pre-activation too: each block normalises its input (32, 64 or 128 numbers) where it normalised the
# second convolution's output. The first block has no need to, which saves 32; the entry blocks of stages 2 and 3 have
# narrower inputs, which saves 32 and 64; the head's BN adds 128.
BASIC = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18, 1202: 200}


def basic(n):
    return 97_216 * n - 21_926, 14_155_776 * n - 1_916_288


def bottlenecks(n, bn=1344, projections=True):
    """CIFAR-10 with bottlenecks of 16, 32 and 64 filters (He et al. 2016, arXiv 1603.05027), n a stage; `bn`: its
    parameters but for those 1,344 of every further block of each stage."""
    stages = ((1024, 16, 16), (256, 64, 32), (64, 128, 64))  # pixels, channels that come in, filters m
    parameters, multiply_adds = 432 + bn + 1344 * (n - 1) + 2570, 442_368 + 2560
    for pixels, inputs, m in stages:
        weights = inputs * m + 9 * m * m + m * 4 * m + (n - 1) * (4 * m * m + 9 * m * m + m * 4 * m)
        weights += inputs * 4 * m if projections else 0
        parameters, multiply_adds = parameters + weights, multiply_adds + pixels * weights
    return parameters, multiply_adds


# BN of stem, first blocks and projections. Pre-activation: those of the stem and head, and of the first blocks, the
# first of all having one less.
BN = 32 + 12 * (16 + 32 + 64) + 2 * (64 + 128 + 256)
PLAIN_BN = 32 + 12 * (16 + 32 + 64)
PREACT_BN = 32 + 4 * 16 + (2 * 64 + 4 * 32) + (2 * 128 + 4 * 64) + 2 * 256


def inception_resnet():
    """Three blocks each of A, B and C (Szegedy et al. 2016, arXiv 1602.07261, figures 10, 11, 13): 8, 18 and 27 filters
    in every path's convolutions, each with BN, and a 1x1 convolution with bias; projections into stages 2 and 3."""
    a = 3 * (64 * 8) + (9 * 8 * 8) + 2 * (9 * 8 * 8) + 24 * 64
    b = [2 * inputs * 18 + 2 * 7 * 18 * 18 + 36 * 128 for inputs in (64, 128, 128)]
    c = [2 * inputs * 27 + 2 * 3 * 27 * 27 + 54 * 256 for inputs in (128, 256, 256)]
    b[0] += 64 * 128
    c[0] += 128 * 256
    stem = 27 * 64
    bn = 128 + 3 * (6 * 16) + (3 * 4 * 36 + 256) + (3 * 4 * 54 + 512)
    biases = 3 * (64 + 128 + 256) + 10
    multiply_adds = 1024 * (stem + 3 * a) + 256 * sum(b) + 64 * sum(c) + 2560
    return stem + 3 * a + sum(b) + sum(c) + 2560 + bn + biases, multiply_adds


def vgg19_small():
    """Sixteen 3x3 convolutions with BN (Simonyan & Zisserman 2015, arXiv 1409.1556, table 1, E), one dense layer."""
    widths = [(64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4]
    parameters, multiply_adds, channels = 5130, 5120, 3
    for stage, filters in enumerate(widths):
        for width in filters:
            parameters += 9 * channels * width + 2 * width
            multiply_adds += (32 >> stage) ** 2 * 9 * channels * width
            channels = width
    return parameters, multiply_adds


# Parameters and multiply-adds: the sizes of `parameters()`, and hooks on Conv2d and Linear.
GOLDEN = {
    **{f'{family}{depth}': basic(n) for family in ('resnet', 'plain', 'preact_resnet') for depth, n in BASIC.items()},
    **{f'resnet{depth}': bottlenecks(n, BN) for depth, n in ((164, 18), (1001, 111))},
    **{f'plain{depth}': bottlenecks(n, PLAIN_BN, projections=False) for depth, n in ((164, 18), (1001, 111))},
    # The authors' code (KaimingHe/resnet-1k-layers), counted in torch.
    'preact_resnet164': (1_703_258, 244_500_992),
    'preact_resnet1001': (10_327_706, 1_487_849_984),
    # The authors' (yueatsprograms/Stochastic_Depth), of which the convolutions' biases, which BN undoes, are left out.
    'stochastic_resnet110': (1_727_962, 252_887_680),
    # The authors' (szagoruyko/wide-residual-networks, facebookresearch/ResNeXt), counted in torch.
    'wrn16_4': (2_748_890, 392_612_352),
    'wrn28_10': (36_479_194, 5_243_328_768),
    'resnext29_8x64d': (34_426_698, 5_387_266_048),
    'resnext29_16x64d': (68_155_210, 10_688_866_304),
    'inception_resnet_small': inception_resnet(),
    'vgg19_small': vgg19_small(),
    # torchvision 0.29.2: models of these names.
    'resnet18': (11_689_512, 1_814_073_344),
    'resnet34': (21_797_672, 3_663_761_408),
    'resnet50': (25_557_032, 4_089_184_256),
    'resnet101': (44_549_160, 7_801_405_440),
    'resnet152': (60_192_808, 11_513_626_624),
    'wide_resnet50_2': (68_883_240, 11_398_021_120),
    'wide_resnet101_2': (126_886_696, 22_753_050_624),
    'resnext50_32x4d': (25_028_904, 4_230_479_872),
    'resnext101_32x8d': (88_791_336, 16_414_015_488),
    'resnext101_64x4d': (83_455_272, 15_460_270_080),
    'vgg19': (143_667_240, 19_632_062_464),
    # torchvision's ResNet(Bottleneck, [3, 24, 36, 3]).
    'resnet200': (64_673_832, 15_007_481_856),
    # torchvision's with the stride of conv2 moved to conv1.
    'resnet50_v1': (25_557_032, 3_857_973_248),
    'resnet101_v1': (44_549_160, 7_570_194_432),
    'resnet152_v1': (60_192_808, 11_282_415_616),
    'resnet200_v1': (64_673_832, 14_776_270_848),
    # torchvision's without its shortcuts, projections too.
    'plain18': (11_515_688, 1_794_805_760),
    'plain34': (21_623_848, 3_644_493_824),
    # timm 1.0.31: models of these names.
    'resnet50c': (25_576_264, 4_328_824_832),
    'resnet18d': (11_708_744, 2_053_713_920),
    'resnet34d': (21_816_904, 3_903_401_984),
    'resnet50d': (25_576_264, 4_328_824_832),
    'resnet101d': (44_568_392, 8_041_046_016),
    'resnet152d': (60_212_040, 11_753_267_200),
    'resnet200d': (64_693_064, 15_247_122_432),
    'seresnet50': (28_088_024, 4_091_699_200),
    'nf_resnet50': (25_557_032, 4_089_184_256),
    # timm's resnetv2_50, _101, _152; of 200 layers its class, made alike.
    'preact_resnet50': (25_549_352, 4_089_184_256),
    'preact_resnet101': (44_541_480, 7_801_405_440),
    'preact_resnet152': (60_185_128, 11_513_626_624),
    'preact_resnet200': (64_666_152, 15_007_481_856),
}  # fmt: skip


def test_every_named_network_has_an_expected_count():
    assert set(GOLDEN) == set(zoo.NAMES) and len(set(zoo.NAMES)) == len(zoo.NAMES)


@pytest.mark.parametrize(('name', 'expected'), GOLDEN.items())
def test_a_named_network_costs_what_it_does_elsewhere(name, expected):
    arch = named(name)
    assert (counts.parameters(arch), counts.multiply_adds(arch)) == expected


def test_the_formula_of_bottlenecks_is_that_of_the_authors_code():
    for depth, n in ((164, 18), (1001, 111)):
        assert bottlenecks(n, PREACT_BN) == GOLDEN[f'preact_resnet{depth}']


@pytest.mark.parametrize('n', [1, 2, 7, 29])
def test_any_depth_has_a_name_and_the_closed_form_of_its_kind(n):
    for family in zoo.CIFAR_FAMILIES:
        arch = named(f'{family}{6 * n + 2}')
        assert (counts.parameters(arch), counts.multiply_adds(arch)) == basic(n)
    if n % 2:  # else the depth is one of basic blocks too, which it then means
        arch = named(f'resnet{9 * n + 2}')
        assert (counts.parameters(arch), counts.multiply_adds(arch)) == bottlenecks(n, BN)


# Figures that the papers print, and what they count in.
PUBLISHED = [
    # He et al. 2015, table 6 (parameters) and table 1 (FLOPs; those of 34 layers without projections).
    *(('parameters', f'resnet{depth}', figure, M) for depth, figure in
      ((20, '0.27'), (32, '0.46'), (44, '0.66'), (56, '0.85'), (110, '1.7'), (1202, '19.4'))),
    *(('multiply_adds', name, figure, G) for name, figure in
      (('resnet18', '1.8'), ('plain34', '3.6'), ('resnet50_v1', '3.8'), ('resnet101_v1', '7.6'),
       ('resnet152_v1', '11.3'), ('vgg19', '19.6'))),
    # Zagoruyko & Komodakis 2016, arXiv 1605.07146, table 5.
    *(('parameters', name, figure, M) for name, figure in
      (('wrn28_10', '36.5'), ('preact_resnet164', '1.7'), ('stochastic_resnet110', '1.7'))),
    # Xie et al. 2017, arXiv 1611.05431, tables 7 and 1.
    *(('parameters', name, figure, M) for name, figure in
      (('resnext29_8x64d', '34.4'), ('resnext29_16x64d', '68.1'), ('resnext50_32x4d', '25.0'))),
    *(('multiply_adds', name, figure, G) for name, figure in (('resnet50', '4.1'), ('resnext50_32x4d', '4.2'))),
    # He et al. 2018, arXiv 1812.01187, table 5.
    ('multiply_adds', 'resnet50c', '4.3', G),
    ('multiply_adds', 'resnet50d', '4.3', G),
]  # fmt: skip


@pytest.mark.parametrize(('what', 'name', 'figure', 'unit'), PUBLISHED)
def test_counts_agree_with_the_figures_that_papers_print(what, name, figure, unit):
    """Within a unit of the last digit: some figures are rounded, some cut off."""
    last = unit / 10 ** len(figure.partition('.')[2])
    assert abs(getattr(counts, what)(named(name)) - float(figure) * unit) < last


def test_the_figure_printed_of_1001_layers_is_that_without_bn():
    """Zagoruyko & Komodakis 2016, table 5: 10.2M."""
    layers = counts.layers(named('preact_resnet1001'))
    assert round(sum(layer.parameters for layer in layers if '/bn' not in layer.name) / M, 1) == 10.2


# Names


def test_a_small_network_is_of_cifar_and_a_fixed_one_of_imagenet():
    assert {named(name).image_shape for name in zoo.SMALL} == {(32, 32, 3)}
    assert {named(name).image_shape for name in zoo.FIXED} == {(224, 224, 3)}


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('resnet_20', 'did you mean resnet20?'),
        ('preact_resnet_110', 'did you mean preact_resnet110?'),
        ('resnet21', "no network is called 'resnet21'; did you mean resnet20 or resnet26?"),
        ('resnet49', 'did you mean resnet47 or resnet50?'),
        ('plain0', 'did you mean plain8?'),
        ('preact_resnet2', 'did you mean preact_resnet8?'),
        ('wrn27_10', 'did you mean wrn22_10 or wrn28_10?'),
        ('wrn28_0', 'did you mean wrn28_10?'),
        ('resnext50_33x4d', 'did you mean resnext50_32x4d?'),
        ('resnet51d', 'did you mean resnet50d?'),
        ('densenet121', 'any depth 6n+2 or 9n+2, wrnN_K any 6n+4'),
        ('', "no network is called ''"),
        ('20', "no network is called '20'"),
        ('resnet' + '9' * 30, 'no network is called'),
        ('resnet20\n', "no network is called 'resnet20\\n'"),
    ],
)
def test_an_unknown_network_is_refused_with_the_nearest_names(name, said):
    with pytest.raises(UserError) as error:
        zoo.settings(name)
    assert said in str(error.value) and '\n' not in str(error.value)


def test_the_settings_of_a_name_are_ones_own():
    zoo.settings('resnet50')['stage_blocks'] = (1,)
    zoo.settings('resnet20')['stage_blocks'] = (1,)
    assert zoo.settings('resnet50')['stage_blocks'] == (3, 4, 6, 3)
    assert zoo.settings('resnet20')['stage_blocks'] == (3, 3, 3)
