"""The command of weights that come from elsewhere, or go there."""

import argparse
from collections.abc import Sequence

from resnet_jax.commands.console import console


def weights(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    if arguments.action == 'export':
        from resnet_jax.weights.exporting import export_weights

        name = export_weights(arguments.run, arguments.out, arguments.names)
        console.print(f'{arguments.out}: {name}, the weights of {arguments.run}')
        _say_difference(name)
        return
    from resnet_jax.weights.importing import import_weights

    found = import_weights(
        arguments.file, arguments.architecture, arguments.out, labels=arguments.labels, sha256=arguments.sha256
    )
    for dtype, count in found.converted.items():
        console.print(f'{count} tensors were {dtype} and are now float32')
    if not arguments.labels:
        console.print('the classes are numbers; --labels FILE, one name a line, gives them names')
    _say_difference(arguments.architecture)
    console.print(
        f'{arguments.out}: {arguments.architecture} of step 0, by the names of {found.library}. '
        f'Next: resnet-jax evaluate --run {arguments.out}'
    )


def _say_difference(name: str) -> None:
    from resnet_jax.weights import names

    if said := names.difference(name):
        console.print(said)
