"""Saving while training goes on, and what comes of a save that fails: `run.unsaved`."""

from collections.abc import Callable
from functools import partial

import numpy as np

from resnet_jax.runtime import processes
from resnet_jax.runtime.checkpoint import Unsaved
from resnet_jax.runtime.environment import fingerprint
from resnet_jax.train.state import TrainState
from resnet_jax.train.training import Training

LATE = 60.0  # seconds that a checkpoint is waited for before that is said


def save(training: Training, state: TrainState) -> None:
    """Begins to save, or says why not where the run goes on without."""
    checkpoints, step, settings = training.checkpoints, int(state.step), training.config.run
    may_miss = settings.unsaved == 'go_on' and step < settings.steps and step not in settings.snapshots
    if may_miss and processes.gathered(np.array([checkpoints.busy])).any():
        training.recorder.note(f'step {step:,} is not saved: the checkpoint before is still being written')
        return
    settled(training, checkpoints.wait)
    settled(training, partial(checkpoints.save, step, state, fingerprint(training.config.run)))


def save_last(training: Training, state: TrainState) -> None:
    """Saves what the run ends with, whatever became of the save before."""
    _tell_late(training)
    try:
        training.checkpoints.wait()
    except Unsaved as error:
        training.recorder.note(str(error))
    training.checkpoints.save(int(state.step), state, fingerprint(training.config.run))
    _tell_late(training)
    training.checkpoints.wait()


def settled(training: Training, saving: Callable[[], None]) -> None:
    """Does `saving`; where it fails the run stops, or it is said, as `run.unsaved` has it."""
    _tell_late(training)
    try:
        saving()
    except Unsaved as error:
        if training.config.run.unsaved == 'stop':
            raise
        training.recorder.note(f'{error}. Training goes on, as config.run.unsaved says')


def _tell_late(training: Training) -> None:
    """A disk that hangs says nothing itself."""
    if said := training.checkpoints.late(LATE):
        training.recorder.note(said)
