"""Images of any size as evaluation sees them: held against Pillow called as torchvision calls it."""

import io

import numpy as np
import pytest
from PIL import Image

from resnet_jax.data.view import decode_view, evaluation_view, read_view

IMAGENET = (224, 224, 3)


def noise(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def torchvision(image, resize, crop):
    """transforms.Resize(resize), transforms.CenterCrop(crop): the arithmetic of its functional.py."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != resize:
        new_short, new_long = resize, int(resize * long / short)
        size = (new_short, new_long) if width <= height else (new_long, new_short)
        image = image.resize(size, Image.Resampling.BILINEAR)
    width, height = image.size
    top, left = round((height - crop) / 2.0), round((width - crop) / 2.0)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


@pytest.mark.parametrize(
    ('height', 'width'),
    [(500, 375), (375, 500), (333, 500), (501, 377), (256, 256), (256, 259), (261, 256), (95, 95), (60, 300)],
)
def test_the_view_is_torchvisions_to_the_byte(height, width):
    image = noise(height, width)
    view = evaluation_view(image, IMAGENET, 0.875)
    assert view.dtype == np.uint8 and view.shape == IMAGENET
    np.testing.assert_array_equal(view, torchvision(image, 256, 224))
    np.testing.assert_array_equal(evaluation_view(image, (32, 32, 3), 1.0), torchvision(image, 32, 32))


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = noise(32, 32)
    np.testing.assert_array_equal(evaluation_view(image, (32, 32, 3), 1.0), np.asarray(image))


def test_small_details_are_averaged_and_not_skipped():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 200
    view = evaluation_view(Image.fromarray(stripes), (32, 32, 3), 1.0)
    assert (view[:, 1:-1] == 100).all()  # without antialiasing they would be 0 or 200


def test_an_image_so_narrow_that_resizing_it_would_take_gigabytes_is_refused(tmp_path):
    Image.new('RGB', (60_000, 1)).save(tmp_path / 'line.png')
    with pytest.raises(ValueError, match='60000x1 pixels: one side is over 100 times the other; cut it'):
        read_view(tmp_path / 'line.png', IMAGENET, 0.875, 255)
    assert evaluation_view(Image.new('RGB', (4, 400)), (32, 32, 3), 1.0).shape == (32, 32, 3)


# Modes

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3


def view8(image, channels=3):
    return evaluation_view(image, (8, 8, channels), 1.0)


def test_grey_becomes_three_equal_channels_or_stays_one():
    image = Image.fromarray(GREY)
    np.testing.assert_array_equal(view8(image), np.repeat(GREY[..., None], 3, axis=-1))
    np.testing.assert_array_equal(view8(image, channels=1), GREY[..., None])
    colour = noise(8, 8)
    np.testing.assert_array_equal(view8(colour, channels=1)[..., 0], np.asarray(colour.convert('L')))


def test_sixteen_bits_are_scaled_and_not_cut_off():
    image = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert image.mode == 'I;16'
    np.testing.assert_array_equal(view8(image, channels=1)[..., 0], GREY)


def encode(image, *arguments, **more):
    file = io.BytesIO()
    image.save(file, *arguments, **more)
    return file.getvalue()


def test_a_cmyk_jpeg_has_the_colours_it_is_printed_in():
    for colour, inks in {
        (255, 0, 0): (0, 255, 255, 0),
        (0, 0, 255): (255, 255, 0, 0),
        (0, 0, 0): (0, 0, 0, 255),
    }.items():
        encoded = encode(Image.new('CMYK', (8, 8), inks), 'JPEG', quality=100)
        assert Image.open(io.BytesIO(encoded)).mode == 'CMYK'
        assert np.abs(decode_view(encoded, (8, 8, 3), 1.0).astype(int) - colour).max() <= 3


def test_what_is_transparent_lies_on_white():
    for image in (Image.new('RGBA', (8, 8), (10, 20, 30, 0)), Image.new('LA', (8, 8), (10, 0))):
        assert (view8(image) == 255).all()
    np.testing.assert_array_equal(view8(Image.new('RGBA', (8, 8), (10, 20, 30, 255)))[0, 0], (10, 20, 30))


# Files


@pytest.fixture
def rotated():
    """A JPEG stored lying: upright it is bright in the upper half."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    return encode(Image.fromarray(pixels), 'JPEG', quality=95, exif=exif)


def test_a_users_file_and_a_datasets_image_are_turned_upright(rotated, tmp_path):
    (tmp_path / 'photo.jpg').write_bytes(rotated)
    pixels, frames = read_view(tmp_path / 'photo.jpg', (16, 16, 3), 1.0, 255)
    assert frames == 1 and pixels[:7].min() > 200 and pixels[9:].max() < 50
    np.testing.assert_array_equal(decode_view(rotated, (16, 16, 3), 1.0), pixels)


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'BMP'])
def test_a_file_without_loss_comes_back_bit_by_bit(kind, tmp_path):
    image = noise(8, 8)
    image.save(tmp_path / 'file', kind, **({'lossless': True} if kind == 'WEBP' else {}))
    np.testing.assert_array_equal(read_view(tmp_path / 'file', (8, 8, 3), 1.0, 255)[0], np.asarray(image))


def test_bytes_are_scaled_to_what_the_dataset_stores_for_white(tmp_path):
    digit = np.arange(64, dtype=np.uint8).reshape(8, 8) % 17
    Image.fromarray((digit * (255 / 16)).round().astype(np.uint8)).save(tmp_path / 'digit.png')
    pixels, _ = read_view(tmp_path / 'digit.png', (8, 8, 1), 1.0, 16)
    np.testing.assert_array_equal(pixels[..., 0], digit)


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG'])
def test_of_an_animation_the_first_frame_is_taken_and_the_frames_are_counted(kind, tmp_path):
    frames = [Image.new('RGB', (8, 8), colour) for colour in ('white', 'black', 'grey')]
    more = {'lossless': True} if kind == 'WEBP' else {}
    frames[0].save(tmp_path / 'film', kind, save_all=True, append_images=frames[1:], **more)
    pixels, count = read_view(tmp_path / 'film', (8, 8, 3), 1.0, 255)
    assert count == 3 and (pixels == 255).all()


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    whole = encode(noise(64, 64), 'JPEG')
    for name, content, reason in (
        ('truncated', whole[: len(whole) // 2], 'truncated'),
        ('text', b'hello', 'neither a JPEG nor a PNG nor a WEBP'),
        ('empty', b'', 'neither a JPEG'),
        ('tiff', encode(noise(8, 8), 'TIFF'), 'neither a JPEG'),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            read_view(tmp_path / name, IMAGENET, 1.0, 255)
    for path, reason in ((tmp_path / 'absent', 'No such file'), (tmp_path, 'Is a directory')):
        with pytest.raises(ValueError, match=reason):
            read_view(path, IMAGENET, 1.0, 255)
