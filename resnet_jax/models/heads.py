"""Heads: what comes after the last block. Imports no JAX."""

from resnet_jax.models.architecture import Architecture
from resnet_jax.models.parts import ACT, Dense, Dropout, GlobalPool, Norm, Parts, Pool, Scalar


def _dropout(arch: Architecture, draw: int) -> Parts:
    return (Dropout(arch.head_dropout, draw),) if arch.head_dropout else ()


def head(arch: Architecture) -> Parts:
    """With pre-activation one more normalisation and ReLU; a vector an image; one dense layer or more; logits."""
    parts: Parts = ()
    if arch.preactivated:
        normed = arch.placement == 'full_preactivation' and arch.norm != 'none'
        parts += (*((Norm('bn'),) if normed else ()), ACT)
    if arch.downsample == 'max_pool':
        parts += (Pool(2, 2),)
    parts += (GlobalPool(arch.pool),)
    for number, width in enumerate(arch.head_widths, start=1):
        parts += (Dense(f'dense{number}', width), ACT, *_dropout(arch, number))
    if not arch.head_widths:
        parts += _dropout(arch, 0)
    if arch.gain == 'fixup':
        return (*parts, Scalar('bias', 'bias', 0.0), Dense('dense', arch.classes, zero=True))
    return (*parts, Dense('dense', arch.classes))
