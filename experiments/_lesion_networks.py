"""The claims of the lesion experiment on networks held against each other: by depth, with shortcuts and without."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import _veit
from experiments._lesion_measure import error, increase, inner, networks
from experiments._lesion_statistics import over_examples
from experiments._networks import names, paired
from resnet_jax.experiment import Measured
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.claims import ABOVE_ZERO, Claim, Interval
from resnet_jax.report.intervals import SEEDS, all_seeds, bootstrap


def shallow_to_deep(measured: Sequence[Measured]) -> list[Measured]:
    """The networks of the main one's kind, by depth; none where there is one depth alone, or it is plain."""

    def kind(run: Measured) -> Architecture:
        return replace(run.arch, stage_blocks=())

    alike = [run for run in networks(measured) if kind(run) == kind(measured[0])]
    alike = sorted(alike, key=lambda run: run.depth)
    return alike if len(alike) > 1 and not measured[0].arch.plain else []


def nearest(run: Measured, among: Sequence[Measured]) -> Measured | None:
    """Which of these is nearest to a network in depth, then in its kind of block; None of none."""

    def distance(other: Measured) -> tuple:
        kinds = [(each.arch.block, each.arch.placement) for each in (run, other)]
        return abs(other.depth - run.depth), kinds[0] != kinds[1]

    return min(among, key=distance, default=None)


def depth_claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of networks that differ in depth."""
    alike = shallow_to_deep(measured)
    if not alike:
        return []

    def least_step(runs: Sequence[Measured], chosen: np.ndarray | slice) -> float:
        costs = [increase(run, inner(run), chosen) for run in runs]
        return float(-np.diff(costs).max())

    said = names(networks(measured))
    by_depth = ', '.join(said[networks(measured).index(run)] for run in alike)
    made = [
        _between(
            alike, measured, config, least_step,
            statement=f'Resilience grows with depth: a deletion costs less in each deeper network ({by_depth})',
            quantity='least difference of the median increases of the error from one depth to the next, points',
            expected='23 against 0.4 points (20 and 110 layers)',
        )
    ]  # fmt: skip
    if alike[0].data == 'cifar10' and alike[0].title == 'preact_resnet20':
        made.append(
            _error_without_one(
                alike[0], config, expected='31 %', accept=Interval(15.0, np.inf),
                statement='A shallow residual network is hurt by losing one block (preact_resnet20)',
            )
        )  # fmt: skip
    return made


def shortcut_claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of networks without shortcuts, each against the residual one that is nearest to it."""
    every, made = networks(measured), []
    said = dict(zip((run.arch for run in every), names(every), strict=True))
    for plain in (run for run in every if run.arch.plain):
        residual = nearest(plain, [run for run in every if not run.arch.plain])
        if residual is not None:
            made.append(
                _between(
                    [plain, residual], measured, config, _costs_more,
                    statement=f'Without shortcuts a deletion costs more: {said[plain.arch]} against '
                    f'{said[residual.arch]}',
                    quantity='difference of the median increases of the error, percentage points',
                    expected='80 to 90 (VGG) against 0.4',
                )
            )  # fmt: skip
        if plain.data == 'cifar10':
            made.append(
                _error_without_one(
                    plain, config, expected='88 to 98 % (VGG)', accept=Interval(80.0, 100.0),
                    statement=f'A plain network ({said[plain.arch]}) does not survive losing one layer',
                )
            )  # fmt: skip
    return made


def _costs_more(runs: Sequence[Measured], chosen: np.ndarray | slice) -> float:
    plain, residual = (increase(run, inner(run), chosen) for run in runs)
    return plain - residual


def _between(
    compared: Sequence[Measured], measured: Sequence[Measured], config: ConfigDict, statistic: Callable, *,
    statement: str, **said: Any,
) -> Claim:  # fmt: skip
    """Of networks: seed by seed where there are enough of each, else by the test images of the one that is given."""
    rows = paired(*([run for run in measured if run.arch == each.arch] for each in compared))
    if len(rows) >= SEEDS:
        value, interval = all_seeds([statistic(row, slice(None)) for row in rows])
        n = f'{len(rows)} seeds'
    else:
        count = len(compared[0]['intact_right'])
        value, interval = bootstrap(partial(statistic, compared), count, config)
        statement, n = f'{statement}; one seed each', f'{count} test images'
    return Claim(
        statement=statement, source=f'{_veit.PAPER}, section 4.1', accept=ABOVE_ZERO, form='shape', measured=value,
        interval=interval, n=n, data=compared[0].data, figure='lesion_networks', **said,
    )  # fmt: skip


def _error_without_one(run: Measured, config: ConfigDict, **said: Any) -> Claim:
    """How wrong a network is that has lost one block."""
    return over_examples(
        run, config, lambda chosen: np.median(error(run['single_right'][inner(run)][:, chosen])), section='4.1',
        quantity='median error after deleting one block, %', form='number', figure='networks', **said,
    )  # fmt: skip
