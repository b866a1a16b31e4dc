"""What the cost of a training run depends on: the network, the batch, and how both are spread over devices. No JAX."""

import math
from functools import cache
from typing import NamedTuple

from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.counts import Layer

SMALL = 2**14  # numbers; an array of fewer is whole on every device: to gather it costs more than it takes
ITEMSIZE = {'float32': 4, 'bfloat16': 2}


class Setup(NamedTuple):
    """A training run on `devices`, the settings named as in `configs/default.py`.

    Attributes:
      images: of the training split; 0: unknown.
    """

    arch: Architecture
    devices: int
    batch: int
    microbatches: int
    fsdp: int
    compute: str
    remat: str
    optimizer: str
    ema: bool
    crop: str
    placement: str
    images: int

    @property
    def itemsize(self) -> int:
        """Bytes of a number that is computed with."""
        return ITEMSIZE[self.compute]

    @property
    def at_once(self) -> float:
        """Examples that a device computes at once."""
        return self.batch / self.devices / self.microbatches


def setup(config: ConfigDict, devices: int) -> Setup:
    """The setup of a validated config; of training in phases, the one that computes with the most pixels.

    Raises:
      UserError: the devices cannot have equal shares of the batch, or of the parameters.
    """
    train, run, data = config.train, config.run, config.data.copy_and_resolve_references().unlock()
    phases, batch = train.phases, train.batch_size
    if phases.epochs:
        both = zip(phases.pixels, phases.batch_sizes, strict=True)
        data.pixels, batch = max(both, key=lambda phase: phase[0] ** 2 * phase[1])
    known = spec.DATASETS.get(data.dataset, ((), 0, 0))[2]
    made = Setup(
        arch=spec.architecture(ConfigDict({'network': config.network, 'data': data})),
        devices=devices, batch=batch, microbatches=train.microbatches, fsdp=run.fsdp, compute=train.compute,
        remat=run.remat, optimizer=train.optimizer, ema=train.ema > 0, crop=data.crop, placement=run.placement,
        images=data.examples or max(0, known - data.selection),
    )  # fmt: skip
    check(made)
    return made


def check(setup: Setup) -> None:
    """Refuses what cannot be spread.

    Raises:
      UserError: with the nearest that can.
    """
    if setup.devices < 1:
        raise UserError(f'--devices is {setup.devices}; it must be at least 1')
    check_fsdp(setup.fsdp, setup.devices)
    check_batch(setup.batch, setup.devices, setup.microbatches)


def check_fsdp(fsdp: int, devices: int) -> None:
    """Refuses parts that the devices cannot be dealt out to evenly.

    Raises:
      UserError: with the largest number of fewer parts that would do.
    """
    if devices % fsdp:
        fit = max(size for size in range(1, fsdp) if devices % size == 0)
        raise UserError(f'config.run.fsdp is {fsdp}; it must divide the {devices} devices: use {fit}')


def check_batch(batch: int, devices: int, microbatches: int) -> None:
    """Refuses a batch of which the devices have no equal shares.

    Raises:
      UserError: with the nearest that would do.
    """
    unit = devices * microbatches
    if batch % unit:
        near = max(unit, round(batch / unit) * unit)
        parts = f' in {microbatches} microbatches' if microbatches > 1 else ''
        raise UserError(
            f'config.train.batch_size is {batch}; it must divide by the {devices} devices{parts}: the nearest is {near}'
        )


class Leaf(NamedTuple):
    """An array of parameters; of a stage's body, of all its blocks, along an axis that `shape` leaves out.

    Attributes:
      wide: it is computed with in float32 whatever the rest is (BN's).
    """

    blocks: int
    shape: tuple[int, ...]
    wide: bool

    @property
    def size(self) -> int:
        return self.blocks * math.prod(self.shape)

    def cut(self, fsdp: int) -> bool:
        """Is it cut over so many devices? Never along the block axis."""
        return fsdp > 1 and self.size >= SMALL and any(axis % fsdp == 0 for axis in self.shape)


@cache
def layers(arch: Architecture) -> tuple[Layer, ...]:
    return tuple(counts.layers(arch))


@cache
def leaves(arch: Architecture) -> tuple[Leaf, ...]:
    """All arrays of parameters, as training has them."""
    found: dict[tuple, Leaf] = {}
    for layer in layers(arch):
        part, *block, name = layer.name.split('/')
        body = block not in ([], ['block1'])
        for number, shape in enumerate(layer.leaves):
            key = part, body, name, number
            blocks = found[key].blocks if key in found else 0
            found[key] = Leaf(blocks + 1, shape, is_norm(layer))
    return tuple(found.values())


def is_norm(layer: Layer) -> bool:
    return layer.name.split('/')[-1].startswith('bn')
