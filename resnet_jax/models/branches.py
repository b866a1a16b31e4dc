"""Residual branches: which convolutions, and where normalisation and ReLU stand around them. Imports no JAX.

The five placements of He et al. 2016 (arXiv 1603.05027, figure 4) are told apart by three short sequences: what
leads a branch, what ends it, and what comes after the addition. Between two convolutions stand always
normalisation and ReLU; with full pre-activation the normalisation is that of the convolution behind it.
"""

from itertools import pairwise
from typing import NamedTuple

from resnet_jax.models.architecture import Architecture
from resnet_jax.models.parts import (
    ACT,
    Concat,
    Conv,
    Dense,
    Dropout,
    HalfResolution,
    LinearProjection,
    Norm,
    Parts,
    Pool,
    Scalar,
    Whiten,
)  # fmt: skip

BOTTLENECK_KERNELS = (1, 3, 1)


class Site(NamedTuple):
    """Where a block stands. `first`: the stem has activated its input; `before`: blocks of the stage before it."""

    stage: int
    inputs: int
    features: int
    strides: int
    first: bool
    before: int

    @property
    def changes_shape(self) -> bool:
        return self.strides != 1 or self.inputs != self.features


def conv(arch: Architecture, name: str, features: int, kernel: int | tuple[int, int], strides: int = 1, **more) -> Conv:
    """A convolution of this network: without normalisation it has a bias (Fixup has its own)."""
    bias = 0.0 if arch.norm == 'none' and arch.gain != 'fixup' else None
    return Conv(name, features, kernel, strides, bias=bias, **more)


def norm(arch: Architecture, of: Conv, scale: float = 1.0) -> Parts:
    """The normalisation that belongs to a convolution, where the network has one."""
    return () if arch.norm == 'none' else (Norm(of.name.replace('conv', 'bn', 1), scale),)


def lead(arch: Architecture, site: Site) -> Parts:
    """What a branch begins with."""
    if not arch.preactivated:
        return ()
    first = _convs(arch, site)[0] if arch.block in CHAINS else Conv('conv_in', 0, 1)
    normed = norm(arch, first) if arch.placement == 'full_preactivation' else ()
    return (*normed, ACT, *_whiten(arch, site))


def after(arch: Architecture, site: Site) -> Parts:
    """What stands behind the addition."""
    if arch.placement == 'bn_after_addition':
        return (*norm(arch, Conv('conv_out', site.features, 1)), ACT)
    return (ACT,) if arch.placement == 'original' else ()


def _end(arch: Architecture, last: Conv) -> Parts:
    """What ends a branch behind its last convolution. γ of 0 makes the block the identity at first."""
    if arch.placement not in ('original', 'relu_before_addition', 'relu_only_preactivation'):
        return ()
    normed = norm(arch, last, 0.0 if arch.gain == 'zero_gamma' else 1.0)
    return (*normed, ACT) if arch.placement == 'relu_before_addition' else normed


def _whiten(arch: Architecture, site: Site) -> Parts:
    return (Whiten(arch.nf_alpha, site.before),) if arch.gain == 'nf' else ()


def _chain(arch: Architecture, convs: list[Conv]) -> Parts:
    """Convolutions with normalisation and ReLU between each two."""
    parts: Parts = (convs[0],)
    for one, other in pairwise(convs):
        parts += (*norm(arch, other if arch.placement == 'full_preactivation' else one), ACT)
        if arch.dropout and other is convs[-1]:
            parts += (Dropout(arch.dropout, 1),)
        parts += (other,)
    return parts


def _convs(arch: Architecture, site: Site) -> list[Conv]:
    """The convolutions of a basic or bottleneck branch, their widths by `mid_ratios` of what the block gives."""
    widths = [round(ratio * site.features) for ratio in arch.mid_ratios] + [site.features]
    kernels = BOTTLENECK_KERNELS if arch.block == 'bottleneck' else (3,) * len(widths)
    made = []
    for number, (width, kernel) in enumerate(zip(widths, kernels, strict=True), start=1):
        strides = site.strides if number == arch.strided_conv else 1
        groups = arch.groups if kernel == 3 else 1
        made.append(conv(arch, f'conv{number}', width, kernel, strides, groups=groups))
    return made


def _basic(arch: Architecture, site: Site) -> Parts:
    convs = _convs(arch, site)
    return _fixup(arch, convs) if arch.gain == 'fixup' else _chain(arch, convs) + _end(arch, convs[-1])


def _fixup(arch: Architecture, convs: list[Conv]) -> Parts:
    """Zhang et al. 2019, arXiv 1901.09321, section 3: a bias before every convolution and every ReLU, a gain at the
    end; the last kernel 0, the others smaller by L^(-1/(2m-2)), for L blocks of m convolutions."""
    smaller = arch.blocks ** (-1 / (2 * len(convs) - 2))
    parts: Parts = ()
    for number, each in enumerate(convs, start=1):
        last = each is convs[-1]
        started = Conv(each.name, each.features, each.kernel, each.strides, each.groups, None, 0.0 if last else smaller)
        gain = (Scalar('gain', 'gain', 1.0),) if last else ()
        act = () if last else (ACT,)
        parts += (Scalar(f'bias{number}a', 'bias', 0.0), started, *gain, Scalar(f'bias{number}b', 'bias', 0.0), *act)
    return parts


def _half_resolution(arch: Architecture, site: Site) -> Parts:
    inner = site._replace(strides=1)
    return (HalfResolution(_basic(arch, inner), site.strides),)


def _linear_projection(arch: Architecture, site: Site) -> Parts:
    """Two convolutions and a dense layer over the channels; concatenated, each gives half of the features."""
    features = site.features if arch.dense_join == 'product' else site.features // 2
    one = conv(arch, 'conv1', features, 3, site.strides)
    two = conv(arch, 'conv2', features, 3)
    full = arch.placement == 'full_preactivation'
    first: Parts = (one,) if full else (one, *norm(arch, one), ACT)
    second: Parts = (*norm(arch, two), ACT, two) if full else (two, *_end(arch, two))
    between = arch.dense == 'between'
    return (LinearProjection(first, second, Dense('dense', features), between, arch.dense_join),)


def _inception(arch: Architecture, site: Site) -> Parts:
    """Szegedy et al. 2015, arXiv 1409.4842, figure 2b, with the proportions of its module 3a."""
    f = site.features
    widths = {'1x1': max(1, f // 4), '5x5': max(1, f // 8), 'pool': max(1, f // 8)}
    widths['3x3'] = f - sum(widths.values())
    rows = [
        [('conv_1x1', widths['1x1'], 1)],
        [('conv_3x3_reduce', max(1, 3 * f // 8), 1), ('conv_3x3', widths['3x3'], 3)],
        [('conv_5x5_reduce', max(1, f // 16), 1), ('conv_5x5', widths['5x5'], 5)],
    ]
    paths = [_path(arch, row, site.strides) for row in rows]
    pooled = (Pool(3, site.strides), *_path(arch, [('conv_pool', widths['pool'], 1)], 1))
    return (Concat((*paths, pooled)),)


def _path(arch: Architecture, row: list[tuple], strides: int) -> Parts:
    """A path of an Inception module: its first convolution has the strides; it ends as branches end here."""
    convs = _row(arch, row, strides)
    return _chain(arch, convs) + _end(arch, convs[-1])


def _row(arch: Architecture, row: list[tuple], strides: int) -> list[Conv]:
    return [
        conv(arch, name, features, kernel, strides if number == 0 else 1)
        for number, (name, features, kernel) in enumerate(row)
    ]


# Kernels of the paths of Inception-ResNet-v1's blocks, and their width as a share of the block's:
# Szegedy et al. 2016, arXiv 1602.07261, figures 10, 11 and 13.
INCEPTION_RESNET = {
    'a': (((1,), (1, 3), (1, 3, 3)), 32 / 256),
    'b': (((1,), (1, (1, 7), (7, 1))), 128 / 896),
    'c': (((1,), (1, (1, 3), (3, 1))), 192 / 1792),
}


def _inception_resnet(arch: Architecture, site: Site) -> Parts:
    """Block A in the first stage, B in the second, C in all later ones (or the one that the block's name says).

    A 1x1 convolution restores the width; it has a bias, and no normalisation behind it.
    """
    form = 'abc'[min(site.stage, 2)] if arch.block == 'inception_resnet' else arch.block[-1]
    paths, share = INCEPTION_RESNET[form]
    features, out = max(1, round(share * site.features)), Conv('conv_out', site.features, 1, bias=0.0)
    made = []
    for path, kernels in enumerate(paths, start=1):
        row = [(f'conv{path}{"abc"[number]}', features, kernel) for number, kernel in enumerate(kernels)]
        convs = _row(arch, row, site.strides)
        made.append(_chain(arch, convs) + (() if arch.placement == 'full_preactivation' else norm(arch, convs[-1])))
    whole = norm(arch, out) if arch.placement == 'full_preactivation' else ()
    end = (ACT,) if arch.placement == 'relu_before_addition' else ()
    return (Concat(tuple(made)), *whole, ACT, out, *end)


CHAINS = ('basic', 'bottleneck', 'downsampling', 'half_resolution', 'linear_projection')
BRANCHES = {
    'basic': _basic,
    'bottleneck': _basic,
    'downsampling': _basic,
    'half_resolution': _half_resolution,
    'linear_projection': _linear_projection,
    'inception': _inception,
    'inception_resnet': _inception_resnet,
    'inception_resnet_a': _inception_resnet,
    'inception_resnet_b': _inception_resnet,
    'inception_resnet_c': _inception_resnet,
}
