"""Claims on one network whose interval is by bootstrap: over test images, or over draws of blocks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import _veit
from experiments._lesion_measure import error
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import Claim, Interval
from resnet_jax.report.intervals import bootstrap

OURS = 'this project'
LITTLE = Interval(-np.inf, 0.1)  # of what there is to lose


def to_lose(run: Measured, chosen: np.ndarray) -> float:
    """From the intact network's error to chance, percentage points."""
    return 100 * (1 - 1 / run.arch.classes) - float(error(run['intact_right'][chosen]))


def over_examples(
    run: Measured, config: ConfigDict, statistic: Callable, *, count: int | None = None, **said: Any
) -> Claim:
    count = count or len(run['intact_right'])
    return claim_of(run, config, statistic, count, n=f'{count} test images, {len(run["block"])} blocks', **said)


def over_draws(run: Measured, config: ConfigDict, statistic: Callable, **said: Any) -> Claim:
    draws = run['error_without_entry'].shape[1]
    return claim_of(run, config, statistic, draws, n=f'{draws} draws', figure='many_deletions', **said)


def claim_of(
    run: Measured, config: ConfigDict, statistic: Callable[[np.ndarray], float], count: int, *, figure: str,
    section: str = '', source: str = '', **said: Any,
) -> Claim:  # fmt: skip
    """The claim that `said` states; its statistic takes numbers of examples, draws or orders, of which `count` are."""
    value, interval = bootstrap(statistic, count, config)
    return Claim(source=source or f'{_veit.PAPER}, section {section}', data=run.data, figure=f'lesion_{figure}',
                 measured=value, interval=interval, **said)  # fmt: skip
