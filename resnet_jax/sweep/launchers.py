"""What carries the runs of a sweep out: this machine, SLURM or Ray."""

import argparse
import os
from collections.abc import Iterator, Sequence

from resnet_jax.errors import UserError
from resnet_jax.sweep import local, ray, slurm, state
from resnet_jax.sweep.local import heeding_signals
from resnet_jax.sweep.work import Stop, Task

__all__ = ['OPTIONS', 'cancel', 'check', 'heeding_signals', 'launch', 'width']

OPTIONS = {'local': ('slots',), 'slurm': ('slurm',), 'ray': ('address', 'cpus', 'gpus')}  # which each takes


def check(arguments: argparse.Namespace) -> None:
    """Refuses, before anything is written or begun, what cannot be launched.

    Raises:
      UserError: there is no such cluster here, or fewer slots; an option is another launcher's.
    """
    for launcher, options in OPTIONS.items():
        for option in options:
            if launcher != arguments.launcher and getattr(arguments, option) is not None:
                raise UserError(f'--{option} is for --launcher {launcher}, and this one is {arguments.launcher}; '
                                'leave one of them out')  # fmt: skip
    match arguments.launcher:
        case 'slurm':
            slurm.check(slurm.parameters(arguments.slurm or ()))
        case 'ray':
            ray.check(arguments.address or os.environ.get('RAY_ADDRESS', ''), *_resources(arguments))
        case _:
            local.slots(arguments.slots or 0)


def width(arguments: argparse.Namespace) -> int:
    """How many runs it carries out at a time.

    Raises:
      UserError: as `check`.
    """
    check(arguments)
    match arguments.launcher:
        case 'slurm':
            return slurm.parameters(arguments.slurm or ())['array_parallelism']
        case 'ray':
            return max(1, ray.width(*_resources(arguments)))
        case _:
            return len(local.slots(arguments.slots or 0))


def launch(sweep: state.Directory, tasks: Sequence[Task], stop: Stop, arguments: argparse.Namespace) -> Iterator[str]:
    """Carries out the tasks. Yields what there is to say, and '' now and then, to be shown; ends when all have, or
    `stop` was asked."""
    match arguments.launcher:
        case 'slurm':
            return slurm.launch(sweep, tasks, stop, slurm.parameters(arguments.slurm or ()))
        case 'ray':
            return ray.launch(sweep, tasks, stop, *_resources(arguments))
        case _:
            return local.launch(tasks, local.slots(arguments.slots or 0), stop)


def cancel(sweep: state.Directory) -> None:
    """Takes back what waits in a queue."""
    slurm.cancel(sweep)


def _resources(arguments: argparse.Namespace) -> tuple[int, float]:
    """The CPUs and GPUs of a run, on Ray."""
    cpus, gpus = arguments.cpus, arguments.gpus
    return ray.CPUS if cpus is None else cpus, ray.GPUS if gpus is None else gpus
