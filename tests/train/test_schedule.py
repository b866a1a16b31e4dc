"""The learning rate at every step that matters, by the papers and by hand."""

import numpy as np
import pytest

from configs import cifar10, default, digits, imagenet
from resnet_jax.train.schedule import learning_rate


def schedule(**settings):
    train = default.get_config().train
    train.schedule.update(settings)
    return learning_rate(train)


def values(rate, *steps):
    return [pytest.approx(expected, rel=1e-6) == float(rate(step)) for step, expected in steps]


def test_the_papers_rate_falls_at_the_very_steps_32000_and_48000():
    """He et al. 2015, section 4.2: 0.1, divided by 10 at 32k and 48k."""
    rate = learning_rate(cifar10.get_config().train)
    steps = (0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)
    assert all(values(rate, *steps))


def test_the_papers_warm_up_is_a_hundredth_for_400_steps_and_moves_no_boundary():
    """He et al. 2015 on ResNet-110: 0.01 at first, "about 400 iterations", then 0.1 and the schedule as before."""
    rate = learning_rate(cifar10.get_config('resnet110').train)
    steps = (0, 0.01), (399, 0.01), (400, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001)
    assert all(values(rate, *steps))


def test_veits_rate_falls_after_epochs_81_and_122():
    rate = learning_rate(cifar10.get_config('veit2016').train)
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
    rate = learning_rate(digits.get_config().train)  # 33 of 330 steps
    np.testing.assert_allclose([float(rate(step)) for step in range(33)], 0.1 * np.arange(33) / 33, rtol=1e-6)
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(298) / 297))
    np.testing.assert_allclose([float(rate(33 + step)) for step in range(298)], cosine, atol=1e-8)


def test_warm_up_steps_without_a_warm_up_change_nothing():
    rate = schedule(warmup='none', warmup_steps=400)
    assert all(values(rate, (0, 0.1), (399, 0.1), (32_000, 0.01)))


# Scaling with the batch


def scaled(batch, **settings):
    train = default.get_config().train
    train.batch_size = batch
    train.schedule.update(settings)
    return learning_rate(train)


def test_goyals_rate_is_a_tenth_for_256_images_and_3_2_for_8192():
    """Goyal et al. 2017, arXiv 1706.02677, section 2.1 and table 1; with the warm-up of section 2.2, from 0 here."""
    for batch, rate in ((256, 0.1), (512, 0.2), (1024, 0.4), (8192, 3.2)):
        config = imagenet.get_config('goyal2017')
        config.train.batch_size = batch
        steps = (0, rate), (29, rate), (30, rate / 10), (59, rate / 10), (60, rate / 100), (89, rate / 1000)
        assert all(values(learning_rate(config.train), *steps))
        config.train.schedule.warmup = 'linear'
        assert all(values(learning_rate(config.train), (0, 0), (1, rate / 5), (4, 4 * rate / 5), (5, rate)))


def test_krizhevskys_rate_grows_with_the_root_of_the_batch():
    """Krizhevsky 2014, arXiv 1404.5997: times k the batch, times the root of k the rate."""
    for batch, rate in ((128, 0.1), (512, 0.2), (32, 0.05)):
        assert all(values(scaled(batch, scaling='sqrt', scaling_batch=128), (0, rate), (32_000, rate / 10)))


def test_every_rate_is_scaled_that_of_the_warm_up_too_and_a_cosine_still_ends_at_0():
    constant = scaled(512, scaling='linear', warmup='constant', warmup_steps=400)
    assert all(values(constant, (0, 0.02), (399, 0.02), (400, 0.2), (48_000, 0.002)))
    cosine = scaled(64, scaling='linear', name='cosine', steps=200)
    assert all(values(cosine, (0, 0.025), (100, 0.0125)))
    assert float(cosine(200)) == pytest.approx(0, abs=1e-8)


def test_without_scaling_no_batch_changes_a_rate():
    for batch in (1, 256, 8192):
        assert all(values(scaled(batch, scaling='none', scaling_batch=256), (0, 0.1), (32_000, 0.01)))


@pytest.mark.parametrize(
    ('recipe', 'steps'),
    [
        ('he2015', ((0, 0.1), (39, 0.1), (40, 0.01), (80, 0.001))),
        ('goyal2017', ((0, 0.1), (30, 0.01), (60, 0.001), (80, 0.0001))),
        ('bag_of_tricks', ((1, 0.08), (5, 0.4))),
        ('strikes_back_a2', ((1, 0.001), (5, 0.005))),
    ],
)
def test_the_rates_of_imagenets_recipes_are_the_papers_at_their_own_batches(recipe, steps):
    """Epochs stand for steps here."""
    assert all(values(learning_rate(imagenet.get_config(recipe).train), *steps))
