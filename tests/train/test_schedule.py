"""The learning rate at every step that matters, by the papers and by hand."""

import numpy as np
import pytest

from configs import cifar10, default, digits
from resnet_jax.train.schedule import learning_rate


def schedule(**settings):
    made = default.get_config().train.schedule
    made.update(settings)
    return learning_rate(made)


def values(rate, *steps):
    return [pytest.approx(expected, rel=1e-6) == float(rate(step)) for step, expected in steps]


def test_the_papers_rate_falls_at_the_very_steps_32000_and_48000():
    """He et al. 2015, section 4.2: 0.1, divided by 10 at 32k and 48k."""
    rate = learning_rate(cifar10.get_config().train.schedule)
    steps = (0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)
    assert all(values(rate, *steps))


def test_the_papers_warm_up_is_a_hundredth_for_400_steps_and_moves_no_boundary():
    """He et al. 2015 on ResNet-110: 0.01 at first, "about 400 iterations", then 0.1 and the schedule as before."""
    rate = learning_rate(cifar10.get_config('resnet110').train.schedule)
    steps = (0, 0.01), (399, 0.01), (400, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001)
    assert all(values(rate, *steps))


def test_veits_rate_falls_after_epochs_81_and_122():
    rate = learning_rate(cifar10.get_config('veit2016').train.schedule)
    steps = (81 * 390 - 1, 0.1), (81 * 390, 0.01), (122 * 390 - 1, 0.01), (122 * 390, 0.001), (164 * 390, 0.001)
    assert all(values(rate, *steps))


def test_a_boundary_within_the_warm_up_counts_at_its_end():
    rate = schedule(boundaries=(10, 30), warmup='constant', warmup_steps=20, warmup_rate=0.05)
    assert all(values(rate, (0, 0.05), (10, 0.05), (19, 0.05), (20, 0.01), (29, 0.01), (30, 0.001)))


def test_a_cosine_starts_at_the_rate_is_half_of_it_in_the_middle_and_0_at_the_end():
    rate = schedule(name='cosine', steps=200, learning_rate=0.4)
    assert all(values(rate, (0, 0.4), (100, 0.2)))
    assert float(rate(200)) == pytest.approx(0, abs=1e-8) == float(rate(500))


def test_a_cosine_is_the_cosine_at_every_step():
    rate = schedule(name='cosine', steps=50, learning_rate=0.1)
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(51) / 50))
    np.testing.assert_allclose([float(rate(step)) for step in range(51)], expected, atol=1e-8)


def test_a_linear_warm_up_rises_from_0_in_equal_steps_and_hands_the_full_rate_to_the_cosine():
    rate = learning_rate(digits.get_config().train.schedule)  # 33 of 330 steps
    np.testing.assert_allclose([float(rate(step)) for step in range(33)], 0.1 * np.arange(33) / 33, rtol=1e-6)
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(298) / 297))
    np.testing.assert_allclose([float(rate(33 + step)) for step in range(298)], cosine, atol=1e-8)


def test_warm_up_steps_without_a_warm_up_change_nothing():
    rate = schedule(warmup='none', warmup_steps=400)
    assert all(values(rate, (0, 0.1), (399, 0.1), (32_000, 0.01)))
