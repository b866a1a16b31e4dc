"""Images of any size as evaluation sees them: the shorter side resized, the centre cropped, the dataset's channels.

With data.crop_fraction 0.875 on 224 pixels this is torchvision's Resize(256), CenterCrop(224), to the byte.
"""

from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.data.decode import in_channels, opened, upright

SCALES = (224, 256, 384, 480, 640)  # of He et al. 2015, for networks of 224 pixels
LONGEST = 100  # longer side by shorter: what is resized before the crop takes memory by that


def evaluation_view(image: Any, shape: tuple[int, int, int], crop_fraction: float) -> np.ndarray:
    """The bytes (h, w, c) of a Pillow image of any size and mode.

    Resized by antialiased bilinear interpolation so that the shorter side is that of `shape` / crop_fraction, then
    cropped at the centre.

    Raises:
      ValueError: one side is more than LONGEST times the other.
    """
    height, width, channels = shape
    image = shorter_side(in_channels(image, channels), round(min(height, width) / crop_fraction))
    return _cropped(image, *_centre(image, width, height), shape)


def shorter_side(image: Any, pixels: int) -> Any:
    """A Pillow image resized so that its shorter side has so many pixels."""
    from PIL import Image

    if max(image.size) > LONGEST * min(image.size):
        raise ValueError(f'{image.width}x{image.height} pixels: one side is over {LONGEST} times the other; cut it')
    size = tuple(int(pixels * side / min(image.size)) for side in image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def _centre(image: Any, width: int, height: int) -> tuple[int, int]:
    """Left and top of what lies in the middle; halves go to the even side, as torchvision's do."""
    return round((image.width - width) / 2), round((image.height - height) / 2)


def _cropped(image: Any, left: int, top: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(image.crop((left, top, left + shape[1], top + shape[0]))).reshape(shape)


def ten_crops(image: Any, shape: tuple[int, int, int], crop_fraction: float) -> list[np.ndarray]:
    """The four corners and the centre of an image resized as for the evaluation view, and their mirror images: one
    array (10, h, w, c) (Krizhevsky et al. 2012, section 4.1; torchvision's TenCrop, in another order)."""
    height, width, channels = shape
    image = shorter_side(in_channels(image, channels), round(min(height, width) / crop_fraction))
    right, bottom = image.width - width, image.height - height
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom), _centre(image, width, height)]
    crops = np.stack([_cropped(image, left, top, shape) for left, top in places])
    return [np.concatenate([crops, crops[:, :, ::-1]])]


def many_scales(image: Any, shape: tuple[int, int, int], crop_fraction: float) -> list[np.ndarray]:
    """The whole image at five sizes, and its mirror images, for a network that takes any size: arrays (2, h, w, c).

    The shorter side is 224, 256, 384, 480 and 640 (He et al. 2015, section 3.4), or the same multiples of the
    network's own size. The longer side is cut to a multiple of a quarter of that, so that there are few shapes.
    """
    del crop_fraction
    side, channels = shape[0], shape[2]
    image, found = in_channels(image, channels), []
    for scale in SCALES:
        pixels = round(side * scale / SCALES[0])
        resized, step = shorter_side(image, pixels), max(1, pixels // 4)
        width, height = (pixels + (each - pixels) // step * step for each in resized.size)
        whole = _cropped(resized, *_centre(resized, width, height), (height, width, channels))
        found.append(np.stack([whole, whole[:, ::-1]]))
    return found


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
