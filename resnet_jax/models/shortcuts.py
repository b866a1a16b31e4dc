"""Shortcuts: what passes beside a residual branch. Imports no JAX.

He et al. 2015 (arXiv 1512.03385, section 3.3): A subsamples and pads with zeros, B projects where the shape changes, C
everywhere. He et al. 2016 (arXiv 1603.05027, section 3): on the identity (A where the shape changes) gates or
dropout, or a bare 1x1 convolution everywhere (conv). ResNet-D (He et al. 2018, arXiv 1812.01187, figure 2c) is B with
`subsample` average.
"""

from resnet_jax.models.architecture import Architecture
from resnet_jax.models.branches import Site, conv, norm
from resnet_jax.models.parts import Dropout, Pad, Parts, Scalar, Subsample, Times

GATED = ('exclusive_gating', 'shortcut_gating')


def projects(kind: str, *, changes_shape: bool) -> bool:
    """Is this shortcut a convolution?"""
    return kind in ('C', 'conv') or (kind == 'B' and changes_shape)


def shortcut(arch: Architecture, site: Site) -> Parts | None:
    """The shortcut's parts; None where nothing passes."""
    if arch.shortcut == 'none':
        return None
    projected = projects(arch.shortcut, changes_shape=site.changes_shape)
    parts = _projection(arch, site) if projected else _identity(arch, site)
    if arch.shortcut == 'dropout':
        parts += (Dropout(arch.shortcut_dropout, 2),)
    return parts + ((Times(arch.shortcut_scale),) if arch.shortcut_scale != 1 else ())


def _projection(arch: Architecture, site: Site) -> Parts:
    """Behind an activation (full pre-activation) a projection has no normalisation of its own."""
    averaged = arch.subsample == 'average' and site.strides > 1
    projection = conv(arch, 'conv_proj', site.features, 1, 1 if averaged else site.strides)
    normed = () if arch.shortcut == 'conv' or arch.placement == 'full_preactivation' else norm(arch, projection)
    biased = (Scalar('bias_proj', 'bias', 0.0),) if arch.gain == 'fixup' else ()
    return (*biased, *((Subsample(site.strides, 'average'),) if averaged else ()), projection, *normed)


def _identity(arch: Architecture, site: Site) -> Parts:
    parts: Parts = (Subsample(site.strides, arch.subsample),) if site.strides != 1 else ()
    return parts + ((Pad(site.features, arch.zero_channels),) if site.inputs != site.features else ())
