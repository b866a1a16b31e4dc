"""`resnet-jax plan`: what a training run costs on given devices, before there are any."""

import argparse
import math
from collections.abc import Sequence

from resnet_jax import config as configuration
from resnet_jax.commands.console import console
from resnet_jax.errors import UserError

UNITS = {'flops': 1e12, 'bandwidth': 1e9, 'memory_bandwidth': 1e9, 'memory': 1e9}


def plan(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.models import counts
    from resnet_jax.planning import advice, devices, tables
    from resnet_jax.planning.setup import setup

    given = {key: _given(arguments, key) for key in UNITS}
    device = devices.device(arguments.device, given)
    config = configuration.from_arguments(rest)
    if config is None:
        raise UserError('plan needs to know what is trained: --config FILE, as configs/imagenet.py:goyal2017')
    planned = setup(config, arguments.devices)
    arch, parameters = planned.arch, counts.parameters(planned.arch)
    phases = ', the largest of the phases' if config.train.phases.epochs else ''
    console.print(
        f'{configuration.title(config.network)} on {config.data.dataset}, {arch.image_shape[0]} px: '
        f'{parameters:,} parameters, {4 * parameters:,} bytes\n'
        f'batches of {planned.batch:,} on {_devices(planned.devices)}, {planned.at_once:.0f} at once on each, '
        f'{planned.compute}, {planned.optimizer}{phases}'
    )
    for table in tables.tables(planned, device):
        console.print()
        console.print(table)
    console.print()
    for line in advice.advice(planned, device):
        console.print(line)


def _devices(count: int) -> str:
    return f'{count:,} devices' if count > 1 else 'one device'


def _given(arguments: argparse.Namespace, key: str) -> float | None:
    """What a flag says, in FLOP/s, bytes or bytes/s; None without it."""
    value = getattr(arguments, key)
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UserError(f'--{key.replace("_", "-")} is {value:g}; it must be a positive finite number')
    return None if value is None else value * UNITS[key]
