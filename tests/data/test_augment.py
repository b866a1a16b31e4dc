"""Normalisation and augmentation against NumPy. No test repeats the draws: each recovers them from what came out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.data import colour
from resnet_jax.data.augment import IMAGENET, Normalization, augment, erase, normalize, statistics
from resnet_jax.data.rand_augment import rand_augment


@pytest.fixture(scope='module')
def photographs():
    """Uneven bytes: other means and deviations in every channel and pixel."""
    random = np.random.default_rng(0)
    ceiling = np.array([40, 255, 120]) - np.arange(5)[:, None, None]
    return random.integers(0, ceiling, (70, 5, 4, 3)).astype(np.uint8)


# Normalisation


def test_pixel_mean_is_every_pixels_own_mean_and_divides_by_nothing(photographs):
    normalization = statistics([photographs], 'pixel_mean')
    expected = (photographs.astype(np.float64) / 255).mean(axis=0)
    np.testing.assert_allclose(normalization.mean, expected, rtol=1e-6)
    assert normalization.mean.shape == (5, 4, 3) and normalization.mean.dtype == np.float32
    np.testing.assert_array_equal(normalization.deviation, np.ones((1, 1, 1), np.float32))


def test_channel_statistics_are_numpys_in_float64(photographs):
    normalization = statistics([photographs], 'channel')
    scaled = photographs.astype(np.float64) / 255
    np.testing.assert_allclose(normalization.mean[0, 0], scaled.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(normalization.deviation[0, 0], scaled.std(axis=(0, 1, 2)), rtol=1e-6)
    assert normalization.mean.shape == normalization.deviation.shape == (1, 1, 3)


def test_statistics_of_many_bright_pixels_do_not_overflow():
    white = np.full((700, 64, 64, 1), 255, np.uint8)  # squares sum to 1.9e11, beyond 32 bits
    white[::2] = 253
    normalization = statistics([white], 'channel')
    np.testing.assert_allclose(normalization.mean, 254 / 255, rtol=1e-6)
    np.testing.assert_allclose(normalization.deviation, 1 / 255, rtol=1e-4)


def test_a_channel_that_never_changes_is_not_divided_by_zero():
    grey = np.full((10, 2, 2, 1), 7, np.uint8)
    normalized = normalize(jnp.asarray(grey), statistics([grey], 'channel'))
    np.testing.assert_allclose(normalized, 0, atol=0.1)


@pytest.mark.parametrize('how', ['pixel_mean', 'channel'])
def test_normalized_images_are_centred_and_in_channel_mode_of_unit_deviation(photographs, how):
    normalization = statistics([photographs], how)
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


def test_bytes_are_normalized_as_numbers_of_their_scale_are(photographs):
    normalization = statistics([photographs], 'channel')
    images = jnp.asarray(photographs)
    np.testing.assert_array_equal(
        normalize(images, normalization), normalize(images.astype(jnp.float32), normalization)
    )


def test_a_normalization_of_one_pixel_spreads_over_images_of_any_size():
    normalization = Normalization(np.full((1, 1, 2), 0.5, np.float32), np.full((1, 1, 2), 0.25, np.float32))
    out = normalize(jnp.full((3, 7, 2, 2), 255, jnp.uint8), normalization)
    np.testing.assert_array_equal(out, np.full((3, 7, 2, 2), 2.0, np.float32))


# Augmentation

SHIFT, IMAGES = 2, 2000
NORMALIZATION = Normalization(np.full((1, 1, 2), 0.4, np.float32), np.full((1, 1, 2), 0.25, np.float32))


@pytest.fixture(scope='module')
def augmented(data_config):
    """`augmented(seed, images, **settings)`: what becomes of them where nothing else is asked for."""

    def call(seed, images, normalization=NORMALIZATION, **settings):
        data = data_config('cifar10')
        data.update({'shift': 0, 'flip': False} | settings)
        program = jax.jit(lambda key, images: augment(key, images, normalization, data))
        return np.asarray(program(jax.random.key(seed), jnp.asarray(images)))

    return call


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
    known = candidates(np.asarray(normalize(jnp.asarray(images), NORMALIZATION)), shift, flip=flip)
    equal = np.array([(crop == out).all(axis=(1, 2, 3)) for crop in known.values()])
    assert (equal.sum(axis=0) == 1).all(), 'every image is exactly one crop of itself'
    return np.array(list(known))[equal.argmax(axis=0)]


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(1).integers(0, 256, (IMAGES, 6, 5, 2), dtype=np.uint8)


@pytest.fixture(scope='module')
def drawn(images, augmented):
    out = augmented(3, images, shift=SHIFT, flip=True)
    assert out.dtype == np.float32
    return draws(images, out, SHIFT, flip=True)


def test_every_image_is_a_crop_of_its_normalized_zero_padded_self_perhaps_mirrored(drawn):
    assert len(drawn) == IMAGES  # `draws` compares with numpy's padding and slicing, to the bit


def test_the_draws_are_those_that_stored_results_were_trained_on(augmented, images):
    out = augmented(3, images[:8], shift=SHIFT, flip=True)
    expected = [(2, 0, 1), (0, 0, 0), (1, 1, 1), (4, 4, 0), (1, 2, 1), (4, 3, 1), (3, 3, 1), (1, 0, 1)]
    np.testing.assert_array_equal(draws(images[:8], out, SHIFT, flip=True), expected)


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


def test_another_key_draws_otherwise_and_the_same_key_alike(augmented, images, drawn):
    again = augmented(3, images, shift=SHIFT, flip=True)
    other = augmented(4, images, shift=SHIFT, flip=True)
    np.testing.assert_array_equal(draws(images, again, SHIFT, flip=True), drawn)
    other = draws(images, other, SHIFT, flip=True)
    assert (other == drawn).all(axis=1).mean() < 0.05  # 1 in 50 by chance


def test_without_flip_nothing_is_mirrored_and_without_shift_nothing_is_cropped(augmented, images):
    shifted = augmented(0, images, shift=SHIFT)
    assert not draws(images, shifted, SHIFT, flip=True)[:, 2].any()
    mirrored = draws(images, augmented(0, images, flip=True), 0, flip=True)[:, 2].astype(bool)
    assert mirrored.any() and not mirrored.all()


def test_where_nothing_is_asked_for_images_are_normalized_and_no_more(augmented, images):
    np.testing.assert_array_equal(augmented(0, images), normalize(jnp.asarray(images), NORMALIZATION))


def test_what_is_not_asked_for_is_not_compiled(data_config, images):
    def operations(**settings):
        data = data_config('cifar10')
        data.update({'shift': 0, 'flip': False} | settings)
        program = jax.jit(lambda key, images: augment(key, images, NORMALIZATION, data))
        text = str(program.lower(jax.random.key(0), images[:4]).compile().as_text())
        return {name for name in ('xor(', 'sort(', 'gather(', 'while(') if name in text}

    assert operations() == set()
    assert 'xor(' in operations(flip=True)  # of the random bits


def test_what_else_is_asked_for_changes_neither_crop_nor_mirroring(augmented, images, drawn):
    erased = augmented(3, images, shift=SHIFT, flip=True, erase=1.0)
    plain = augmented(3, images, shift=SHIFT, flip=True)
    assert (erased != plain).any() and (erased[erased != 0] == plain[erased != 0]).all()
    brighter = augmented(3, images, shift=SHIFT, flip=True, jitter=(0.5, 0.0, 0.0, 0.0))
    kept = np.where(plain == 0, 0, 1)  # a pixel of the padding stays 0 whatever the image's brightness
    assert (brighter != plain).any() and (brighter[kept == 0] == 0).all()


def test_each_kind_of_draw_has_a_key_of_its_own(augmented):
    """Those of crop and mirroring are 0 and 1, the training step's own 2, 3 and 100."""
    key, images = (
        jax.random.key(7),
        jnp.asarray(np.random.default_rng(2).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)),
    )
    keys = jnp.stack([*jax.random.split(key), *(jax.random.fold_in(key, number) for number in (2, 3, 4, 5, 6, 7, 100))])
    assert len(np.unique(jax.random.key_data(keys), axis=0)) == len(keys)
    for expected, settings in (
        (normalize(rand_augment(keys[4], images, 2, 0.3, 0.1), IMAGENET),
         {'rand_augment': 2, 'rand_augment_deviation': 0.1}),
        (normalize(colour.jitter(keys[5], images, (0.4, 0.4, 0.4, 0.1)), IMAGENET), {'jitter': (0.4, 0.4, 0.4, 0.1)}),
        (normalize(colour.lighting(keys[6], images, 0.1), IMAGENET), {'lighting': 0.1}),
        (erase(keys[7], normalize(images, IMAGENET), 0.5), {'erase': 0.5}),
    ):  # fmt: skip
        out = augmented(7, images, IMAGENET, **settings)
        assert (out != normalize(images, IMAGENET)).any()
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_operations_come_before_normalization_and_erasing_after_it(augmented):
    white = np.full((64, 12, 12, 3), 255, np.uint8)
    normalization = Normalization(np.full((1, 1, 3), 0.5, np.float32), np.full((1, 1, 3), 0.5, np.float32))
    out = augmented(0, white, normalization, jitter=(0.3, 0.0, 0.0, 0.0), rand_augment=1, erase=1.0)
    assert out.min() >= -1 and out.max() == 1  # bytes: black is -1, and white is never exceeded
    levels = (out + 1) * 127.5
    np.testing.assert_allclose(levels[out != 0], np.round(levels[out != 0]), atol=1e-3)
    assert (out == 0).any(axis=(1, 2, 3)).all()  # 127.5: no byte


def test_images_of_one_channel_and_few_pixels_are_augmented_too(augmented):
    digits = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    normalization = Normalization(np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32))
    out = augmented(
        0, digits, normalization, shift=1, jitter=(0.3, 0.3, 0.0, 0.0), rand_augment=2, rand_augment_deviation=0.1,
        erase=0.5,
    )  # fmt: skip
    assert out.shape == digits.shape and out.min() >= 0 and out.max() <= 1


# Erasing

ERASED = 3000


def boxes(out):
    """(images, 4): top, left, height and width of the zeros of each image of ones; 0 where there are none."""
    zeros = out[..., 0] == 0
    rows, columns = zeros.any(axis=2), zeros.any(axis=1)
    height, width = rows.sum(axis=1), columns.sum(axis=1)
    np.testing.assert_array_equal(zeros.sum(axis=(1, 2)), height * width)  # a whole box
    np.testing.assert_array_equal(out, np.where(zeros, 0.0, 1.0)[..., None] * np.ones(out.shape[-1]))
    return np.stack([rows.argmax(axis=1), columns.argmax(axis=1), height, width], axis=1)


@pytest.fixture(scope='module')
def erased():
    ones = jnp.ones((ERASED, 40, 60, 2))
    return boxes(np.asarray(erase(jax.random.key(5), ones, 1.0)))


def test_the_erased_box_has_the_area_and_the_shape_that_were_asked_for(erased):
    *_, height, width = erased.T
    assert (height >= 1).all() and (height < 40).all() and (width < 60).all()
    # Each side is off by at most half a pixel.
    assert ((height + 0.5) * (width + 0.5) >= 0.02 * 2400).all()
    assert ((height - 0.5) * (width - 0.5) <= 0.33 * 2400).all()
    assert ((height + 0.5) / (width - 0.5) >= 0.3).all() and ((height - 0.5) / (width + 0.5) <= 3.3).all()
    share = height * width / 2400
    assert share.min() < 0.03 and share.max() > 0.3
    assert (height / width < 0.4).any() and (height / width > 2.5).any()


def test_the_erased_box_lies_anywhere_in_the_image_and_inside_it(erased):
    for start, length, size in ((erased[:, 0], erased[:, 2], 40), (erased[:, 1], erased[:, 3], 60)):
        room = size - length
        assert (start <= room).all() and (start == 0).any() and (start == room).any()
        place = (start + 0.5) / (room + 1)  # uniform
        assert abs(place.mean() - 0.5) < 4 / np.sqrt(12 * ERASED)
        assert abs(place.var() - 1 / 12) < 0.01


def test_every_image_has_its_own_box(erased):
    assert len(np.unique(erased, axis=0)) > 0.95 * ERASED


@pytest.mark.parametrize('probability', [0.0, 0.25, 1.0])
def test_so_many_images_are_erased(probability):
    out = np.asarray(erase(jax.random.key(2), jnp.ones((ERASED, 9, 9, 1)), probability))
    share = (out == 0).any(axis=(1, 2, 3)).mean()
    assert abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / ERASED)


def test_an_image_in_which_no_box_fits_stays_as_it_is():
    np.testing.assert_array_equal(erase(jax.random.key(0), jnp.ones((50, 1, 1, 1)), 1.0), np.ones((50, 1, 1, 1)))
