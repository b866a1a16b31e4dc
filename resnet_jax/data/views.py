"""A whole split as evaluation sees it, in memory."""

import math
from functools import partial

import numpy as np

from resnet_jax import memory
from resnet_jax.data.source import Example, Source, Unreadable, chunks
from resnet_jax.data.threads import parallel
from resnet_jax.data.view import decode_view
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress

BATCH = 1000  # records read at once


def views(
    source: Source, what: str, shape: tuple[int, int, int], crop_fraction: float, corrupt: str, progress: Progress
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The evaluation views of all examples, uint8 (n, h, w, c), their labels, int32 (n,), and what was skipped.

    Args:
      what: the split, for messages.
      shape: of a view.
      corrupt: stop, or skip: what cannot be read is left out, and named in the list.

    Raises:
      UserError: it would not fit the memory; or an example cannot be read, with where and why.
    """
    count, skipped = len(source), []
    memory.check_fits(f'the {count:,} images of the {what} split are kept in memory', count * math.prod(shape),
                      'take a machine with more')  # fmt: skip
    images, labels, done = np.empty((count, *shape), np.uint8), np.empty(count, np.int32), 0
    view = partial(view_of, shape=shape, crop_fraction=crop_fraction, stored=source.shape)
    for indices in chunks(count, BATCH):
        for index, each in zip(indices, parallel(view, source.read(indices)), strict=True):
            if isinstance(each, Unreadable):
                skipped.append(unreadable(source, index, each, corrupt))
            else:
                images[done], labels[done] = each
                done += 1
        progress(f'decoding {what}', indices.stop, count)
    check_any(done, count)
    return images[:done], labels[:done], skipped


def view_of(
    example: Example | Unreadable, shape: tuple[int, int, int], crop_fraction: float, stored: tuple | None
) -> tuple[np.ndarray, int] | Unreadable:
    """The evaluation view and the label of an example, or why it cannot be had.

    Args:
      stored: the shape of all images of the dataset, where they have one.
    """
    if isinstance(example, Unreadable):
        return example
    encoded, label = example
    try:
        return decode_view(encoded, shape, crop_fraction, stored), label
    except ValueError as error:
        return Unreadable(str(error))


def unreadable(source: Source, index: int, error: Unreadable, corrupt: str) -> str:
    """Where an example is and why it cannot be had, if `corrupt` is skip.

    Raises:
      UserError: it is stop.
    """
    said = f'{source.place(index)}: {error}'
    if corrupt == 'skip':
        return said
    raise UserError(f'{said}; mend or remove it, or set --config.data.corrupt=skip to leave such images out')


def check_any(readable: int, count: int) -> None:
    """Refuses examples of which none can be read, where what cannot be is skipped."""
    if count and not readable:
        raise UserError(f'none of the {count:,} images can be read; give others, or --config.data.corrupt=stop, which '
                        'says why')  # fmt: skip
