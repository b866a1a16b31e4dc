"""Stems: what comes before the first block. Imports no JAX.

With pre-activation the first activation stands at the stem's end, before the first split (He et al. 2016, arXiv
1603.05027, section 4); where the stem pools, full pre-activation normalises what was pooled.
"""

from itertools import pairwise

from resnet_jax.models.architecture import Architecture
from resnet_jax.models.branches import conv, norm
from resnet_jax.models.parts import ACT, Conv, Parts, Pool, Scalar

DEEP_KERNELS = (7, 3, 3, 3, 3, 1, 1)


def stem(arch: Architecture) -> Parts:
    """The parts of the stem; it gives `arch.stem_width` channels."""
    convs, pool = STEMS[arch.stem](arch)
    parts: Parts = (convs[0],)
    for one, other in pairwise(convs):
        parts += (*norm(arch, one), ACT, other)
    bias = (Scalar('bias1', 'bias', 0.0),) if arch.gain == 'fixup' else ()
    if arch.placement == 'full_preactivation':
        return (*parts, *bias, *pool, *norm(arch, convs[-1]), ACT)
    return (*parts, *bias, *norm(arch, convs[-1]), ACT, *pool)


def _cifar(arch: Architecture) -> tuple[list[Conv], Parts]:
    """3x3 (He et al. 2015, section 4.2)."""
    return [conv(arch, 'conv1', arch.stem_width, 3)], ()


def _imagenet(arch: Architecture) -> tuple[list[Conv], Parts]:
    """7x7 by strides of 2, then a 3x3 max pool by 2 (He et al. 2015, table 1)."""
    return [conv(arch, 'conv1', arch.stem_width, 7, 2)], (Pool(3, 2),)


def _three(arch: Architecture) -> tuple[list[Conv], Parts]:
    """Three 3x3 in place of the 7x7, two of half the width (ResNet-C: He et al. 2018, arXiv 1812.01187, figure 2b)."""
    half = arch.stem_width // 2
    return [
        conv(arch, 'conv1', half, 3, 2), conv(arch, 'conv2', half, 3), conv(arch, 'conv3', arch.stem_width, 3),
    ], (Pool(3, 2),)  # fmt: skip


def _deep(arch: Architecture) -> tuple[list[Conv], Parts]:
    """Seven convolutions, each with its setting of strides."""
    sizes = zip(DEEP_KERNELS, arch.stem_strides, strict=True)
    return [
        conv(arch, f'conv{number}', arch.stem_width, kernel, strides)
        for number, (kernel, strides) in enumerate(sizes, start=1)
    ], ()


STEMS = {'cifar': _cifar, 'imagenet': _imagenet, 'three': _three, 'deep': _deep}
