"""Which part of an image training sees: boxes drawn for it, as torchvision and He et al. 2015 draw theirs."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

TRIES = 10
DRAWS = 2 * TRIES + 2  # uniform numbers that an image's box takes at the most


class Box(NamedTuple):
    """Pixels of an image: `left` and `top` are inside, `right` and `bottom` just outside."""

    left: int
    top: int
    right: int
    bottom: int


Draw = Callable[[np.ndarray, int, int], Box]  # (uniform numbers from 0 to 1 (DRAWS,), width, height)


def drawing(data: ConfigDict, pixels: int) -> Draw:
    """What `data.crop` draws for crops of so many pixels."""
    if data.crop == 'random_resized':
        return lambda draws, width, height: random_resized(draws, width, height, data.crop_area, data.crop_ratio)
    return lambda draws, width, height: random_scale(draws, width, height, data.crop_scale, pixels)


def random_resized(draws: np.ndarray, width: int, height: int, area: tuple, ratio: tuple) -> Box:
    """A box of random area and shape, anywhere inside (Szegedy et al. 2014, arXiv 1409.4842; torchvision's
    RandomResizedCrop): where ten draws do not fit, the largest central box of an allowed shape."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for one, other in draws[: 2 * TRIES].reshape(TRIES, 2).tolist():
        size = width * height * (area[0] + one * (area[1] - area[0]))
        shape = math.exp(low + other * (high - low))
        w, h = round(math.sqrt(size * shape)), round(math.sqrt(size / shape))
        if 0 < w <= width and 0 < h <= height:
            return _placed(draws[-2:], width, height, w, h)
    w, h = min(width, max(1, round(height * ratio[1]))), min(height, max(1, round(width / ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return Box(left, top, left + w, top + h)


def random_scale(draws: np.ndarray, width: int, height: int, scale: tuple, pixels: int) -> Box:
    """A square anywhere in the image resized so that its shorter side is a random one of `scale`, of `pixels` there
    (He et al. 2015, section 3.4, after Simonyan and Zisserman 2014)."""
    shorter = scale[0] + int(draws[0] * (scale[1] + 1 - scale[0]))
    side = max(1, round(pixels * min(width, height) / shorter))
    return _placed(draws[-2:], width, height, side, side)


def _placed(draws: np.ndarray, width: int, height: int, w: int, h: int) -> Box:
    """A box of this size: every place is as likely, for uniform draws."""
    left, top = int(draws[0] * (width - w + 1)), int(draws[1] * (height - h + 1))
    return Box(left, top, left + w, top + h)
