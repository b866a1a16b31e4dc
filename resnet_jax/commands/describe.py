"""`resnet-jax describe`: the networks."""

import argparse
from collections.abc import Sequence

from resnet_jax import config as configuration
from resnet_jax import spec, validity
from resnet_jax.commands.console import console
from resnet_jax.errors import UserError
from resnet_jax.models.architecture import Architecture


def describe(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax import describe as tables
    from resnet_jax.models import zoo

    settings = configuration.from_arguments(rest)
    if settings is not None and arguments.network:
        raise UserError(f'describe takes a name or a --config, not both; got {arguments.network} and --config')
    if settings is not None:
        console.print(tables.layers(spec.architecture(settings)))
        return
    if arguments.network:
        console.print(tables.layers(_named(arguments.network)))
        return
    console.print(tables.networks((name, _named(name)) for name in zoo.NAMES))
    console.print(
        'Of one image, CIFAR 32 px, ImageNet (from resnet18 on) 224 px. field: pixels that the last feature sees; last '
        'column: where the multiply-adds are. '
        'Layer by layer: resnet-jax describe NAME; other depths and widths have names too, as resnet26, wrn40_4'
    )


def _named(name: str) -> Architecture:
    """The architecture of a named network, for the images it was made for."""
    from resnet_jax.models import zoo

    config = configuration.load('configs/default.py')
    config.network.update(zoo.settings(name))
    config.data.dataset = zoo.dataset(name)
    validity.check(config)
    return spec.architecture(config)
