"""Images of any size as evaluation sees them: the shorter side resized, the centre cropped, the dataset's channels.

With data.crop_fraction 0.875 on 224 pixels this is torchvision's Resize(256), CenterCrop(224), to the byte.
"""

from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.data.decode import in_channels, opened, upright

LONGEST = 100  # longer side by shorter: what is resized before the crop takes memory by that


def evaluation_view(image: Any, shape: tuple[int, int, int], crop_fraction: float) -> np.ndarray:
    """The bytes (h, w, c) of a Pillow image of any size and mode.

    Resized by antialiased bilinear interpolation so that the shorter side is that of `shape` / crop_fraction, then
    cropped at the centre.

    Raises:
      ValueError: one side is more than LONGEST times the other.
    """
    from PIL import Image

    if max(image.size) > LONGEST * min(image.size):
        raise ValueError(f'{image.width}x{image.height} pixels: one side is over {LONGEST} times the other; cut it')
    height, width, channels = shape
    image = in_channels(image, channels)
    short = round(min(height, width) / crop_fraction)
    size = tuple(int(short * side / min(image.size)) for side in image.size)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    # Halves go to the even side, as torchvision's do.
    left, top = (round((side - wanted) / 2) for side, wanted in zip(size, (width, height), strict=True))
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    return pixels.reshape(shape)


def decode_view(
    encoded: bytes, shape: tuple[int, int, int], crop_fraction: float, stored: tuple[int, int, int] | None = None
) -> np.ndarray:
    """The evaluation view (h, w, c) of an encoded image, upright as its EXIF says.

    Args:
      stored: the shape that all images of the dataset have; None: they are of any size.

    Raises:
      ValueError: these bytes are not an image of `decode.FORMATS`, not a whole one, or one of another shape.
    """
    with opened(encoded) as image:
        if stored and image.size != (stored[1], stored[0]):
            raise ValueError(f'an image of {image.width}x{image.height} pixels among those of {stored[1]}x{stored[0]}')
        return evaluation_view(upright(image), shape, crop_fraction)


def read_view(path: Path, shape: tuple[int, int, int], crop_fraction: float, white: int) -> tuple[np.ndarray, int]:
    """A user's image file as a dataset would hold it.

    Args:
      shape: of the dataset's images (h, w, c).
      white: what the dataset stores for white, 255 or less; black is 0.

    Returns:
      uint8 (h, w, c), upright as its EXIF says, and how many frames it has: the first is taken.

    Raises:
      ValueError: it cannot be read, or is no whole image of `decode.FORMATS`.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror) from None
    with opened(encoded) as image:
        frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)  # MPO: a photograph and its preview
        pixels = evaluation_view(upright(image), shape, crop_fraction)
    return np.round(pixels * (white / 255)).astype(np.uint8), frames
