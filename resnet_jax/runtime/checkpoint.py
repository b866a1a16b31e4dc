"""Checkpoints: the one module that knows Orbax. A checkpoint is a flat `{path of a leaf: array}` by step."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, CustomSteps, LatestN

from resnet_jax.errors import UserError

State = TypeVar('State')


class Checkpoints:
    """The checkpoints of a run: `save`, `restore`, and which steps there are."""

    def __init__(self, run_dir: Path, *, keep: int = 1, snapshots: Sequence[int] = (), read_only: bool = False):
        """Opens `run_dir/checkpoints`; it keeps the newest `keep` and, for good, the steps of `snapshots`."""
        self.directory = run_dir.absolute() / 'checkpoints'
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep), CustomSteps(snapshots)]),
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
        )
        if not read_only:
            for leftover in self._leftovers():
                leftover.rename(leftover.with_name(f'.{leftover.name}.damaged-{time.time_ns()}'))
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    @property
    def steps(self) -> list[int]:
        return sorted(step for step in self._manager.all_steps() if _is_whole(self.directory / str(step)))

    def save(self, step: int, state: object) -> None:
        """Writes the state of `step`, whole or not at all; a step that is there is left as it is.

        Raises:
          UserError: the disk is full or fails; what was saved before stays.
        """
        if step in self.steps:
            return
        try:
            self._manager.save(step, args=ocp.args.StandardSave(_flat(state)), force=True)
        except (OSError, ValueError) as error:
            steps = self.steps
            last = f'the checkpoint of step {steps[-1]} is whole' if steps else 'no checkpoint was saved before'
            raise UserError(
                f'the checkpoint of step {step} could not be saved in {self.directory} ({_reason(error)}); {last}: '
                'free some space and start again to resume'
            ) from error

    def restore(self, step: int, like: State) -> State:
        """The state of `step`, in the structure, shapes, dtypes and shardings of `like` (arrays or their shapes).

        Raises:
          UserError: there is no such step, it is damaged, or its leaves are not those of `like` (the first that differs
        is named).
        """
        if step not in self.steps:
            there = ', '.join(map(str, self.steps)) or 'none'
            raise UserError(f'{self.directory} has no checkpoint of step {step} (it has: {there})')
        expected = _flat(like)
        try:
            self._check(step, expected)
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, expected)
            flat = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (OSError, ValueError) as error:
            path = self.directory / str(step)
            raise UserError(
                f'the checkpoint {path} is damaged ({_reason(error)}); put a copy in its place, or go on from the one '
                f'before: rm -r {path}'
            ) from error
        return jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in expected])

    def _leftovers(self) -> list[Path]:
        """Folders of a step's name that are no whole checkpoint, as crashes leave them: Orbax would take them for one.
        They are set aside, not deleted: what is damaged may still be wanted."""
        return [path for path in self.directory.glob('[0-9]*') if path.name.isdecimal() and not _is_whole(path)]

    def _check(self, step: int, expected: dict) -> None:
        found = dict(self._manager.item_metadata(step).tree)
        for name in sorted(expected.keys() | found.keys()):
            is_there, wanted = _describe(found.get(name)), _describe(expected.get(name))
            if is_there != wanted:
                raise UserError(
                    f'the checkpoint of step {step} in {self.directory} is of another network: '
                    f'{name} is {is_there} there, {wanted} here; give the config it was trained with'
                )


def _is_whole(path: Path) -> bool:
    """Is this the folder of a step that was saved to the end, and not since deleted in part?"""
    return (path / '_CHECKPOINT_METADATA').is_file() and (path / 'default' / '_METADATA').is_file()


def _flat(state: object) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}


def _describe(leaf: object) -> str:
    if leaf is None:
        return 'absent'
    return f'{leaf.dtype}{list(leaf.shape)}'  # pyright: ignore[reportAttributeAccessIssue]


def _reason(error: Exception) -> str:
    """The first line that says why, of errors that carry many."""
    text = str(error)
    for known in ('No space left on device', 'File too large', 'Disk quota exceeded', 'Read-only file system'):
        if known in text:
            return known
    return text.splitlines()[0][:200] if text else type(error).__name__
