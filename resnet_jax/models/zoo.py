"""Named networks: a name of the literature -> the settings of `config.network` that it means. Imports no JAX.

A bare name is the form in common use (`resnet50` has its strides on the 3x3 convolutions, as torchvision's); the
paper's own is `resnet50_v1`. What a name does not say is as in `configs/default.py`.
"""

import difflib
import re
from collections.abc import Sequence

from resnet_jax.errors import UserError

PREACT = {'placement': 'full_preactivation'}
PLAIN = {'shortcut': 'none'}
CIFAR_FAMILIES = {'resnet': {}, 'plain': PLAIN, 'preact_resnet': PREACT}
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 164, 1001, 1202)

# He et al. 2015, arXiv 1512.03385, table 1.
IMAGENET_BLOCKS = {
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3),
}  # fmt: skip
IMAGENET = {'stem': 'imagenet', 'stem_width': 64, 'widths': (64, 128, 256, 512), 'shortcut': 'B'}
BOTTLENECK = {'block': 'bottleneck', 'mid_ratios': (0.25, 0.25), 'strided_conv': 2}
WIDE = (256, 512, 1024, 2048)
V1 = {'strided_conv': 1}
D = {'stem': 'three', 'subsample': 'average'}


def _imagenet(depth: int, **more) -> dict:
    settings = {**IMAGENET, 'stage_blocks': IMAGENET_BLOCKS[depth]}
    return {**settings, **(BOTTLENECK | {'widths': WIDE} if depth >= 50 else {}), **more}


def _cifar(depth: int, **more) -> dict | None:
    """n blocks of two convolutions in each of three stages, or where 6n+2 does not give the depth, or it is the 164 of
    He et al. 2016 (arXiv 1603.05027), of three (9n+2); None where that does not either."""
    if depth % 6 == 2 and depth >= 8 and depth != 164:
        return {'stage_blocks': ((depth - 2) // 6,) * 3, **more}
    if depth % 9 == 2 and depth >= 11:
        wide = {**BOTTLENECK, **V1, 'stage_blocks': ((depth - 2) // 9,) * 3, 'widths': (64, 128, 256)}
        return {**wide, 'shortcut': 'B', **more}
    return None


def _wide(depth: int, k: int) -> dict | None:
    """WRN-depth-k, depth 6n+4 (Zagoruyko & Komodakis 2016, arXiv 1605.07146, table 1)."""
    if depth % 6 != 4 or depth < 10 or k < 1:
        return None
    widths = (16 * k, 32 * k, 64 * k)
    return {**PREACT, 'stage_blocks': ((depth - 4) // 6,) * 3, 'widths': widths, 'shortcut': 'B'}


def _resnext29(cardinality: int, width: int) -> dict | None:
    """ResNeXt-29 (Xie et al. 2017, arXiv 1611.05431, section 5.3)."""
    if cardinality < 1 or width < 1:
        return None
    ratio = cardinality * width / 256
    return {
        **BOTTLENECK, 'stem_width': 64, 'stage_blocks': (3, 3, 3), 'widths': (256, 512, 1024), 'shortcut': 'B',
        'mid_ratios': (ratio, ratio), 'groups': cardinality,
    }  # fmt: skip


def _resnext(depth: int, cardinality: int, width: int) -> dict:
    """ResNeXt for ImageNet (the same, table 1)."""
    ratio = cardinality * width / 256
    return _imagenet(depth, mid_ratios=(ratio, ratio), groups=cardinality)


def _vgg19(**more) -> dict:
    """The nineteen layers of Simonyan & Zisserman 2015 (arXiv 1409.1556, table 1, E); the first is the stem."""
    return {
        'stem_width': 64, 'stage_blocks': (1, 2, 4, 4, 4), 'widths': (64, 128, 256, 512, 512), 'mid_ratios': (),
        'shortcut': 'none', 'downsample': 'max_pool', **more,
    }  # fmt: skip


FIXED = {
    **{f'resnet{depth}': _imagenet(depth) for depth in IMAGENET_BLOCKS},
    **{f'resnet{depth}_v1': _imagenet(depth, **V1) for depth in IMAGENET_BLOCKS if depth >= 50},
    'resnet50c': _imagenet(50, stem='three'),
    **{f'resnet{depth}d': _imagenet(depth, **D) for depth in IMAGENET_BLOCKS},
    **{f'preact_resnet{depth}': _imagenet(depth, **PREACT) for depth in (50, 101, 152, 200)},
    'wide_resnet50_2': _imagenet(50, mid_ratios=(0.5, 0.5)),
    'wide_resnet101_2': _imagenet(101, mid_ratios=(0.5, 0.5)),
    'resnext50_32x4d': _resnext(50, 32, 4),
    'resnext101_32x8d': _resnext(101, 32, 8),
    'resnext101_64x4d': _resnext(101, 64, 4),
    'seresnet50': _imagenet(50, squeeze_excite=16),
    'nf_resnet50': _imagenet(
        50, **PREACT, norm='none', conv='scaled_standardized', gain='nf', subsample='average'
    ),
    'plain18': _imagenet(18, **PLAIN),
    'plain34': _imagenet(34, **PLAIN),
    'vgg19': _vgg19(norm='none', pool='flatten', head_widths=(4096, 4096), head_dropout=0.5),
}  # fmt: skip

# CIFAR's, in the order that `describe` lists them.
SMALL = (
    *(f'{family}{depth}' for family in CIFAR_FAMILIES for depth in CIFAR_DEPTHS if depth not in IMAGENET_BLOCKS),
    'stochastic_resnet110', 'wrn16_4', 'wrn28_10', 'resnext29_8x64d', 'resnext29_16x64d', 'inception_resnet_small',
    'vgg19_small',
)  # fmt: skip
NAMES = (*SMALL, *FIXED)

# The forms of the small networks' names; any depth and width that the form allows is one.
_FORMS = {
    r'(resnet|plain|preact_resnet)(\d+)': lambda family, depth: _cifar(int(depth), **CIFAR_FAMILIES[family]),
    # Huang et al. 2016, arXiv 1603.09382, section 4; shortcuts as in the authors' code.
    r'stochastic_resnet(\d+)': lambda depth: _cifar(
        int(depth), survival=0.5, subsample='average', zero_channels='behind'
    ),
    r'wrn(\d+)_(\d+)': lambda depth, k: _wide(int(depth), int(k)),
    r'resnext29_(\d+)x(\d+)d': lambda cardinality, width: _resnext29(int(cardinality), int(width)),
    # This project's: the three blocks of Inception-ResNet-v1 as the three stages of a network for small images.
    r'inception_resnet_small': lambda: {
        'block': 'inception_resnet', 'stem_width': 64, 'widths': (64, 128, 256), 'shortcut': 'B', 'residual_scale': 0.2,
    },
    r'vgg19_small': _vgg19,
}  # fmt: skip


def settings(name: str) -> dict:
    """The network settings that `name` stands for: one of NAMES, or of their forms with another depth or width.

    Raises:
      UserError: for a name of no network.
    """
    if name in FIXED:
        return dict(FIXED[name])
    found = _formed(name)
    if found is None:
        near = _neighbours(name) or difflib.get_close_matches(name, NAMES, n=1)
        hint = f'; did you mean {" or ".join(near)}?' if near else ''
        raise UserError(
            f'no network is called {name!r}{hint} (`resnet-jax describe` lists them; resnet, plain and preact_resnet '
            'take any depth 6n+2 or 9n+2, wrnN_K any 6n+4)'
        )
    return found


def _formed(name: str) -> dict | None:
    """What a name means by its form; None where it has none of them, or a depth that cannot be."""
    matches = ((re.fullmatch(form, name), make) for form, make in _FORMS.items())
    return next((make(*match.groups()) for match, make in matches if match), None)


def _neighbours(name: str) -> list[str]:
    """The names with the nearest depths below and above that can be."""
    parts = re.fullmatch(r'([a-z_]+)(\d{1,6})(?!\d)(.*)', name)
    if not parts:
        return []
    family, depth, rest = parts[1], int(parts[2]), parts[3]
    below, above = range(depth - 1, max(depth - 9, 0), -1), range(depth + 1, depth + 9)
    found = (
        next((each for each in (f'{family}{depth}{rest}' for depth in depths) if each in FIXED or _formed(each)), None)
        for depths in (below, above)
    )
    return [each for each in found if each]


def dataset(name: str) -> str:
    """The dataset whose images and classes the network was made for."""
    return 'imagenet2012' if name in FIXED else 'cifar10'


def like(blocks: Sequence[int]) -> list[str]:
    """Names that a network of these stages might have."""
    depths = {6 * blocks[0] + 2, 9 * blocks[0] + 2} - IMAGENET_BLOCKS.keys()
    return [*(f'{family}{depth}' for depth in sorted(depths) for family in CIFAR_FAMILIES), *NAMES]
