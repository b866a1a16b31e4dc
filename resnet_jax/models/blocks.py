"""Residual blocks as plans: what goes on beside the shortcut, on it, before the split, after the addition.

    y = after(s · shortcut(before(x)) + r · residual(before(x)))

with s and r the gates. Five settings combine: the `block` (which convolutions), the `placement` of normalisation and
ReLU around them, the `shortcut`, the `gain` of the branch, and how the two are joined. Imports no JAX.
"""

from dataclasses import dataclass
from typing import NamedTuple

from resnet_jax.models import branches, shortcuts
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.branches import Site
from resnet_jax.models.parts import Conv, Parts, Pool, Scalar, SqueezeExcite, Survival, Times


@dataclass(frozen=True)
class BlockPlan:
    """A block. `shortcut` is None where nothing passes beside the branch; `passes`: though the shapes would agree.

    `gate` computes g = σ(gate(x)) (He et al. 2016, arXiv 1603.05027, section 3): the shortcut is multiplied by 1 - g
    and, in `exclusive` gating, the branch by g. `join`: a convolution over both, side by side, in place of the sum.
    """

    before: Parts
    residual: Parts
    shortcut: Parts | None
    after: Parts
    passes: bool
    gate: Conv | None
    exclusive: bool
    join: Parts | None


class Position(NamedTuple):
    """Which block it is: index in the network, and in its stage, both from 0 (numbers, or traced)."""

    network: object
    stage: object


def block(arch: Architecture, stage: int, *, entry: bool) -> BlockPlan:
    """The plan of the entry block of a stage (counted from 0), or of any block of its body."""
    before, site = _reduced(arch, _site(arch, stage, entry=entry))
    lead = () if site.first else branches.lead(arch, site)
    beside = shortcuts.shortcut(arch, site)
    # A projection of a pre-activated block stands behind the activation: it comes before the split.
    if arch.preactivated and shortcuts.projects(arch.shortcut, changes_shape=site.changes_shape):
        before, lead = before + lead, ()
    exclusive, gated = arch.shortcut == 'exclusive_gating', arch.shortcut in shortcuts.GATED
    after = branches.after(arch, site)
    return BlockPlan(
        before=before,
        residual=lead + branches.BRANCHES[arch.block](arch, site) + _gains(arch, site),
        shortcut=beside,
        after=after,
        passes=beside is None and not site.changes_shape and not before,
        gate=Conv('conv_gate', site.features, 1, site.strides, bias=arch.gate_bias) if gated else None,
        exclusive=exclusive,
        join=_join(arch, site) if arch.join == 'concatenate' else None,
    )


def _site(arch: Architecture, stage: int, *, entry: bool) -> Site:
    return Site(
        stage=stage,
        inputs=arch.inputs(stage) if entry else arch.widths[stage],
        features=arch.widths[stage],
        strides=arch.strides(stage) if entry else 1,
        first=entry and stage == 0 and arch.preactivated,
        before=arch.stage_blocks[stage - 1] if entry and stage else 0,
    )


def _reduced(arch: Architecture, site: Site) -> tuple[Parts, Site]:
    """What brings the input to its new shape before the split, and what is then left to do."""
    if arch.downsample == 'max_pool' and site.strides > 1:
        return (Pool(site.strides, site.strides),), site._replace(strides=1)
    if arch.block == 'downsampling' and site.changes_shape:
        conv = branches.conv(arch, 'conv_ds', site.features, 1, site.strides)
        return (conv,), site._replace(strides=1, inputs=site.features, first=False)
    return (), site


def _gains(arch: Architecture, site: Site) -> Parts:
    """What weighs the branch as a whole, in order."""
    parts: Parts = ()
    if arch.squeeze_excite:
        parts += (SqueezeExcite('se', max(1, site.features // arch.squeeze_excite)),)
    if arch.gain in ('skipinit', 'rezero'):
        parts += (Scalar('gain', 'gain', 0.0),)
    if arch.gain == 'nf':
        parts += (Times(arch.nf_alpha),)
    if arch.residual_scale != 1:
        parts += (Times(arch.residual_scale),)
    if arch.survival != 1:
        parts += (Survival(arch.survival, arch.blocks),)
    return parts


def _join(arch: Architecture, site: Site) -> Parts:
    conv = branches.conv(arch, 'conv_join', site.features, 1)
    return (conv,) if arch.preactivated else (conv, *branches.norm(arch, conv))
