"""Which examples each step trains on: a pure function of seed and step, whoever computes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict


@lru_cache(maxsize=2)  # batches around the end of an epoch are made at the same time
def order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """The order of an epoch: a permutation, int32 (n,), that depends on nothing but these three."""
    # RandomState, not default_rng: NumPy promises its stream for good.
    permutation = np.random.RandomState([seed, epoch]).permutation(examples).astype(np.int32)
    permutation.flags.writeable = False  # it is shared
    return permutation


class Phase(NamedTuple):
    """Steps of one batch and one size. `step`, `epoch`: where it begins; a batch never reaches into the next epoch."""

    step: int
    epoch: int
    batch: int
    pixels: int


class Moment(NamedTuple):
    """A step's place in training: batch `index` of an epoch."""

    epoch: int
    index: int
    phase: Phase


@dataclass(frozen=True)
class Plan:
    """The examples of all steps. `repeats`: times that each example of a batch is in it (repeated augmentation)."""

    seed: int
    examples: int
    repeats: int
    phases: tuple[Phase, ...]

    def at(self, step: int) -> Moment:
        phase = next(phase for phase in reversed(self.phases) if step >= phase.step)
        epochs, index = divmod(step - phase.step, self.examples // phase.batch)
        return Moment(phase.epoch + epochs, index, phase)

    def epoch_end(self, step: int) -> int:
        """The first step after this one's epoch."""
        moment = self.at(step)
        return step - moment.index + self.examples // moment.phase.batch

    def order(self, epoch: int) -> np.ndarray:
        """The examples of an epoch one after the other, int32 (n,)."""
        permutation = order(self.seed, epoch, self.examples)
        return np.repeat(permutation, self.repeats)[: self.examples] if self.repeats > 1 else permutation

    def batch(self, step: int) -> np.ndarray:
        """The examples of a step; what does not fill a last batch is left out of that epoch."""
        epoch, index, phase = self.at(step)
        places = np.arange(index * phase.batch, (index + 1) * phase.batch)
        return order(self.seed, epoch, self.examples)[places // self.repeats]

    def steps(self, epochs: int) -> int:
        """How many steps these first epochs take."""
        ends = [*(phase.epoch for phase in self.phases[1:]), epochs]
        spans = [max(0, min(end, epochs) - phase.epoch) for phase, end in zip(self.phases, ends, strict=True)]
        return sum(span * (self.examples // phase.batch) for span, phase in zip(spans, self.phases, strict=True))


def plan(config: ConfigDict, examples: int, pixels: int) -> Plan:
    """The plan of a validated config for so many training examples, seen at `pixels` where no phase says otherwise."""
    wanted = config.train.phases
    rows = list(zip(wanted.epochs, wanted.pixels, wanted.batch_sizes, strict=True))
    rows = rows or [(1, pixels, config.train.batch_size)]
    return Plan(config.seed, examples, config.data.repeats, _phases(rows, examples))


def _phases(rows: Sequence[tuple[int, int, int]], examples: int) -> tuple[Phase, ...]:
    phases, step, epoch = [], 0, 0
    for epochs, pixels, batch in rows:
        phases.append(Phase(step, epoch, batch, pixels))
        step, epoch = step + epochs * (examples // batch), epoch + epochs
    return tuple(phases)
