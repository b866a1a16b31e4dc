"""What the landscape experiment claims: plain networks against residual ones, seed by seed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments._landscape_quantities import (
    CURVATURE,
    near_zero,
    non_convexity,
    rise,
    sharpness,
    shown,
    trained,
    twins,
)
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import ABOVE_ZERO, Claim, Interval
from resnet_jax.report.intervals import all_seeds, over_seeds

PAPER = 'Li et al. 2018, arXiv 1712.09913, section 6'


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of the surface, of minima, and of the main network's spectrum."""
    pairs = twins(measured)
    minima = {depth: pair for depth, pair in pairs.items() if all(trained(run) for kind in pair for run in kind)}
    made = _surface_claims(pairs)
    for depth, (residual, plain) in minima.items():
        made += _more(
            plain, residual, sharpness, statement=f'Shortcuts lead to flatter minima ({depth} layers)',
            quantity=f'largest eigenvalue of the Hessian at the centre, {CURVATURE}',
            expected='above 0 (section 1)', figure='spectrum',
        )  # fmt: skip
    return made + _bulk(shown(measured)[0].runs, config)


def _surface_claims(pairs: dict[int, tuple[list[Measured], list[Measured]]]) -> list[Claim]:
    """Of the deepest pair, and of its plain network against the shallowest."""
    if not pairs:
        return []
    (shallow, (_, shallow_plain)), (deep, (residual, plain)) = min(pairs.items()), max(pairs.items())
    ratio = '|λmin / λmax| of the Hessian over the square'
    made = _more(
        plain, residual, rise, statement=f'Without shortcuts the loss rises higher around the network ({deep} layers)',
        quantity='rise of the loss over the square, nats', expected='above 0 (figure 5)', figure='surface',
    ) + _more(
        plain, residual, non_convexity,
        statement=f'Without shortcuts the surface is further from convex ({deep} layers)',
        quantity=ratio, expected='above 0 (figure 7)', figure='curvature',
    )  # fmt: skip
    if shallow != deep:
        made += _more(
            plain, shallow_plain, non_convexity,
            statement=f'Without shortcuts depth makes the surface less convex ({deep} layers against {shallow})',
            quantity=ratio, expected='above 0 (figure 5)', figure='curvature',
        )  # fmt: skip
    return made


def _more(
    ones: Sequence[Measured], others: Sequence[Measured], statistic: Callable[[Measured], float], *,
    quantity: str, figure: str, **said: Any,
) -> list[Claim]:  # fmt: skip
    """That a statistic is greater of the ones, in every seed; not claimed where a seed has none."""
    with np.errstate(invalid='ignore'):  # inf - inf
        differences = np.array([statistic(run) for run in ones]) - [statistic(run) for run in others]
    if np.isnan(differences).any():
        return []
    measured, interval = all_seeds(differences)
    return [
        Claim(
            source=PAPER, form='shape', accept=ABOVE_ZERO, measured=measured, interval=interval,
            quantity=f'difference, median and range over seeds, of: {quantity}', n=f'{len(differences)} seeds',
            data=ones[0].data, figure=f'landscape_{figure}', **said,
        )
    ]  # fmt: skip


def _bulk(runs: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """That the spectrum is a bulk near zero, where it is known."""
    shares = [share for run in runs if not np.isnan(share := near_zero(run, config.near_zero))]
    if not shares:
        return []
    measured, interval = over_seeds(shares)
    return [
        Claim(
            statement='Nearly all eigenvalues of the Hessian are near zero',
            source='Sagun et al. 2017, arXiv 1706.04454, section 1',
            quantity=f'share of eigenvalues of at most {config.near_zero} times the largest in size, mean over seeds',
            expected='a bulk about zero, and few outliers', accept=Interval(0.9, np.inf), form='shape',
            measured=measured, interval=interval, n=f'{len(shares)} seeds', data=runs[0].data,
            figure='landscape_spectrum',
        )
    ]  # fmt: skip
