"""Encoded images -> pixels."""

import io

import numpy as np


def decode(encoded: bytes) -> np.ndarray:
    """Pixels of a PNG or JPEG, uint8 (h, w, 3); one of grey alone has three equal channels.

    Raises:
      ValueError: these bytes are not such an image, or not a whole one.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=('PNG', 'JPEG')) as image:
            if image.mode not in ('RGB', 'L'):
                raise ValueError(f'an image of mode {image.mode}, where RGB or L is read')
            return np.asarray(image if image.mode == 'RGB' else image.convert('RGB'))
    except Image.UnidentifiedImageError:
        raise ValueError('neither a PNG nor a JPEG') from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:  # what Pillow's decoders raise
        raise ValueError(str(error)) from None


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 (h, w, 3): what `decode` gives back bit by bit."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()
