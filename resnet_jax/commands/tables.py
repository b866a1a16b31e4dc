"""Commands that show tables: networks and datasets."""

import argparse
from collections.abc import Sequence

from rich.table import Table

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


def data(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.data import sources

    if arguments.action == 'prepare':
        from resnet_jax.data import stored
        from resnet_jax.data.prepare import prepare
        from resnet_jax.display import progress

        with progress() as show:
            path = prepare(arguments.dataset, stored.directory(arguments.data_dir), arguments.archive, show)
        console.print(f'{arguments.dataset} is in {path}')
        return
    table = Table('dataset', 'classes', 'image', 'splits', 'where', box=None)
    missing = []
    for name, (shape, classes, _) in spec.DATASETS.items():
        try:
            found = sources.describe(name, arguments.data_dir)
            splits = ', '.join(f'{split} {count:,}' for split, count in found['splits'].items())
            table.add_row(name, str(classes), 'x'.join(map(str, shape)), splits, str(found['path']))
        except UserError as error:
            table.add_row(name, str(classes), 'x'.join(map(str, shape)), '-', 'not here')
            missing.append(str(error))
    console.print(table)
    for line in missing:
        console.print(line)
