import numpy as np
import pytest
from ml_collections import ConfigDict

from resnet_jax.report.claims import Interval
from resnet_jax.report.intervals import all_seeds, bootstrap, over_seeds


def test_the_interval_over_three_seeds_is_students():
    # 4.302653 is the 97.5 % quantile of t with 2 degrees of freedom (tables); the standard error of 1, 2, 3 is 1/√3.
    mean, interval = over_seeds([1.0, 2.0, 3.0])
    assert mean == 2
    np.testing.assert_allclose([interval.low, interval.high], 2 + np.array([-1, 1]) * 4.302653 / np.sqrt(3), rtol=1e-6)


def test_of_one_seed_nothing_is_known():
    assert over_seeds([1.5]) == (1.5, Interval(-np.inf, np.inf))


def test_seeds_that_agree_have_no_spread():
    assert over_seeds([2.5, 2.5, 2.5]) == (2.5, Interval(2.5, 2.5))


def test_all_seeds_is_the_median_and_the_range():
    assert all_seeds([5.0, 1.0, 2.0]) == (2.0, Interval(1.0, 5.0))
    assert all_seeds([1.0, 2.0]) == (1.5, Interval(-np.inf, np.inf))


def test_the_bootstrap_of_a_mean_has_the_width_of_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)
    config = ConfigDict({'resamples': 4000, 'confidence': 0.95, 'seed': 0})
    value, interval = bootstrap(lambda examples: float(values[examples].mean()), len(values), config)
    assert value == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([interval.low, interval.high], value + np.array([-half, half]), atol=0.1 * half)
