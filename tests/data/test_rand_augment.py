"""RandAugment: each operation against Pillow; the random choice by what came out, no test repeats the draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from resnet_jax.data.rand_augment import OPERATIONS, operate, rand_augment

HEIGHT, WIDTH = 24, 31
SIGNED = OPERATIONS[:9]


@pytest.fixture(scope='module')
def picture():
    """Neither smooth nor noise, no channel from 0 to 255, uneven levels: every operation changes it in its own way."""
    random = np.random.default_rng(3)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    ramp = np.stack([20 + 3 * row + 2 * column, 230 - 5 * row, 40 + row * column // 6], axis=-1)
    return np.clip(ramp + random.integers(-15, 16, ramp.shape), 10, 240).astype(np.uint8)


def affine(image, *entries):
    return image.transform(image.size, Image.Transform.AFFINE, entries)


# As in torchvision: the picture, its magnitude of this share, and the direction.
PILLOW = {
    'shear_x': lambda image, share: affine(image, 1, 0.3 * share, 0, 0, 1, 0),
    'shear_y': lambda image, share: affine(image, 1, 0, 0, 0.3 * share, 1, 0),
    'translate_x': lambda image, share: affine(image, 1, 0, -int(150 / 331 * WIDTH * share), 0, 1, 0),
    'translate_y': lambda image, share: affine(image, 1, 0, 0, 0, 1, -int(150 / 331 * HEIGHT * share)),
    'rotate': lambda image, share: image.rotate(30 * share),
    'brightness': lambda image, share: ImageEnhance.Brightness(image).enhance(1 + 0.9 * share),
    'saturation': lambda image, share: ImageEnhance.Color(image).enhance(1 + 0.9 * share),
    'contrast': lambda image, share: ImageEnhance.Contrast(image).enhance(1 + 0.9 * share),
    'sharpness': lambda image, share: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * share),
    'posterize': lambda image, share: ImageOps.posterize(image, round(8 - 4 * abs(share))),
    'solarize': lambda image, share: ImageOps.solarize(image, 255 * (1 - abs(share))),
    'autocontrast': lambda image, share: ImageOps.autocontrast(image),
    'equalize': lambda image, share: ImageOps.equalize(image),
    'identity': lambda image, share: image,
}


@functools.cache
def operation():
    return jax.jit(operate)


def operated(picture, name, share, sign):
    which = jnp.int32(OPERATIONS.index(name))
    return np.asarray(operation()(jnp.asarray(picture), which, jnp.float32(share), jnp.float32(sign)))


def drawn(seed, images, count, magnitude=0.7, deviation=0.0):
    program = jax.jit(lambda images: rand_augment(jax.random.key(seed), images, count, magnitude, deviation))
    return np.asarray(program(jnp.asarray(images)))


@pytest.mark.parametrize('name', OPERATIONS)
def test_every_operation_is_pillows_at_every_magnitude_and_in_both_directions(picture, name):
    for share in (0.0, 0.1, 0.3, 0.5, 0.9, 1.0):
        for sign in (1, -1):
            expected = np.asarray(PILLOW[name](Image.fromarray(picture), sign * share)).astype(int)
            off = np.abs(operated(picture, name, share, sign) - expected)
            if name == 'rotate':
                assert (off > 0).any(axis=-1).mean() <= 0.01  # matrices of float32 and of doubles
            else:
                assert off.max() <= 1 and (off > 0).mean() <= 0.05, (share, sign)


def test_there_are_fourteen_operations_and_no_two_are_alike(picture):
    assert len(OPERATIONS) == 14 and set(OPERATIONS) == set(PILLOW)
    outs = {(name, sign): operated(picture, name, 0.7, sign) for name in OPERATIONS for sign in (1, -1)}
    for (name, sign), out in outs.items():
        alike = {other for other, found in outs.items() if (found == out).all()}
        assert alike == ({(name, sign)} if name in SIGNED else {(name, 1), (name, -1)})


@pytest.mark.parametrize('name', OPERATIONS)
def test_only_those_without_a_magnitude_change_a_picture_at_magnitude_0(picture, name):
    changed = (operated(picture, name, 0.0, 1) != picture).any()
    assert changed == (name in ('autocontrast', 'equalize'))


def known(picture, share):
    """{(operation, sign): picture}: all that one operation can give."""
    return {(name, sign): operated(picture, name, share, sign) for name in OPERATIONS for sign in (1, -1)}


def test_every_operation_is_drawn_equally_often_and_in_both_directions(picture):
    images = 2000
    out = drawn(0, np.stack([picture] * images), 1)
    outs = known(picture, 0.7)
    names, equal = list(outs), np.array([(each == out).all(axis=(1, 2, 3)) for each in outs.values()])
    assert equal.any(axis=0).all()  # each is one of them, to the bit
    found = equal.argmax(axis=0)
    counts = np.array([sum(names[each][0] == name for each in found) for name in OPERATIONS])
    expected = images / len(OPERATIONS)
    assert ((counts - expected) ** 2 / expected).sum() < 34.5  # 13 degrees of freedom: all but one key in a thousand
    signs = np.array([names[each][1] for each in found if names[each][0] in SIGNED])
    assert abs(signs.mean()) < 4 / np.sqrt(len(signs))


def test_two_operations_follow_one_another(picture):
    picture = picture[:12, :12]
    out = drawn(1, np.stack([picture] * 60), 2)
    twice = {
        found.tobytes(): (first, second)
        for first, once in known(picture, 0.7).items()
        for second, found in known(once, 0.7).items()
    }
    assert all(image.tobytes() in twice for image in out)
    pairs = [twice[image.tobytes()] for image in out]
    assert len({first[0] for first, _ in pairs}) > 8 and len({second[0] for _, second in pairs}) > 8
    once = {found.tobytes() for found in known(picture, 0.7).values()}
    assert np.mean([image.tobytes() in once for image in out]) < 0.5  # where one of the two is the identity


def test_the_same_key_augments_alike_and_another_otherwise(picture):
    images = np.stack([picture] * 100)
    out = drawn(2, images, 2)
    np.testing.assert_array_equal(drawn(2, images, 2), out)
    assert (drawn(3, images, 2) != out).any(axis=(1, 2, 3)).mean() > 0.8
    assert len(np.unique(out, axis=0)) > 50  # of one picture: every image has its own draws


def test_noise_on_the_magnitude_makes_every_image_its_own_and_stays_within_0_and_1(picture):
    images = np.stack([picture] * 150)
    assert len(np.unique(drawn(4, images, 1), axis=0)) <= 23  # of 14, 9 in two directions
    assert len(np.unique(drawn(4, images, 1, deviation=0.2), axis=0)) > 60
    ends = {found.tobytes() for share in (0.0, 1.0) for found in known(picture, share).values()}
    assert all(image.tobytes() in ends for image in drawn(5, images, 1, 0.5, 1e6))


def test_all_images_at_once_are_augmented_as_one_by_one(picture):
    """As other devices do it, where every branch is computed and one chosen."""
    which = jnp.arange(len(OPERATIONS), dtype=jnp.int32)
    images = jnp.asarray(np.stack([picture] * len(OPERATIONS)))
    shares, signs = jnp.linspace(0.2, 1.0, len(which)), jnp.where(which % 2 == 0, 1.0, -1.0)
    at_once = np.asarray(jax.jit(jax.vmap(operate))(images, which, shares, signs))
    for index, name in enumerate(OPERATIONS):
        off = np.abs(operated(picture, name, shares[index], signs[index]).astype(int) - at_once[index])
        assert off.max() <= (0 if index < 5 else 1) and (off > 0).mean() < 0.02  # compiled otherwise: see test_colour
