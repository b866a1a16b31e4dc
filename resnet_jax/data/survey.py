"""What is in a dataset: every image is decoded, what cannot be is named, and what is unusual is counted."""

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.cores import cores
from resnet_jax.data.decode import ORIENTATION, opened, upright
from resnet_jax.data.source import Example, Source, Unreadable, chunks
from resnet_jax.data.view import evaluation_view
from resnet_jax.progress import Progress

CROP_FRACTION = 0.875  # of the views, as ImageNet is evaluated
BATCH = 1024  # images between two reports of progress
READ = 16  # of these that a thread reads at once
DEPTH = 24  # where the bits a channel stand in a PNG


class Extent(NamedTuple):
    smallest: int
    median: float
    largest: int


@dataclass(frozen=True, eq=False)
class Surveyed:
    """A split: all of it counts the images that can be read. Where there are none, what is None here is None.

    Attributes:
      counts: images of each class, int64 (classes,).
      size: bytes of the encoded images.
      widths: in pixels, of the images as they are stored; so `heights`.
      formats: images of each, by Pillow's names; so `modes`.
      traits: images that are EXIF-rotated, animated, 16-bit or CMYK; one may be several.
      mean: of red, green and blue over the evaluation views, white being 1; so `deviation`.
      unreadable: where each other image is, and why it cannot be read.
    """

    counts: np.ndarray
    size: int
    widths: Extent | None
    heights: Extent | None
    formats: Counter[str]
    modes: Counter[str]
    traits: Counter[str]
    mean: tuple[float, ...] | None
    deviation: tuple[float, ...] | None
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Survey:
    """`splits`: by name, in the order they were given."""

    classes: tuple[str, ...]
    splits: dict[str, Surveyed]


class _Seen(NamedTuple):
    """What one image shows. `levels`: how many pixels of its view have each, in each channel, int64 (3, 256)."""

    label: int
    size: int
    width: int
    height: int
    format: str
    mode: str
    traits: tuple[str, ...]
    levels: np.ndarray


def survey(sources: Mapping[str, Source], classes: Sequence[str], pixels: int, progress: Progress) -> Survey:
    """Decodes all images of some splits, on all cores and with few of them in memory.

    Args:
      sources: by the names of the splits.
      pixels: side of the evaluation views, CROP_FRACTION of the shorter side of each image.
      progress: told how many of how many images are decoded.
    """
    with warnings.catch_warnings():  # around the threads: they share the filters
        warnings.filterwarnings('ignore', module='PIL')  # of odd metadata, and of sizes that `opened` refuses
        return Survey(
            tuple(classes),
            {split: _survey_split(split, source, len(classes), pixels, progress) for split, source in sources.items()},
        )


def _survey_split(split: str, source: Source, classes: int, pixels: int, progress: Progress) -> Surveyed:
    counts, size, unreadable = np.zeros(classes, np.int64), 0, []
    widths, heights, formats, modes, traits = (Counter() for _ in range(5))
    levels = np.zeros((3, 256), np.int64)
    for index, seen in _look_at_all(split, source, pixels, progress):
        if isinstance(seen, Unreadable):
            unreadable.append((source.place(index), str(seen)))
            continue
        counts[seen.label] += 1
        size += seen.size
        for counter, value in (
            (widths, seen.width),
            (heights, seen.height),
            (formats, seen.format),
            (modes, seen.mode),
        ):
            counter[value] += 1
        traits.update(seen.traits)
        levels += seen.levels
    mean, deviation = _moments(levels)
    return Surveyed(
        counts, size, _extent(widths), _extent(heights), formats, modes, traits, mean, deviation, tuple(unreadable)
    )


def _look_at_all(
    split: str, source: Source, pixels: int, progress: Progress
) -> Iterator[tuple[int, _Seen | Unreadable]]:
    def look(indices: range) -> list[_Seen | Unreadable]:
        return [_look(example, pixels) for example in source.read(indices)]

    with ThreadPoolExecutor(len(cores())) as pool:
        for batch in chunks(len(source), BATCH):
            parts = [batch[part.start : part.stop] for part in chunks(len(batch), READ)]
            for indices, found in zip(parts, pool.map(look, parts), strict=True):
                yield from zip(indices, found, strict=True)
            progress(f'surveying {split}', batch.stop, len(source))


def _look(example: Example | Unreadable, pixels: int) -> _Seen | Unreadable:
    if isinstance(example, Unreadable):
        return example
    encoded, label = example
    try:
        with opened(encoded) as image:
            stored = (image.width, image.height, image.format, image.mode)  # before anything is done to it
            view = evaluation_view(upright(image), (pixels, pixels, 3), CROP_FRACTION)
            traits = _traits(image, encoded)
    except Exception as error:  # of whatever kind: Pillow's decoders raise more than they state
        return Unreadable(str(error).partition('\n')[0] or type(error).__name__)
    levels = np.stack([np.bincount(channel, minlength=256) for channel in view.reshape(-1, 3).T])
    return _Seen(label, len(encoded), *stored, traits, levels)


def _traits(image: Any, encoded: bytes) -> tuple[str, ...]:
    found = {
        'EXIF-rotated': image.getexif().get(ORIENTATION, 1) in range(2, 9),
        'animated': image.format != 'MPO' and getattr(image, 'is_animated', False),  # MPO: a photograph and its preview
        '16-bit': image.format == 'PNG' and encoded[DEPTH] == 16,  # Pillow's mode says it of grey alone
        'CMYK': image.mode == 'CMYK',
    }
    return tuple(trait for trait, is_so in found.items() if is_so)


def _extent(counter: Counter[int]) -> Extent | None:
    if not counter:
        return None
    return Extent(min(counter), float(np.median(list(counter.elements()))), max(counter))


def _moments(levels: np.ndarray) -> tuple:
    """Mean and deviation of each channel, white being 1. In whole numbers up to the end: nothing is lost."""
    if not levels.any():
        return None, None
    level = np.arange(256)
    rows = [tuple(map(int, row)) for row in zip(levels.sum(1), levels @ level, levels @ level**2, strict=True)]
    mean = tuple(total / (255 * pixels) for pixels, total, _ in rows)
    return mean, tuple(math.sqrt(pixels * squares - total**2) / (255 * pixels) for pixels, total, squares in rows)
