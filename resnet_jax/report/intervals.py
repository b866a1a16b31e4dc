"""Intervals of measurements: over seeds where something was trained, over examples where it was not."""

from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from resnet_jax.report.claims import Interval

CONFIDENCE = 0.95
SEEDS = 3  # fewer decide nothing that must hold of every seed


def over_seeds(values: Sequence[float] | np.ndarray) -> tuple[float, Interval]:
    """The mean over seeds and its 95 % interval by Student's t. Of one seed alone nothing is known: (-inf, inf).

    What is compared seed by seed goes in as differences.
    """
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) == 1:
        return mean, Interval(-np.inf, np.inf)
    if np.ptp(values) == 0:  # where Student's t divides by 0
        return mean, Interval(mean, mean)
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, loc=mean, scale=stats.sem(values))
    return mean, Interval(float(low), float(high))


def all_seeds(values: Sequence[float] | np.ndarray) -> tuple[float, Interval]:
    """The median over seeds and the range of all of them, for what must hold of every seed.

    Of fewer than `SEEDS` nothing is known: (-inf, inf).
    """
    values = np.asarray(values, float)
    known = len(values) >= SEEDS
    low, high = (float(values.min()), float(values.max())) if known else (-np.inf, np.inf)
    return float(np.median(values)), Interval(low, high)


def bootstrap(statistic: Callable[[np.ndarray], float], count: int, config: ConfigDict) -> tuple[float, Interval]:
    """A statistic of `count` examples (or draws) and its percentile interval by resampling them.

    Args:
      statistic: takes the numbers of examples, (n,).
      config: `resamples`, `confidence`, `seed`.
    """
    everything = np.arange(count)
    resampled = stats.bootstrap(
        (everything,), statistic, vectorized=False, method='percentile', n_resamples=config.resamples,
        confidence_level=config.confidence, rng=np.random.default_rng(config.seed),
    ).confidence_interval  # fmt: skip
    return float(statistic(everything)), Interval(float(resampled.low), float(resampled.high))
