"""Each operation against Pillow, and the random ones by what came out: no test repeats the draws."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from resnet_jax.data import colour

HEIGHT, WIDTH = 41, 58


def pictures():
    """Noise; a smooth picture, of which neighbours and channels are alike; few levels; grey; black and white."""
    random = np.random.default_rng(0)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    noise = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    smooth = np.stack([column * 4, row * 6, (row + column) * 2 + 30], axis=-1).astype(np.uint8)
    return {
        'noise': noise,
        'smooth': smooth,
        'few_levels': noise // 64 * 20 + 90,
        'grey': np.repeat(noise[..., :1], 3, axis=-1),
        'extremes': (noise // 128 * 255).astype(np.uint8),
        'one_channel': noise[..., :1],
    }


PICTURES = pictures()
COLOURED = [name for name in PICTURES if name != 'one_channel']


def pillow(picture):
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def turned(image, turns):
    """torchvision's adjust_hue of a Pillow image."""
    hue, saturation, value = image.convert('HSV').split()
    bytes_ = np.array(hue) + np.int32(turns * 255).astype(np.uint8)
    return Image.merge('HSV', (Image.fromarray(bytes_), saturation, value)).convert('RGB')


def difference(operation, reference, picture, *amount):
    """Of every value, in levels."""
    amounts = [jnp.asarray(each, jnp.int32 if isinstance(each, int) else jnp.float32) for each in amount]
    ours = np.asarray(jax.jit(operation)(jnp.asarray(picture), *amounts))
    assert ours.dtype == np.uint8 and ours.shape == picture.shape
    theirs = np.asarray(reference(pillow(picture), *amount)).reshape(picture.shape)
    return np.abs(ours.astype(int) - theirs)


ENHANCED = {
    'brightness': (colour.brightness, lambda image, factor: ImageEnhance.Brightness(image).enhance(factor)),
    'contrast': (colour.contrast, lambda image, factor: ImageEnhance.Contrast(image).enhance(factor)),
    'saturation': (colour.saturation, lambda image, factor: ImageEnhance.Color(image).enhance(factor)),
    'sharpness': (colour.sharpness, lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor)),
}


@pytest.mark.parametrize('picture', PICTURES)
@pytest.mark.parametrize('name', ENHANCED)
def test_enhancing_is_pillows(name, picture):
    for factor in (0.0, 0.25, 0.6875, 1.0, 1.5, 2.0):  # of few bits: no product is rounded
        assert difference(*ENHANCED[name], PICTURES[picture], factor).max() == 0
    for factor in (0.1, 0.37, 0.73, 1.27, 1.9):
        off = difference(*ENHANCED[name], PICTURES[picture], factor)
        # A compiler that multiplies and adds in one rounds once less, where the sum is all but whole.
        assert off.max() <= 1 and (off > 0).mean() < 0.02


@pytest.mark.parametrize(('name', 'other'), list(itertools.permutations(ENHANCED, 2)))
def test_no_enhancement_passes_for_another_or_for_another_factor(name, other):
    ours, theirs = ENHANCED[name][0], ENHANCED[other][1]
    assert (difference(ours, theirs, PICTURES['noise'], 1.5) > 1).mean() > 0.3
    assert (difference(ours, lambda image, _: ENHANCED[name][1](image, 1.45), PICTURES['noise'], 1.5) > 1).mean() > 0.1


@pytest.mark.parametrize('picture', COLOURED)
def test_turning_the_hue_is_pillows(picture):
    for turns in (-0.5, -0.3125, -0.1, 0.0, 0.03, 0.125, 0.4, 0.5):
        off = difference(colour.hue, turned, PICTURES[picture], turns)
        # A hue that is all but whole may be cut to the byte below: one step is 6/255 of the chroma.
        assert off.max() <= 6 and (off > 0).mean() < 0.01
    assert (difference(colour.hue, lambda image, _: turned(image, 0.14), PICTURES['noise'], 0.125) > 6).mean() > 0.1


@pytest.mark.parametrize('picture', COLOURED)
def test_hue_saturation_and_value_are_pillows(picture):
    ours = np.stack(colour._hsv(jnp.asarray(PICTURES[picture])), axis=-1)
    theirs = np.asarray(pillow(PICTURES[picture]).convert('HSV')).astype(int)
    np.testing.assert_array_equal(ours[..., 1:], theirs[..., 1:])
    assert np.abs(ours - theirs)[..., 0].max() <= 1 and (ours != theirs)[..., 0].mean() < 0.02


def test_every_hue_saturation_and_value_comes_back_as_pillows_colour():
    levels = np.arange(256)
    grid = np.stack(np.meshgrid(levels, np.arange(0, 256, 5), np.arange(0, 256, 3), indexing='ij'), axis=-1)
    grid = grid.reshape(256, -1, 3)
    ours = colour._rgb(*(jnp.asarray(part, jnp.int32) for part in np.moveaxis(grid, -1, 0)))
    channels = [Image.fromarray(part.astype(np.uint8)) for part in np.moveaxis(grid, -1, 0)]
    np.testing.assert_array_equal(ours, np.asarray(Image.merge('HSV', channels).convert('RGB')))


@pytest.mark.parametrize('picture', PICTURES)
def test_posterizing_and_solarizing_are_pillows(picture):
    for bits in range(1, 9):
        assert difference(colour.posterize, ImageOps.posterize, PICTURES[picture], bits).max() == 0
    for threshold in (0.0, 1.0, 76.5, 127.0, 178.5, 254.5, 255.0):
        assert difference(colour.solarize, ImageOps.solarize, PICTURES[picture], threshold).max() == 0


@pytest.mark.parametrize('picture', PICTURES)
def test_autocontrast_is_pillows(picture):
    # Pillow's own sums of doubles may miss a whole level from below.
    assert difference(colour.autocontrast, ImageOps.autocontrast, PICTURES[picture]).max() <= 1
    narrow = PICTURES[picture] // 3 + 20
    off = difference(colour.autocontrast, ImageOps.autocontrast, narrow)
    assert off.max() <= 1 and (off > 0).mean() < 0.05


def test_autocontrast_reaches_from_black_to_white():
    out = np.asarray(colour.autocontrast(jnp.asarray(PICTURES['few_levels'])))
    np.testing.assert_array_equal(out.min(axis=(0, 1)), 0)
    np.testing.assert_array_equal(out.max(axis=(0, 1)), 255)


@pytest.mark.parametrize('picture', PICTURES)
def test_equalizing_is_pillows(picture):
    assert difference(colour.equalize, ImageOps.equalize, PICTURES[picture]).max() == 0
    dark = (PICTURES[picture].astype(float) ** 2 / 255).astype(np.uint8)
    assert difference(colour.equalize, ImageOps.equalize, dark).max() == 0


def test_a_picture_of_one_level_or_few_pixels_is_pillows_too():
    flat = np.full((5, 4, 3), 77, np.uint8)
    small = PICTURES['noise'][:2, :3]
    for picture in (flat, small):
        for operation, reference in ENHANCED.values():
            assert difference(operation, reference, picture, 1.5).max() == 0
        assert difference(colour.autocontrast, ImageOps.autocontrast, picture).max() <= 1
        assert difference(colour.equalize, ImageOps.equalize, picture).max() == 0


# Jitter

IMAGES = 1500


def jittered(seed, images, *strengths):
    return np.asarray(jax.jit(lambda images: colour.jitter(jax.random.key(seed), images, strengths))(images))


def uniform(draws, low, high):
    """Whether draws are uniform from low to high, by mean, deviation and ends."""
    shares = (np.asarray(draws) - low) / (high - low)
    assert shares.min() >= 0 and shares.max() <= 1 and shares.min() < 0.01 and shares.max() > 0.99
    assert abs(shares.mean() - 0.5) < 4 / np.sqrt(12 * len(shares)) and abs(shares.std() - 12**-0.5) < 0.01


def test_the_factor_of_brightness_is_uniform_and_every_image_has_its_own():
    white = jnp.full((IMAGES, 2, 2, 1), 100, jnp.uint8)
    out = jittered(0, white, 0.4, 0.0, 0.0, 0.0)
    assert (out == out[:, :1, :1]).all()
    factors = (out[:, 0, 0, 0] + 0.5) / 100  # a level is 100 times the factor, cut
    uniform(factors, 0.6, 1.4)
    assert len(np.unique(factors)) > 70


def test_a_strength_beyond_1_never_inverts():
    out = jittered(0, jnp.full((IMAGES, 1, 1, 1), 100, jnp.uint8), 1.2, 0.0, 0.0, 0.0)
    factors = (out[:, 0, 0, 0] + 0.5) / 100
    uniform(factors, 0.0, 2.21)


def test_turns_of_the_hue_are_uniform_to_both_sides():
    red = jnp.broadcast_to(jnp.array([255, 0, 0], jnp.uint8), (IMAGES, 1, 1, 3))
    out = jittered(1, red, 0.0, 0.0, 0.0, 0.1)
    # From red to green a sixth of the circle is the rise of green, to the other side that of blue.
    turns = (out[:, 0, 0, 1].astype(int) - out[:, 0, 0, 2].astype(int)) / 255 / 6
    assert (out[:, 0, 0, 0] == 255).all()
    assert abs(turns.mean()) < 4 * 0.1 / np.sqrt(3 * IMAGES) + 0.5 / 255
    assert 0.09 < turns.max() < 0.1 and -0.1 < turns.min() < -0.09


def both_orders(x):
    """Of brightness and contrast, at a grid of factors: (2, factors, pixels)."""
    factors = np.linspace(0.1, 1.9, 91)
    bright, contrast = (grid.ravel()[:, None] for grid in np.meshgrid(factors, factors))
    cut = functools.partial(np.clip, a_min=0, a_max=255)
    first = cut(bright * x)
    mean = first.mean(axis=-1, keepdims=True)
    return np.stack([cut(mean + contrast * (first - mean)), cut(bright * cut(x.mean() + contrast * (x - x.mean())))])


def test_both_orders_occur():
    picture = np.linspace(0, 255, 16).astype(np.uint8)
    images = jnp.broadcast_to(jnp.asarray(picture).reshape(4, 4, 1), (400, 4, 4, 1))
    out = jittered(2, images, 0.9, 0.9, 0.0, 0.0).reshape(400, 16)
    known = both_orders(picture.astype(float))
    misses = np.array([np.abs(known - image).mean(axis=-1).min(axis=-1) for image in out])
    assert (misses.min(axis=1) < 2.5).all()  # one order explains every image, up to the grid of factors
    clear = np.abs(misses[:, 0] - misses[:, 1]) > 6  # most factors cut nothing off, and commute
    assert clear.sum() > 40
    assert 0.25 < misses[clear].argmin(axis=1).mean() < 0.75


def test_the_same_key_jitters_alike_and_another_otherwise():
    images = jnp.asarray(np.stack([PICTURES['noise'][:8, :8]] * 20))
    strengths = (0.4, 0.4, 0.4, 0.1)
    out = jittered(3, images, *strengths)
    np.testing.assert_array_equal(jittered(3, images, *strengths), out)
    assert (jittered(4, images, *strengths) != out).any(axis=(1, 2, 3)).all()
    assert len(np.unique(out, axis=0)) == 20  # of one picture


def test_on_other_devices_jitter_is_the_same():
    """There all images are taken at once: the same function, mapped otherwise."""
    images = jnp.asarray(np.stack([PICTURES['noise'][:8, :8]] * 20))
    factors = jnp.linspace(0.5, 1.5, 20)

    def branch(image, factor, which):
        return jax.lax.switch(which, (colour.brightness, colour.contrast, colour.hue), image, factor - 1)

    which = jnp.arange(20) % 3
    one_by_one = colour.each(branch, images, factors, which)
    np.testing.assert_array_equal(one_by_one, jax.vmap(branch)(images, factors, which))


# Lighting


def test_lighting_adds_one_colour_normal_along_each_component():
    grey = jnp.full((4000, 2, 3, 3), 128, jnp.uint8)
    added = np.asarray(colour.lighting(jax.random.key(0), grey, 0.1)) - 128
    np.testing.assert_array_equal(added, np.broadcast_to(added[:, :1, :1], added.shape))
    along = added[:, 0, 0].astype(np.float64) @ np.linalg.inv(colour.EIGENVECTORS).T / 255 / colour.EIGENVALUES
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=4 * 0.1 / np.sqrt(4000))
    np.testing.assert_allclose(along.std(axis=0), 0.1, rtol=4 / np.sqrt(8000))
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 4 / np.sqrt(4000)
    assert len(np.unique(along[:, 0])) == 4000


def test_the_components_are_orthonormal_and_the_first_is_grey():
    np.testing.assert_allclose(colour.EIGENVECTORS.T @ colour.EIGENVECTORS, np.eye(3), atol=1e-3)
    np.testing.assert_allclose(np.abs(colour.EIGENVECTORS[:, 0]), 3**-0.5, atol=0.02)


def test_lighting_is_neither_rounded_nor_cut():
    white = np.asarray(colour.lighting(jax.random.key(1), jnp.full((200, 1, 1, 3), 255, jnp.uint8), 0.1))
    assert white.dtype == np.float32 and white.max() > 256 and (white != np.round(white)).all()
