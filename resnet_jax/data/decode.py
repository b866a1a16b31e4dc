"""Encoded images -> pixels."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def opened(encoded: bytes, formats: tuple[str, ...]) -> Iterator[Any]:
    """An encoded image as Pillow's; what Pillow raises on it is a ValueError with one line.

    Raises:
      ValueError: these bytes are not an image of these formats, or not a whole one.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=formats) as image:
            yield image
    except Image.UnidentifiedImageError:
        raise ValueError(f'neither {" nor ".join(f"a {name}" for name in formats)}') from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:  # what Pillow's decoders raise
        raise ValueError(str(error)) from None


def decode(encoded: bytes) -> np.ndarray:
    """Pixels of a PNG or JPEG, uint8 (h, w, 3); one of grey alone has three equal channels.

    Raises:
      ValueError: these bytes are not such an image, or not a whole one.
    """
    with opened(encoded, ('PNG', 'JPEG')) as image:
        if image.mode not in ('RGB', 'L'):
            raise ValueError(f'an image of mode {image.mode}, where RGB or L is read')
        return np.asarray(image if image.mode == 'RGB' else image.convert('RGB'))


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 (h, w, 3): what `decode` gives back bit by bit."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()
