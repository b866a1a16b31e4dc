"""What falls between the steps of a run: records, evaluations, and batches that are not finite."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from resnet_jax.errors import Diverged
from resnet_jax.runtime import mesh, processes
from resnet_jax.runtime.signals import StopRequest
from resnet_jax.train.clock import Clock
from resnet_jax.train.diagnosis import diagnosis
from resnet_jax.train.evaluate import evaluate
from resnet_jax.train.rates import rates
from resnet_jax.train.recorder import Recorder
from resnet_jax.train.saving import settled
from resnet_jax.train.schedule import learning_rate
from resnet_jax.train.state import TrainState, no_sums
from resnet_jax.train.training import Training

TOLD = 20  # images that could not be read, named one by one
IN_A_ROW = 10  # batches skipped one after the other, before it is said that skipping does not help


def record_training(training: Training, state: TrainState, clock: Clock) -> TrainState:
    """Records what was summed up since the last record, and begins the sums anew."""
    sums, step, schedule = jax.device_get(state.sums), int(state.step), training.plan
    steps, moment, skipped = int(sums.steps), schedule.at(step), int(state.skipped)
    seen = sum(schedule.at(each).phase.batch for each in range(step - steps, step))
    epoch = moment.epoch + moment.index / (schedule.examples // moment.phase.batch)
    rate = learning_rate(training.config.train)(max(0, step - skipped - 1))
    arch, pixels = training.network.arch, moment.phase.pixels
    fed = replace(arch, image_shape=(pixels, pixels, arch.image_shape[2]))
    if steps:
        training.recorder(
            'train', step, epoch=round(epoch, 4), loss=float(sums.loss) / steps,
            error=100 * int(sums.errors) / seen, learning_rate=float(rate),
            seconds=round(clock.seconds, 3), **rates(fed, clock.rate * seen / steps, training.config.train.compute),
            **({'skipped': len(training.feeding.skipped)} if training.feeding.skipped else {}),
            **({'not_finite': skipped} if skipped else {}),
        )  # fmt: skip
    return state._replace(sums=mesh.place(no_sums(), state.sums.loss.sharding))


def evaluate_splits(training: Training, state: TrainState, stop: StopRequest) -> None:
    """On the test split, and on the examples held out, by which the best checkpoints are kept: what is not recorded of
    this step yet. Leaves off, with nothing recorded, when the run is asked to stop: gone on with it does it again."""
    with suppress(_Asked):
        for split in ('selection', 'test') if training.config.run.keep_best else ('test',):
            if (split, int(state.step)) not in training.recorder.recorded:
                _evaluate_split(training, state, split, partial(_heed, stop))


class _Asked(Exception):
    """The run is to stop."""


def _heed(stop: StopRequest) -> None:
    if processes.gathered(np.array(stop.number)).any():
        raise _Asked


def _evaluate_split(training: Training, state: TrainState, split: str, between: Callable[[], None]) -> None:
    step, recorder, splits = int(state.step), training.recorder, training.splits
    result = evaluate(
        training.network, state.variables, getattr(splits, split), splits.normalization,
        batch=training.config.run.eval_batch, between=between,
    )  # fmt: skip
    skipped = splits.skipped(split)
    if not any(kind == split and before < step for kind, before in recorder.recorded):
        tell_skipped(skipped, 0, recorder)
    recorder(
        split, step, loss=result.loss, error=result.error, correct=result.correct,
        examples=result.examples, **({'skipped': len(skipped)} if skipped else {}),
    )  # fmt: skip
    if split == 'selection':
        training.checkpoints.errors[step] = result.error


def not_finite(training: Training, state: TrainState) -> None:
    """The last batch was skipped: says why.

    Raises:
      Diverged: so the settings say, or as many batches were skipped one after the other.
    """
    step = int(state.step)
    examples, batch = training.plan.batch(step - 1).tolist(), training.feeding.batch(training.plan, step - 1)
    where = diagnosis(training.network, training.config, state, batch, training.splits.normalization)
    training.recorder('not_finite', step, examples=examples, where=where)
    named = ', '.join(map(str, examples[:5])) + (', …' if len(examples) > 5 else '')
    said = f'the loss or gradient of step {step} is not finite: first in {where}; examples {named} (metrics.jsonl)'
    if training.config.run.nonfinite == 'stop':
        raise diverged(training, step, said)
    training.recorder.note(f'{said}. The batch was skipped, {int(state.skipped)} so far')
    if all(('not_finite', each) in training.recorder.recorded for each in range(step, step - IN_A_ROW, -1)):
        raise diverged(training, step, f'{said}. {IN_A_ROW} batches were skipped one after the other')


def diverged(training: Training, step: int, said: str) -> Diverged:
    """The end of a run that is beyond help: records it, and names the checkpoint from before."""
    training.recorder('diverged', step)
    settled(training, training.checkpoints.wait)
    steps = training.checkpoints.steps
    last = f'the last good checkpoint is that of step {steps[-1]}' if steps else 'there is no good checkpoint'
    last += f' in {training.checkpoints.directory}'
    return Diverged(f'{said}; {last}. Lower train.schedule.learning_rate or add a warm-up, in another --run; or leave '
                    'such batches out: --config.run.nonfinite=skip')  # fmt: skip


def tell_skipped(skipped: list[str], told: int, recorder: Recorder) -> int:
    """Says what could not be read since; the first ones in full. Returns how many have been told of."""
    for line in skipped[told:TOLD]:
        recorder.note(f'skipped: {line}')
    if told < len(skipped) and len(skipped) > TOLD:
        recorder.note(f'{len(skipped):,} images were skipped so far, of which {TOLD} are named above')
    return len(skipped)
