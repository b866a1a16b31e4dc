"""Encoded images -> pixels."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from resnet_jax.data.crops import Box

FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF')
APP1 = b'\xff\xe1'  # what EXIF and XMP, which may say so too, begin with
HEAD = 1 << 16  # bytes: they stand in front of all else
ORIENTATION = 0x0112
SMOOTHED = 1.5  # up to there bilinear interpolation needs no antialiasing to speak of, and is three times as fast
LARGEST = 89_478_485  # pixels; Pillow warns from there on


@contextmanager
def opened(encoded: bytes, formats: tuple[str, ...] = FORMATS) -> Iterator[Any]:
    """An encoded image as Pillow's; what Pillow raises on it is a ValueError with one line.

    Raises:
      ValueError: these bytes are not an image of these formats, not a whole one, or so large that it looks like a trap.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=formats) as image:
            if image.width * image.height > LARGEST:
                raise Image.DecompressionBombError
            yield image
    except Image.UnidentifiedImageError:
        raise ValueError(f'neither {" nor ".join(f"a {name}" for name in formats)}') from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(f'an image of over {LARGEST:,} pixels, which may be a trap') from None
    except (OSError, SyntaxError, EOFError) as error:  # what Pillow's decoders raise
        raise ValueError(str(error)) from None


def upright(image: Any) -> Any:
    """The image as its EXIF says that it is to be seen."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) in range(2, 9) else image


def in_channels(image: Any, channels: int) -> Any:
    """The image in RGB, or in grey for one channel; what is transparent lies on white."""
    from PIL import Image

    if image.mode == {1: 'L', 3: 'RGB'}[channels]:
        return image
    if image.mode.startswith('I;16'):  # Pillow's own conversion would cut off what is above 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return image.convert('RGB' if channels == 3 else 'L')


def cut(encoded: bytes, choose: Callable[[int, int], Box], pixels: int, channels: int, *, exact: bool) -> np.ndarray:
    """A box of an encoded image, resized to a square: uint8 (pixels, pixels, channels).

    Args:
      choose: of an upright image's width and height, the box.
      exact: the box of the whole image, resized with antialiasing as Pillow and torchvision do it; else a JPEG is
        decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size at which the box is not smaller than what is wanted,
        and resized by bilinear interpolation, or by averaging where it still shrinks by more than SMOOTHED.

    Raises:
      ValueError: these bytes are not an image of FORMATS, or not a whole one.
    """
    if not exact and (size := _plain_jpeg(encoded)):
        with suppress(ValueError):  # of the strict decoder; what Pillow still takes is taken
            return _cut_scaled(encoded, size, choose, pixels, channels)
    from PIL import Image

    with opened(encoded) as image:
        image = in_channels(upright(image), channels)
        part = image.crop(choose(*image.size)).resize((pixels, pixels), Image.Resampling.BILINEAR)
        return np.asarray(part).reshape(pixels, pixels, channels)


def _plain_jpeg(encoded: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG in colours or grey that lies upright; None for every other image."""
    import simplejpeg

    if encoded[:2] != b'\xff\xd8' or _turned(encoded):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    except ValueError:
        return None  # Pillow says what is wrong with it
    plain = colours in ('YCbCr', 'Gray', 'RGB') and width * height <= LARGEST
    return (width, height) if plain else None


def _turned(encoded: bytes) -> bool:
    if APP1 not in encoded[:HEAD]:
        return False

    with opened(encoded) as image:
        return image.getexif().get(ORIENTATION, 1) in range(2, 9)


def _cut_scaled(encoded: bytes, size: tuple[int, int], choose: Callable, pixels: int, channels: int) -> np.ndarray:
    import cv2
    import simplejpeg

    width, height = size
    box = choose(width, height)
    reduced = next(n for n in (8, 4, 2, 1) if n == 1 or min(box[2] - box[0], box[3] - box[1]) >= n * pixels)
    image = simplejpeg.decode_jpeg(
        encoded, 'RGB' if channels == 3 else 'GRAY', min_height=-(-height // reduced), min_width=-(-width // reduced)
    )  # fmt: skip
    left, top = box[0] // reduced, box[1] // reduced
    part = image[top : -(-box[3] // reduced), left : -(-box[2] // reduced)]
    how = cv2.INTER_AREA if max(part.shape[:2]) > SMOOTHED * pixels else cv2.INTER_LINEAR
    return cv2.resize(part, (pixels, pixels), interpolation=how).reshape(pixels, pixels, channels)


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 (h, w, 3): what `view.decode_view` gives back bit by bit."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()
