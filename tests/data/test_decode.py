"""Encoded images cut to size: the exact way is Pillow's to the byte, the fast one near it; or a word on why not."""

import io

import numpy as np
import pytest
from PIL import Image

from resnet_jax.data import decode
from resnet_jax.data.crops import Box
from resnet_jax.data.decode import cut, encode_png, opened


def photograph(width, height, seed=0):
    """Smooth, as photographs mostly are, with some texture."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (height // 60 + 2, width // 60 + 2, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + random.integers(-4, 5, smooth.shape)).clip(0, 255).astype(np.uint8))


def encode(image, *arguments, **more):
    file = io.BytesIO()
    image.save(file, *arguments, **more)
    return file.getvalue()


def by_pillow(encoded, box, pixels, mode='RGB'):
    """torchvision's resized_crop of a Pillow image: cropped, then resized with antialiasing."""
    image = Image.open(io.BytesIO(encoded)).convert(mode)
    return np.asarray(image.crop(box).resize((pixels, pixels), Image.Resampling.BILINEAR))


BOXES = [Box(0, 0, 640, 480), Box(13, 7, 301, 250), Box(100, 50, 620, 470), Box(639, 479, 640, 480), Box(5, 5, 69, 69)]


@pytest.mark.parametrize('box', BOXES)
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'BMP'])
def test_the_exact_cut_is_pillows_to_the_byte(kind, box):
    encoded = encode(photograph(640, 480), kind)
    np.testing.assert_array_equal(
        cut(encoded, lambda width, height: box, 64, 3, exact=True), by_pillow(encoded, box, 64)
    )


@pytest.mark.parametrize('box', BOXES)
@pytest.mark.parametrize('pixels', [32, 64, 224])
def test_the_fast_cut_of_a_photograph_is_near_the_exact_one(box, pixels):
    encoded = encode(photograph(640, 480), 'JPEG', quality=90)
    fast = cut(encoded, lambda width, height: box, pixels, 3, exact=False)
    exact = by_pillow(encoded, box, pixels).astype(int)
    assert fast.shape == (pixels, pixels, 3) and fast.dtype == np.uint8
    assert np.abs(fast - exact).mean() < 4  # of 255: at 32 px the box is rounded to 8 of the original's
    other = by_pillow(encoded, (20, 30, 400, 400), pixels).astype(int)
    assert np.abs(other - exact).mean() > 20  # or the bound above would say nothing


def test_a_large_jpeg_is_decoded_small_and_its_fine_stripes_are_grey():
    """Bilinear interpolation alone would take every second stripe; decoding at half the size averages them."""
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 200
    encoded = encode(Image.fromarray(stripes), 'JPEG', quality=95, subsampling=0)
    fast = cut(encoded, lambda width, height: Box(0, 0, 512, 512), 128, 3, exact=False)
    assert np.abs(fast.astype(int) - 100).max() <= 6


def test_the_box_is_chosen_by_the_upright_size():
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 6
    encoded = encode(photograph(64, 32), 'JPEG', exif=exif)
    seen = []

    def choose(width, height):
        seen.append((width, height))
        return Box(0, 0, width, height)

    turned = [cut(encoded, choose, 16, 3, exact=exact) for exact in (True, False)]
    assert seen == [(32, 64)] * 2
    np.testing.assert_array_equal(*turned)
    lying = by_pillow(encoded, (0, 0, 64, 32), 16)
    assert np.abs(turned[0].astype(int) - np.rot90(lying, -1)).mean() < 1


@pytest.mark.parametrize('exact', [True, False])
def test_grey_cmyk_palette_and_transparent_images_have_as_many_channels_as_are_asked_for(exact):
    colour = photograph(48, 48)
    grey = colour.convert('L')
    sixteen_bits = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for encoded, meant in (
        (encode(grey, 'JPEG'), grey),
        (encode(colour.convert('CMYK'), 'JPEG'), colour),
        (encode(colour.quantize(256, Image.Quantize.MEDIANCUT), 'GIF'), colour),
        (encode(colour.convert('RGBA'), 'PNG'), colour),
        (encode(sixteen_bits, 'PNG'), grey),
    ):
        for channels, mode in ((1, 'L'), (3, 'RGB')):
            found = cut(encoded, lambda width, height: Box(0, 0, 48, 48), 48, channels, exact=exact)
            assert found.shape == (48, 48, channels)
            expected = np.asarray(meant.convert(mode)).astype(int).reshape(found.shape)
            assert np.abs(found - expected).mean() < 6


def test_a_png_comes_back_bit_by_bit():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = cut(encode_png(pixels), lambda width, height: Box(0, 0, 32, 32), 32, 3, exact=True)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize('exact', [True, False])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_what_is_no_whole_image_is_refused(kind, exact):
    encoded = encode(photograph(64, 64), kind)
    for broken in (b'', b'no image', encoded[: len(encoded) // 2], encoded[:20]):
        with pytest.raises(ValueError, match=r'.') as error:
            cut(broken, lambda width, height: Box(0, 0, 32, 32), 32, 3, exact=exact)
        assert '\n' not in str(error.value)


@pytest.mark.parametrize('exact', [True, False])
def test_an_image_of_a_billion_pixels_is_refused_before_it_is_decoded(exact):
    bomb = encode(Image.new('1', (40_000, 40_000)), 'PNG')
    assert len(bomb) < 300_000
    with pytest.raises(ValueError, match='which may be a trap'):
        cut(bomb, lambda width, height: Box(0, 0, 1, 1), 8, 3, exact=exact)
    with pytest.raises(ValueError, match='which may be a trap'), opened(bomb):
        pass
