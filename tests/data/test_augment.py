"""Normalisation and augmentation against NumPy. No test repeats the draws: each recovers them from what came out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.data.augment import Normalization, augment, normalize, statistics


@pytest.fixture(scope='module')
def photographs():
    """Uneven bytes: other means and deviations in every channel and pixel."""
    random = np.random.default_rng(0)
    ceiling = np.array([40, 255, 120]) - np.arange(5)[:, None, None]
    return random.integers(0, ceiling, (70, 5, 4, 3)).astype(np.uint8)


# Normalisation


def test_pixel_mean_is_every_pixels_own_mean_and_divides_by_nothing(photographs):
    normalization = statistics(photographs, 'pixel_mean')
    expected = (photographs.astype(np.float64) / 255).mean(axis=0)
    np.testing.assert_allclose(normalization.mean, expected, rtol=1e-6)
    assert normalization.mean.shape == (5, 4, 3) and normalization.mean.dtype == np.float32
    np.testing.assert_array_equal(normalization.deviation, np.ones((1, 1, 1), np.float32))


def test_channel_statistics_are_numpys_in_float64(photographs):
    normalization = statistics(photographs, 'channel')
    scaled = photographs.astype(np.float64) / 255
    np.testing.assert_allclose(normalization.mean[0, 0], scaled.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(normalization.deviation[0, 0], scaled.std(axis=(0, 1, 2)), rtol=1e-6)
    assert normalization.mean.shape == normalization.deviation.shape == (1, 1, 3)


def test_statistics_of_many_bright_pixels_do_not_overflow():
    white = np.full((700, 64, 64, 1), 255, np.uint8)  # squares sum to 1.9e11, beyond 32 bits
    white[::2] = 253
    normalization = statistics(white, 'channel')
    np.testing.assert_allclose(normalization.mean, 254 / 255, rtol=1e-6)
    np.testing.assert_allclose(normalization.deviation, 1 / 255, rtol=1e-4)


def test_a_channel_that_never_changes_is_not_divided_by_zero():
    grey = np.full((10, 2, 2, 1), 7, np.uint8)
    normalized = normalize(jnp.asarray(grey), statistics(grey, 'channel'))
    np.testing.assert_allclose(normalized, 0, atol=0.1)


@pytest.mark.parametrize('how', ['pixel_mean', 'channel'])
def test_normalized_images_are_centred_and_in_channel_mode_of_unit_deviation(photographs, how):
    normalization = statistics(photographs, how)
    normalized = np.asarray(normalize(jnp.asarray(photographs), normalization))
    assert normalized.dtype == np.float32
    scaled = photographs.astype(np.float64) / 255
    axes = 0 if how == 'pixel_mean' else (0, 1, 2)
    expected = scaled - scaled.mean(axis=axes)
    np.testing.assert_allclose(normalized.mean(axis=axes), 0, atol=1e-6)
    if how == 'channel':
        np.testing.assert_allclose(normalized.std(axis=axes), 1, rtol=1e-5)
        expected = expected / scaled.std(axis=axes)
    np.testing.assert_allclose(normalized, expected, atol=1e-5)


# Augmentation

SHIFT, IMAGES = 2, 2000


def candidates(images, shift, *, flip):
    """Every crop of the padded images: {(row, column, mirrored): images}."""
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
    _, height, width, _ = images.shape
    crops = {
        (row, column, False): padded[:, row : row + height, column : column + width]
        for row in range(2 * shift + 1)
        for column in range(2 * shift + 1)
    }
    return crops | ({(*corner, True): crop[:, :, ::-1] for (*corner, _), crop in crops.items()} if flip else {})


def draws(images, out, shift, *, flip):
    """(images, 3): the row, column and mirroring that each image got, recovered by comparing with all of them."""
    known = candidates(images, shift, flip=flip)
    equal = np.array([(crop == out).all(axis=(1, 2, 3)) for crop in known.values()])
    assert (equal.sum(axis=0) == 1).all(), 'every image is exactly one crop of itself'
    return np.array(list(known))[equal.argmax(axis=0)]


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(1).normal(size=(IMAGES, 6, 5, 2)).astype(np.float32)


@pytest.fixture(scope='module')
def drawn(images):
    out = augment(jax.random.key(3), jnp.asarray(images), shift=SHIFT, flip=True)
    assert out.dtype == jnp.float32
    return draws(images, np.asarray(out), SHIFT, flip=True)


def test_every_image_is_a_crop_of_its_zero_padded_self_perhaps_mirrored(drawn):
    assert len(drawn) == IMAGES  # `draws` compares with numpy's padding and slicing, to the bit


def test_every_corner_is_drawn_equally_often(drawn):
    counts = np.zeros((2 * SHIFT + 1, 2 * SHIFT + 1))
    np.add.at(counts, (drawn[:, 0], drawn[:, 1]), 1)
    expected = IMAGES / counts.size
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 51.2  # 24 degrees of freedom: passed by a fair draw in all but one of a thousand keys


def test_one_image_in_two_is_mirrored_whatever_its_crop(drawn):
    mirrored = drawn[:, 2]
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(IMAGES)
    for axis in (0, 1):
        assert abs(np.corrcoef(drawn[:, axis], mirrored)[0, 1]) < 4 / np.sqrt(IMAGES)


def test_row_and_column_are_drawn_apart(drawn):
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 4 / np.sqrt(IMAGES)


def test_another_key_draws_otherwise_and_the_same_key_alike(images, drawn):
    again = augment(jax.random.key(3), jnp.asarray(images), shift=SHIFT, flip=True)
    other = augment(jax.random.key(4), jnp.asarray(images), shift=SHIFT, flip=True)
    np.testing.assert_array_equal(draws(images, np.asarray(again), SHIFT, flip=True), drawn)
    other = draws(images, np.asarray(other), SHIFT, flip=True)
    assert (other == drawn).all(axis=1).mean() < 0.05  # 1 in 50 by chance


def test_without_flip_nothing_is_mirrored_and_without_shift_nothing_is_cropped(images):
    shifted = augment(jax.random.key(0), jnp.asarray(images), shift=SHIFT, flip=False)
    assert not draws(images, np.asarray(shifted), SHIFT, flip=True)[:, 2].any()
    flipped = np.asarray(augment(jax.random.key(0), jnp.asarray(images), shift=0, flip=True))
    mirrored = draws(images, flipped, 0, flip=True)[:, 2].astype(bool)
    assert mirrored.any() and not mirrored.all()


def test_without_shift_and_flip_it_is_the_identity(images):
    out = augment(jax.random.key(0), jnp.asarray(images), shift=0, flip=False)
    np.testing.assert_array_equal(out, images)


def test_a_normalization_of_one_pixel_spreads_over_images_of_any_size():
    normalization = Normalization(np.full((1, 1, 2), 0.5, np.float32), np.full((1, 1, 2), 0.25, np.float32))
    out = normalize(jnp.full((3, 7, 2, 2), 255, jnp.uint8), normalization)
    np.testing.assert_array_equal(out, np.full((3, 7, 2, 2), 2.0, np.float32))
