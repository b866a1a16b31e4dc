"""What the landscape experiment says of one network, and which networks it holds against each other."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnet_jax.analysis import hessian
from resnet_jax.experiment import Measured, by_network
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.intervals import SEEDS

CURVATURE = 'nats per squared unit of the parameters'


def loss_at_centre(run: Measured) -> float:
    middle = len(run['step']) // 2
    return float(run['loss'][middle, middle])


def rise(run: Measured) -> float:
    """By how much the loss is higher than at the centre, median over the square, nats."""
    return float(np.median(run['loss'])) - loss_at_centre(run)


def ratios(run: Measured) -> np.ndarray:
    """|λmin / λmax| at every point of the square, 0 where λmin is not negative, inf where λmax is not positive."""
    with np.errstate(divide='ignore', invalid='ignore'):
        found = -run['lowest'] / np.maximum(run['highest'], 0)
    return np.where(run['lowest'] >= 0, 0.0, found)


def non_convexity(run: Measured) -> float:
    """`ratios`, median over the square; NaN where no Hessian is finite."""
    known = ratios(run)[~np.isnan(run['lowest'])]
    return float(np.median(known)) if len(known) else np.nan


def sharpness(run: Measured) -> float:
    """The largest eigenvalue at the centre; NaN where it is not finite."""
    return float(np.fmax.reduce(run['eigenvalue'], axis=None))


def near_zero(run: Measured, width: float) -> float:
    return hessian.share_near_zero(run['eigenvalue'], run['weight'], width)


def trained(run: Measured) -> bool:
    """Is the loss below half of chance's? Else what it stands at is no minimum."""
    return loss_at_centre(run) < np.log(run.arch.classes) / 2


class Network(NamedTuple):
    """The seeds of one network, and how figures and tables name it."""

    label: str
    plain: bool
    runs: list[Measured]


def twins(measured: Sequence[Measured]) -> dict[int, tuple[list[Measured], list[Measured]]]:
    """Depth -> residual runs and plain ones, seed by seed, of networks that else are as the main run's."""
    networks, found = by_network(measured), {}
    for arch, residual in networks.items():
        plain = networks.get(dataclasses.replace(arch, shortcut='none'), [])
        seeds = {each.seed for each in residual} & {each.seed for each in plain}
        if _alike(arch, measured[0].arch) and len(seeds) >= SEEDS:
            found[residual[0].depth] = tuple([run for run in kind if run.seed in seeds] for kind in (residual, plain))
    return dict(sorted(found.items()))


def _alike(arch: Architecture, main: Architecture) -> bool:
    """Is it residual, and differs from the main network in depth alone (in shortcuts too, where that one is plain)?"""
    shortcut = arch.shortcut if main.plain else main.shortcut
    return not arch.plain and arch == dataclasses.replace(main, stage_blocks=arch.stage_blocks, shortcut=shortcut)


def shown(measured: Sequence[Measured]) -> list[Network]:
    """Every pair of twins, residual before plain, the deepest pair first; without any, the main network alone."""
    pairs = sorted(twins(measured).items(), reverse=True)
    networks = [runs for _, pair in pairs for runs in pair] or [by_network(measured)[measured[0].arch]]
    return [_named(runs) for runs in networks]


def _named(runs: list[Measured]) -> Network:
    plain = runs[0].arch.plain
    return Network(f'{"plain" if plain else "residual"} {runs[0].depth}', plain, runs)
