"""Bytes of a device's memory that training takes. No JAX.

What stays from step to step is exact. Of a step's own arrays, those that the backward pass needs are what `jax.vjp`
keeps (`units`); the gradients that pass from layer to layer beside them are taken as two of the largest signal. The
memory that XLA takes on top (workspaces of convolutions, copies) is not in it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from resnet_jax.planning.setup import Setup, is_norm, layers, leaves
from resnet_jax.planning.tape import Unit
from resnet_jax.planning.units import units

SLOTS = {'sgd': 1, 'lars': 1, 'adamw': 2, 'lamb': 2}  # arrays of a parameter's size that an optimizer has
FLOAT32 = 4
PASSING = 2  # signals: a layer reads the gradient of its result and writes that of its input
AHEAD = 2  # batches of a stream on the device: the one that is computed with, and the next
RESIDENT = 0.5  # share of the memory up to which images stay on the device (resnet_jax/memory.py)


class Numbers(NamedTuple):
    """Parameters: all there are, and those a device holds."""

    total: int
    own: int


def bn_channels(setup: Setup) -> tuple[int, int]:
    """Times that BN normalises, and the channels of all."""
    own = [layer.signal.channels for layer in layers(setup.arch) if is_norm(layer)]
    return (len(own), sum(own)) if setup.arch.norm == 'batch' else (0, 0)


def parameters(setup: Setup) -> Numbers:
    found = leaves(setup.arch)
    own = sum(leaf.size // setup.fsdp if leaf.cut(setup.fsdp) else leaf.size for leaf in found)
    return Numbers(sum(leaf.size for leaf in found), own)


def statistics(setup: Setup) -> int:
    """Running means and variances: numbers."""
    if setup.arch.norm != 'batch':
        return 0
    own = [layer for layer in layers(setup.arch) if is_norm(layer)]
    return sum(2 * layer.signal.channels for layer in own if layer.leaves or setup.arch.share != 'all')


def state(setup: Setup) -> dict[str, int]:
    """What a device holds from step to step: {what: bytes}."""
    own, running = FLOAT32 * parameters(setup).own, FLOAT32 * statistics(setup)
    rows = {'parameters': own, 'optimizer state': SLOTS[setup.optimizer] * own, 'running statistics': running}
    return rows | ({'average (EMA)': own + running} if setup.ema else {})


def gathered(setup: Setup) -> int:
    """The copy of the parameters that is computed with: of those that are cut, or held in another dtype."""
    return sum(
        leaf.size * (FLOAT32 if leaf.wide else setup.itemsize)
        for leaf in leaves(setup.arch)
        if leaf.cut(setup.fsdp) or (setup.itemsize != FLOAT32 and not leaf.wide)
    )


def gradients(setup: Setup) -> int:
    """Of the parameters that a device holds; with microbatches the sum, and those of one."""
    return FLOAT32 * parameters(setup).own * (2 if setup.microbatches > 1 else 1)


def activations(setup: Setup) -> tuple[int, int, int]:
    """Of one example: bytes kept for the backward pass, bytes computed again at once, bytes of passing gradients."""
    found = units(setup.arch, setup.itemsize)
    largest = max(unit.given.size for unit in found[1:]) * setup.itemsize
    if setup.remat == 'none':
        return _size(found), 0, PASSING * largest
    kept = {number: size for unit in (found[0], found[-1]) for number, size in unit.kept.items()}
    parts = _parts(found[1:-1], setup.remat)
    kept |= {part[0].given.number: part[0].given.size * setup.itemsize for part in parts}
    again = max(_size(part) - part[0].kept.get(part[0].given.number, 0) for part in parts)
    return sum(kept.values()), again, PASSING * largest


def _parts(blocks: Sequence[Unit], remat: str) -> list[list[Unit]]:
    """What is computed again at once: a block, or a stage."""
    if remat == 'block':
        return [[block] for block in blocks]
    names = dict.fromkeys(block.part for block in blocks)
    return [[block for block in blocks if block.part == name] for name in names]


def _size(found: Iterable[Unit]) -> int:
    kept: dict[int, int] = {}
    for unit in found:
        kept |= unit.kept
    return sum(kept.values())


def images(setup: Setup, memory: float | None) -> int:
    """Bytes as they come: the training split on every device, or a stream's batches.

    Args:
      memory: bytes that a device has, of which the split may take its share; None: unknown.
    """
    height, width, channels = setup.arch.image_shape
    one = height * width * channels
    fits = setup.placement == 'device' or memory is None or setup.images * one <= RESIDENT * memory
    if setup.images and setup.crop == 'view' and setup.placement != 'stream' and fits:
        return setup.images * one
    return AHEAD * setup.batch // setup.devices * one


def held(setup: Setup, memory: float | None) -> dict[str, int]:
    """All that a device holds at its fullest: {what: bytes}."""
    kept, again, passing = (round(setup.at_once * each) for each in activations(setup))
    rows = {
        **state(setup),
        'gradients': gradients(setup),
        'gathered parameters': gathered(setup),
        'kept for the backward pass': kept,
        'computed again at once': again,
        'gradients of activations': passing,
        'images': images(setup, memory),
    }
    return {what: size for what, size in rows.items() if size}
