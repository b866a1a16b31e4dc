"""Encoded images -> pixels: bit by bit, or a word on why not."""

import io

import numpy as np
import pytest
from PIL import Image

from resnet_jax.data.decode import decode, encode_png


def encode(pixels, *arguments, **more):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, *arguments, **more)
    return file.getvalue()


def test_a_png_comes_back_bit_by_bit_and_a_jpeg_closely():
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([4 * rows, 3 * columns, rows + columns], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)
    decoded = decode(encode(pixels, 'JPEG', quality=95, subsampling=0))
    assert decoded.shape == (48, 64, 3) and decoded.dtype == np.uint8
    assert 0 < np.abs(decoded.astype(int) - pixels).max() <= 8


def test_grey_becomes_three_equal_channels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(decode(encode(grey, 'PNG')), np.repeat(grey[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ('channels', 'cut', 'reason'),
    [(4, 0, 'mode RGBA'), (3, 50, 'truncated'), (3, 10_000, 'neither a PNG nor a JPEG')],
)
def test_what_is_no_whole_image_of_a_kind_that_is_read_is_refused(channels, cut, reason):
    encoded = encode_png(np.random.default_rng(0).integers(0, 256, (32, 32, channels), dtype=np.uint8))
    with pytest.raises(ValueError, match=reason):
        decode(encoded[: max(0, len(encoded) - cut)])
