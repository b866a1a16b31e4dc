"""Which settings of a network mean something, and which go together. Imports no JAX."""

import math
from dataclasses import replace

from resnet_jax.errors import UserError
from resnet_jax.models import branches, counts, stems
from resnet_jax.models.architecture import PREACTIVATED, Architecture
from resnet_jax.models.shortcuts import GATED, projects

CHOICES = {
    'stem': tuple(stems.STEMS),
    'block': tuple(branches.BRANCHES),
    'downsample': ('stride', 'max_pool'),
    'placement': ('original', 'bn_after_addition', 'relu_before_addition', *PREACTIVATED),
    'shortcut': ('identity', 'A', 'B', 'C', 'conv', *GATED, 'dropout', 'none'),
    'subsample': ('stride', 'average'),
    'zero_channels': ('split', 'behind'),
    'join': ('add', 'concatenate'),
    'dense': ('after', 'between'),
    'dense_join': ('product', 'concatenate'),
    'share': ('none', 'kernels', 'parameters', 'all'),
    'norm': ('batch', 'group', 'none'),
    'conv': ('plain', 'standardized', 'scaled_standardized'),
    'gain': ('none', 'zero_gamma', 'skipinit', 'rezero', 'fixup', 'nf'),
    'pool': ('average', 'max', 'both', 'flatten'),
}


def check(arch: Architecture) -> None:
    """Refuses a network that cannot be, before anything is compiled.

    Raises:
      UserError: one line with the setting, its value, and what is allowed or what it cannot go with.
    """
    _check_values(arch)
    _check_together(arch)
    _check_gain(arch)
    _check_sizes(arch)
    _check_layers(arch)


def _check_values(arch: Architecture) -> None:
    for key, choices in CHOICES.items():
        _require(getattr(arch, key) in choices, arch, key, f'be one of {", ".join(choices)}')
    _require(len(arch.stage_blocks) >= 1, arch, 'stage_blocks', 'name the blocks of at least one stage')
    _require(len(arch.widths) == arch.stages, arch, 'widths', f'have one number for each of the {arch.stages} stages')
    deep = len(stems.DEEP_KERNELS)
    _require(len(arch.stem_strides) == deep, arch, 'stem_strides', f'have {deep} numbers')
    for key in ('groups', 'strided_conv', 'stem_width', 'norm_groups'):
        _require(getattr(arch, key) >= 1, arch, key, 'be at least 1')
    for key in ('squeeze_excite', 'norm_examples'):
        _require(getattr(arch, key) >= 0, arch, key, 'be at least 0')
    for key in ('dropout', 'shortcut_dropout', 'head_dropout', 'norm_momentum'):
        _require(0 <= getattr(arch, key) < 1, arch, key, 'be at least 0 and below 1')
    _require(0 < arch.survival <= 1, arch, 'survival', 'be above 0 and at most 1')
    for key in ('norm_epsilon', 'nf_alpha'):
        value = getattr(arch, key)
        _require(math.isfinite(value) and value >= 0, arch, key, 'be a finite number of at least 0')
    for key in ('shortcut_scale', 'residual_scale', 'gate_bias'):
        _require(math.isfinite(getattr(arch, key)), arch, key, 'be a finite number')


def _check_together(arch: Architecture) -> None:
    convs = len(arch.mid_ratios) + 1
    chain = arch.block in ('basic', 'bottleneck', 'downsampling', 'half_resolution')
    if arch.block == 'bottleneck':
        _require(convs == 3, arch, 'mid_ratios', 'have two numbers for the bottleneck, as 0.25,0.25')
    _require(arch.strided_conv <= (convs if chain else 1), arch, 'strided_conv',
             f'be at most {convs if chain else 1}: a branch of {arch.block} strides there at the latest')  # fmt: skip
    if arch.groups > 1 and arch.block != 'bottleneck':
        raise _clash(arch, 'groups', 'block', 'only the bottleneck has a grouped convolution; use 1')
    for width in [round(ratio * width) for ratio in arch.mid_ratios for width in arch.widths]:
        _require(width % arch.groups == 0, arch, 'groups', f'divide the {width} filters of the grouped convolution')
    if arch.downsample == 'max_pool' and arch.block == 'downsampling':
        raise _clash(arch, 'downsample', 'block', 'that block has strides of its own; use stride')
    for stage in range(arch.stages):
        _check_shortcut(arch, stage)
    if arch.plain:
        for key, harmless in (('join', 'add'), ('shortcut_scale', 1)):
            if getattr(arch, key) != harmless:
                raise _clash(arch, key, 'shortcut', f'there is no shortcut to join; use {harmless}')
    if arch.block == 'linear_projection' and arch.dense_join == 'concatenate':
        odd = [width for width in arch.widths if width % 2]
        _require(not odd, arch, 'widths', 'be even, for each half of a concatenation has half of the filters')
    if arch.norm != 'batch' and arch.norm_examples:
        raise _clash(arch, 'norm_examples', 'norm', 'only batch normalisation takes examples together; use 0')
    if arch.dropout and (not chain or convs < 2 or arch.gain == 'fixup'):
        raise _clash(arch, 'dropout', 'block', 'it stands between two convolutions of a chain; use 0')


def _check_shortcut(arch: Architecture, stage: int) -> None:
    """Can the shortcut of a stage's entry block bring its input to the new shape?"""
    changes = arch.changes_shape(stage) and arch.block != 'downsampling'
    if arch.plain or not changes or projects(arch.shortcut, changes_shape=True):
        return
    entry, outputs = f'stage {stage + 1}', arch.widths[stage]
    inputs = arch.inputs(stage)
    given = f'{inputs}' if stage else f"the stem's {inputs}"
    if arch.shortcut == 'identity':
        raise UserError(
            f"config.network.shortcut is 'identity', but {entry} changes the shape ({given} to {outputs} filters, "
            f'strides {arch.strides(stage)}): use A, B or C, or block downsampling'
        )
    if outputs < inputs:
        raise UserError(
            f'config.network.widths {list(arch.widths)} narrow in {entry} ({given} to {outputs} filters), and '
            f'shortcut {arch.shortcut} can only pad with zero channels; use shortcut B, or widths that do not fall'
        )


def _check_gain(arch: Architecture) -> None:
    ends = arch.placement in ('original', 'relu_before_addition', 'relu_only_preactivation')
    plain_chain = arch.block in ('basic', 'bottleneck')
    if arch.plain and (arch.gain in ('zero_gamma', 'skipinit', 'rezero', 'fixup') or not arch.residual_scale):
        key = 'gain' if arch.residual_scale else 'residual_scale'
        raise _clash(arch, key, 'shortcut', 'a branch that starts at 0 passes nothing, and nothing passes beside it')
    if arch.plain and arch.survival != 1:
        raise _clash(arch, 'survival', 'shortcut', 'where a branch is dropped nothing would pass; use 1.0')
    rules = {
        'zero_gamma': (
            ('norm', arch.norm != 'none', 'there is no γ without normalisation'),
            ('placement', ends, 'the branch does not end in normalisation there'),
            ('block', plain_chain or arch.block in ('downsampling', 'half_resolution', 'inception'),
             'its branch does not end in normalisation'),
        ),
        'skipinit': (('norm', arch.norm == 'none', 'SkipInit stands in for normalisation: use norm none, or rezero'),),
        'fixup': (
            ('norm', arch.norm == 'none', 'Fixup is training without normalisation: use norm none'),
            ('placement', arch.placement == 'original', 'Fixup is defined for the original placement'),
            ('block', plain_chain and len(arch.mid_ratios) >= 1, 'Fixup needs a chain of two convolutions or more'),
            ('conv', arch.conv == 'plain', "Fixup's kernels start at zero, and cannot be standardised"),
            ('stem', arch.stem in ('cifar', 'imagenet'), 'Fixup has its biases in a stem of one convolution'),
            ('join', arch.join == 'add', 'Fixup is defined for the sum'),
        ),
        'nf': (
            ('norm', arch.norm == 'none', 'NF networks are without normalisation: use norm none'),
            ('conv', arch.conv == 'scaled_standardized', 'NF networks have scaled_standardized kernels'),
            ('placement', arch.placement == 'full_preactivation', 'NF networks are pre-activated'),
            ('shortcut', arch.shortcut == 'B', 'the variance starts anew at each projection, and there alone'),
        ),
    }  # fmt: skip
    for other, holds, why in rules.get(arch.gain, ()):
        if not holds:
            raise _clash(arch, 'gain', other, why)


def _check_sizes(arch: Architecture) -> None:
    """Are the images large enough to be halved by pools? Convolutions round up, pools of 2x2 down."""
    strides = math.prod(getattr(part, 'strides', 1) for part in stems.stem(arch))
    side = -(-min(arch.image_shape[:2]) // strides)
    if arch.downsample == 'max_pool' and not side >> arch.stages:
        raise UserError(
            f"config.network.downsample is 'max_pool', which halves the {side} px behind the stem {arch.stages} times; "
            'use stride, fewer stages, or data of larger images'
        )


def _check_layers(arch: Architecture) -> None:
    """Has every layer filters, in groups that it divides into? The blocks of a body are alike: one shows them all."""
    short = replace(arch, stage_blocks=tuple(min(2, blocks) for blocks in arch.stage_blocks))
    for layer in counts.layers(short):
        channels = layer.signal.channels
        if channels < 1:
            raise UserError(f'config.network leaves {layer.name} no filter; use a wider stem_width, widths, mid_ratios')
        if arch.norm == 'group' and '/bn' in layer.name:
            _require(channels % arch.norm_groups == 0, arch, 'norm_groups',
                     f'divide the {channels} channels of {layer.name}')  # fmt: skip


def _clash(arch: Architecture, key: str, other: str, why: str) -> UserError:
    return UserError(
        f'config.network.{key} is {getattr(arch, key)!r}, which cannot go with {other} {getattr(arch, other)!r}: {why}'
    )


def _require(holds: bool, arch: Architecture, key: str, rule: str) -> None:
    value = getattr(arch, key)
    if not holds:
        shown = list(value) if isinstance(value, tuple) else value
        raise UserError(f'config.network.{key} is {shown!r}; it must {rule}')
