"""The folders of checkpoints, in a run's directory or elsewhere, each named by its step.

What Orbax has written there becomes a checkpoint by its manifest, which is written last and removed first: a folder
without one is half saved or half deleted, and goes when the run is opened again. A checkpoint found damaged is set
aside as `.STEP.damaged-…`.
"""

import contextlib
import re
import time
from pathlib import Path

from etils import epath

from resnet_jax.errors import UserError
from resnet_jax.runtime import directory, manifest

STEP = re.compile('0|[1-9][0-9]*')
UNFINISHED = 'orbax-checkpoint-tmp'  # is in the name of what Orbax has not finished


def whole(place: epath.Path) -> list[int]:
    """The steps of the checkpoints there, in order: by their manifests, against which they are not held yet."""
    if not place.is_dir():
        return []
    folders = [path for path in place.iterdir() if STEP.fullmatch(path.name)]
    return sorted(int(path.name) for path in folders if (path / manifest.NAME).exists())


def clean(place: epath.Path) -> None:
    """Removes what is half saved or half deleted; a file of a step's name is set aside. For whoever saves there."""
    if not place.is_dir():
        return
    for path in list(place.iterdir()):
        with contextlib.suppress(OSError):  # on a disk that is read-only it stays, and is none
            if UNFINISHED in path.name:
                path.rmtree()
            elif STEP.fullmatch(path.name) and not (path / manifest.NAME).exists():
                path.rmtree() if path.is_dir() else set_aside(path)


def remove(checkpoint: epath.Path) -> None:
    """Killed behind its first line, it has left a folder that is half deleted."""
    (checkpoint / manifest.NAME).unlink()
    checkpoint.rmtree()


def set_aside(path: epath.Path) -> str:
    """Keeps what is no checkpoint, or none any more; its new name."""
    aside = path.parent / f'.{path.name}.damaged-{time.time_ns()}'
    path.rename(aside)
    return aside.name


def hold(place: epath.Path) -> int | None:
    """Keeps others from saving there, who would delete what this one does: a descriptor, to be closed; None: nothing
    can hold a place in a bucket, nor one that cannot be written.

    Raises:
      UserError: another process saves there.
    """
    if '://' in str(place):
        return None
    try:
        return directory.lock(Path(place))
    except BlockingIOError:
        raise UserError(f'another process saves in {place}; wait for it, or give other folders with --run and '
                        '--config.run.checkpoints') from None  # fmt: skip
    except OSError:  # said where something is to be saved: a run may be to go on without
        return None


def try_out(place: epath.Path) -> None:
    """Does the disk take a folder and a file?

    Raises:
      OSError: it does not.
    """
    folder = place / f'{UNFINISHED}.trial'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'trial').write_bytes(bytes(4096))
    folder.rmtree()
