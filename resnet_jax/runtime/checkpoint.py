"""Checkpoints: the one module that calls Orbax. A checkpoint is a flat `{path of a leaf: array}` (leaves.py) in a
folder of its step (step_folders.py), with a manifest by which damage is found (manifest.py)."""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from resnet_jax.errors import TogetherError, UserError
from resnet_jax.runtime import directory, leaves, manifest, step_folders
from resnet_jax.runtime.processes import first, from_first, gathered, on_first

State = TypeVar('State')

WORKERS_END = 5  # seconds, on a disk that answers; also what one of somebody else's costs, who waits for work

# Of a save that fails Orbax prints pages, and raises it too.
logging.getLogger('absl').addFilter(lambda record: 'orbax' not in record.pathname)


class Checkpoints:
    """The checkpoints of a run: `save`, `restore`, and which steps there are.

    Attributes:
      steps: whole ones, in order.
      errors: of a step's network on held-out examples, by which the best are kept; filled in by whoever evaluates.
    """

    def __init__(
        self,
        run_dir: Path,
        place: str = '',
        *,
        keep: int = 1,
        keep_best: int = 0,
        snapshots: Sequence[int] = (),
        read_only: bool = False,
    ):
        """Opens the checkpoints in `run_dir`, or in `place` where that is given, a folder or a URL.

        It keeps the newest `keep`, the best `keep_best` and, for good, the steps of `snapshots`.

        Raises:
          UserError: another process saves in `place`; or that cannot be a place.
        """
        self.directory = directory.checkpoints(run_dir, place)
        self.keep, self.keep_best, self.snapshots = keep, keep_best, frozenset(snapshots)
        self.errors: dict[int, float] = {}
        self._orbax = _orbax()
        self._saving: threading.Thread | None = None
        self._failed: Exception | None = None
        self._last = 0  # the step whose save was begun last
        self._lock: int | None = None
        if place and not read_only:  # the run's directory is held by whoever trains
            on_first(self._hold)
        if first() and not read_only:
            step_folders.clean(self.directory)
        self.steps: list[int] = from_first(step_folders.whole(self.directory))

    def save(self, step: int, state: object, environment: dict[str, object] | None = None) -> None:
        """Writes the state of `step`, whole or not at all, while the caller goes on; a step that is there stays.

        Args:
          environment: that it was computed in.

        Raises:
          UserError: the disk is full or fails, in this save or in the one before; what was saved before stays.
        """
        self.wait()
        if step in self.steps:
            return
        self._last, path = step, self.directory / str(step)
        if jax.process_count() > 1:  # the first alone makes the folders, and the others would wait for it within Orbax
            self._agree(_failure(partial(step_folders.try_out, self.directory) if first() else lambda: None))
        arguments = ocp.args.StandardSave(leaves.flat(state))
        self._agree(_failure(lambda: self._orbax.save(path, args=arguments, force=True)))
        self._saving = threading.Thread(target=self._finish, args=(step, path, environment or {}), daemon=True)
        self._saving.start()

    @property
    def busy(self) -> bool:
        """Is a checkpoint still being written?"""
        return self._saving is not None and self._saving.is_alive()

    def wait(self) -> None:
        """Until what is being saved is there.

        Raises:
          UserError: it could not be saved.
        """
        if self._saving is None:
            return
        self._saving.join()
        self._saving = None
        failed, self._failed = self._failed, None
        self._agree(failed)

    def late(self, seconds: float) -> str:
        """Waits so long for what is being saved: what to say where that is not enough, or nothing."""
        if self._saving is not None:
            self._saving.join(seconds)
        if not self.busy:
            return ''
        return (f'the checkpoint of step {self._last} is not written yet in {self.directory}, which was waited for '
                f'{seconds:g} s; it is waited for until it is')  # fmt: skip

    def close(self) -> None:
        """Ends what it has running, whatever became of it. Interrupted, it leaves the save under way to itself."""
        interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
        if jax.process_count() == 1 and not interrupted:  # of several, one that failed would wait for the others here
            with contextlib.suppress(UserError):
                self.wait()
            self._orbax.close()
        if self._lock is not None and not self.busy:
            os.close(self._lock)
            self._lock = None

    def restore_newest(self, like: State, note: Callable[[str], None]) -> tuple[State, dict[str, object]]:
        """The newest checkpoint that is as it was saved, and the environment it was computed in.

        Damaged ones are set aside, and `note` hears of them.

        Raises:
          UserError: there is none, or its leaves are not those of `like`.
        """
        while self.steps:
            step = self.steps[-1]
            damage = from_first(manifest.damage(self.directory / str(step)) if first() else '')
            if not damage:
                return self._read(step, like), from_first(self._environment(step))
            aside = self._set_aside(step)
            note(f'the checkpoint of step {step:,} is damaged ({damage}); it was set aside as {aside}')
        raise UserError(
            f'{self.directory} has no checkpoint that is whole; what was found damaged begins with a dot there. '
            'Restore a copy, or train anew in another directory'
        )

    def restore(self, step: int, like: State) -> State:
        """The state of `step`, in the structure, shapes, dtypes and shardings of `like` (arrays or their shapes).

        Raises:
          UserError: there is no such step, it is damaged, or its leaves are not those of `like` (the first that differs
        is named).
        """
        if step not in self.steps:
            there = ', '.join(map(str, self.steps)) or 'none'
            raise UserError(f'{self.directory} has no checkpoint of step {step} (it has: {there})')
        path = self.directory / str(step)
        if damage := manifest.damage(path):
            raise UserError(
                f'the checkpoint {path} is damaged ({damage}); put a copy in its place, or take another step'
            )
        return self._read(step, like)

    def _read(self, step: int, like: State) -> State:
        expected, path = leaves.flat(like), self.directory / str(step)
        try:
            metadata: Any = self._orbax.metadata(path)
            leaves.check(path, dict(metadata.item_metadata.tree), expected)
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, expected)
            flat = self._orbax.restore(path, args=ocp.args.StandardRestore(abstract))
        except (OSError, ValueError) as error:
            raise UserError(f'the checkpoint {path} cannot be read ({_reason(error)}); put a copy in its place, or '
                            'take another step') from error  # fmt: skip
        return jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in expected])

    def _environment(self, step: int) -> dict[str, object]:
        return manifest.environment(self.directory / str(step)) if first() else {}

    def _finish(self, step: int, path: epath.Path, environment: dict[str, object]) -> None:
        """What is left to do behind the caller's back: the files, the manifest, and what is not kept any more."""
        try:
            self._orbax.wait_until_finished()
            if first():
                manifest.write(path, environment)
            self.steps = sorted({*self.steps, step})
            with contextlib.suppress(OSError):  # what cannot be removed is no reason to call this one unsaved
                self._retire()
        except Exception as error:  # told where the next save, or the end, waits for this one
            self._failed = error

    def _agree(self, failed: Exception | None) -> None:
        """What has failed in one process has failed in all."""
        if gathered(np.array([failed is not None])).any():
            error = failed or OSError('another process could not write its part')
            raise self._unsaved(self._last, error) from error

    def _retire(self) -> None:
        best = sorted((self.errors[step], step) for step in self.steps if step in self.errors)[: self.keep_best]
        kept = self.snapshots | {*self.steps[-self.keep :], *(step for _, step in best)}
        for step in [step for step in self.steps if step not in kept]:
            self.steps = [each for each in self.steps if each != step]
            if first():
                step_folders.remove(self.directory / str(step))

    def _hold(self) -> None:
        self._lock = step_folders.hold(self.directory)

    def _set_aside(self, step: int) -> str:
        self.steps = [each for each in self.steps if each != step]
        return from_first(step_folders.set_aside(self.directory / str(step)) if first() else '')

    def _renew(self) -> None:
        """Once it has failed, Orbax tells of it in whatever it is asked for later, restoring too."""
        if jax.process_count() == 1:  # of several, one that failed would wait for the others here
            with contextlib.suppress(Exception):
                self._orbax.close()
        self._orbax = _orbax()

    def _unsaved(self, step: int, error: Exception) -> UserError:
        """What is left of it is removed: it takes the room that others need."""
        self.steps = [each for each in self.steps if each != step]
        self._renew()
        _await_workers()
        gathered(np.array([True]))  # those of all processes
        if first():
            with contextlib.suppress(OSError):
                step_folders.clean(self.directory)
        last = f'the checkpoint of step {self.steps[-1]} is whole' if self.steps else 'no checkpoint was saved before'
        return Unsaved(
            f'the checkpoint of step {step} could not be saved in {self.directory} ({_reason(error)}); {last}: '
            'free some space and start again to resume'
        )


class Unsaved(TogetherError):
    """A checkpoint could not be written."""


def _orbax() -> ocp.AsyncCheckpointer:
    # Folders made behind its back: where they cannot be, Orbax's threads wait for them, and the process for these.
    options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    return ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler(), async_options=options)


def _await_workers() -> None:
    """When Orbax fails, workers of the event loop that it closes still write what they had begun, and then end."""
    until = time.monotonic() + WORKERS_END
    this = threading.current_thread()
    while workers := [each for each in threading.enumerate() if each.name.startswith('asyncio_') and each is not this]:
        for worker in workers:
            if worker.is_alive():  # else it is about to begin
                worker.join(max(until - time.monotonic(), 0))
        if time.monotonic() > until:
            return


def _failure(action: Callable[[], None]) -> Exception | None:
    """How it failed to write, if it did."""
    try:
        action()
    except (OSError, ValueError) as error:
        return error
    return None


def _reason(error: Exception) -> str:
    """The first line that says why, of errors that carry many."""
    text = str(error)
    for known in ('No space left on device', 'File too large', 'Disk quota exceeded', 'Read-only file system'):
        if known in text:
            return known
    return text.splitlines()[0][:200] if text else type(error).__name__
