"""`resnet-jax predict`: what a run takes image files for, and pictures of the pixels that this depends on."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resnet_jax.data.arrays import WHITE
from resnet_jax.data.view import read_view
from resnet_jax.errors import UserError
from resnet_jax.run import Run


@dataclass(frozen=True, eq=False)
class Taken:
    """An image file as the run's dataset would hold it: uint8 (h, w, c), and its name with what is to be said of it."""

    path: Path
    pixels: np.ndarray
    label: str


def predict(run: Run, files: Sequence[Path], top: int, saliency: Path | None, console: Console) -> int:
    """Prints the `top` most probable classes of each file; writes FILE_saliency.png of each into `saliency`.

    What cannot be read is said on stderr, a line each.

    Returns:
      How many files could not be read.

    Raises:
      UserError: `top` is no number of classes; a picture cannot be written.
    """
    classes = run.classes
    if not 1 <= top <= len(classes):
        raise UserError(f'--top is {top}; it must be 1 to {len(classes)}, the classes of this run')
    taken = [each for each in (_take(run, path) for path in files) if each]
    if taken:
        images = np.stack([each.pixels for each in taken])
        probabilities = run.predict(images)
        ranked = np.argsort(-probabilities, axis=1, kind='stable')[:, :top]
        _print(console, taken, [
            [(classes[label], 100 * row[label]) for label in best]
            for row, best in zip(probabilities, ranked, strict=True)
        ])  # fmt: skip
        if saliency:
            _draw(run, taken, images, probabilities, saliency)
            console.print(f'{len(taken)} pictures of saliency are in {saliency}', markup=False)
    return len(files) - len(taken)


def _take(run: Run, path: Path) -> Taken | None:
    data = run.config.data
    try:
        pixels, frames = read_view(path, run.network.arch.image_shape, data.crop_fraction, WHITE.get(data.dataset, 255))
    except ValueError as error:
        print(f'resnet-jax: {path}: {error}', file=sys.stderr)
        return None
    return Taken(path, pixels, f'{path} (the first of {frames} frames)' if frames > 1 else str(path))


def _print(console: Console, taken: Sequence[Taken], found: list[list[tuple[str, float]]]) -> None:
    """Class and percent of each file: a table on a terminal, else a line a file."""
    if not console.is_terminal:
        for each, best in zip(taken, found, strict=True):
            line = ', '.join(f'{name} {percent:.2f} %' for name, percent in best)
            console.print(f'{each.label}: {line}', markup=False)
        return
    table = Table('file', 'class', 'probability', box=None)
    table.columns[2].justify = 'right'
    for each, best in zip(taken, found, strict=True):
        for rank, (name, percent) in enumerate(best):
            table.add_row(Text('' if rank else each.label), Text(name), f'{percent:.2f} %')
    console.print(table)


def _draw(run: Run, taken: Sequence[Taken], images: np.ndarray, probabilities: np.ndarray, folder: Path) -> None:
    from resnet_jax.report import figures

    labels = np.argmax(probabilities, axis=1)
    maps, white = run.saliency(images, labels), WHITE.get(run.config.data.dataset, 255)
    for path, pixels, label, p, salient in zip(
        _pictures(folder, taken), images, labels, probabilities.max(axis=1), maps, strict=True
    ):
        try:
            drawn = figures.saliency(pixels / white, salient, f'{run.classes[label]}, {100 * p:.1f} %')
            figures.save_png(drawn, path)
        except OSError as error:
            raise UserError(f'cannot write {path} ({error.strerror}); give another --saliency') from None


def _pictures(folder: Path, taken: Sequence[Taken]) -> list[Path]:
    """A picture for each file: named after it, and numbered where files of several folders share a name."""
    names: list[str] = []
    for each in taken:
        name, number = each.path.stem, 1
        while name in names:
            number += 1
            name = f'{each.path.stem}_{number}'
        names.append(name)
    return [folder / f'{name}_saliency.png' for name in names]
