"""What brings batches to the training step: the device's own memory, or a stream."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict
from optax import GradientTransformation

from resnet_jax.data.batches import Batch, TrainingBatches
from resnet_jax.data.order import Plan
from resnet_jax.data.resident import Masked
from resnet_jax.data.stream import placed, stream, this_process
from resnet_jax.errors import TogetherError, UserError
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import mesh, processes
from resnet_jax.train.splits import Splits
from resnet_jax.train.state import TrainState
from resnet_jax.train.step import many_steps, one_step

States = tuple[TrainState, ...]


class Feeding(NamedTuple):
    """`advance(plans, states, until) -> states` trains networks that are at one step, each by its plan, up to step
    `until`, within an epoch; or right behind a batch that one skipped for not being finite.

    Attributes:
      batch: the images and labels of a plan's step.
      skipped: what could not be read since the start, once each, where and why; another stood in for it.
      close: ends what makes batches ahead.
    """

    advance: Callable[[Sequence[Plan], States, int], States]
    batch: Callable[[Plan, int], tuple[jax.Array, jax.Array]]
    skipped: list[str]
    close: Callable[[], None]


def feeding(
    network: ResNet,
    optimizer: GradientTransformation,
    config: ConfigDict,
    splits: Splits,
    plan: Plan,
    layout: TrainState,
) -> Feeding:
    """Of the training split: resident, where many steps are one call, for networks of any seeds; or streamed, for the
    one network of this plan."""
    if splits.training_streamed:
        one = one_step(network, optimizer, config, splits.devices, layout)
        source, channels = splits.dataset.source('train'), network.arch.image_shape[2]
        made = TrainingBatches(source, plan, splits.dataset.data, channels, config.run.steps, this_process())
        return _streamed(one, made, splits, config.run.workers)

    def together(count: int) -> Callable:
        return many_steps(network, optimizer, config, splits.devices, (layout,) * count)

    return _resident(cache(together), splits)


def _resident(together: Callable[[int], Callable], splits: Splits) -> Feeding:
    """From the images on the device, by the programs of many steps, of so many networks together."""
    orders: dict[tuple[Plan, int], jax.Array] = {}  # of the present epoch

    def advance(plans: Sequence[Plan], states: States, until: int) -> States:
        epochs = [(plan, plan.at(until - 1).epoch) for plan in plans]
        for key in orders.keys() - set(epochs):
            del orders[key]
        for plan, epoch in epochs:
            if (plan, epoch) not in orders:
                orders[plan, epoch] = mesh.place(plan.order(epoch), splits.sharding)
        permutations = tuple(orders[each] for each in epochs)
        stop = mesh.place(np.int32(until), splits.sharding)
        return together(len(states))(states, splits.train, splits.normalization, permutations, stop)

    def batch(plan: Plan, step: int) -> tuple[jax.Array, jax.Array]:
        chosen = plan.batch(step)
        return splits.train.images[chosen], splits.train.labels[chosen]

    return Feeding(advance, batch, list(splits.dataset.skipped.get('train', ())), lambda: None)


def _streamed(one: Callable, made: TrainingBatches, splits: Splits, workers: int) -> Feeding:
    """From a stream, by the program of one step."""
    spread, skipped = mesh.spread(splits.devices), []
    opened = _Opened(made, workers, spread)

    def advance(plans: Sequence[Plan], states: States, until: int) -> States:
        (state,) = states
        allowed = mesh.place(state.skipped, splits.sharding)
        opened.go_to(int(state.step))  # behind a batch that was skipped those that followed were left out
        error, unread = '', []
        for _ in range(until - int(state.step)):
            # A batch that cannot be made changes nothing, nor do those that would follow: so no process waits for it.
            if not error:
                batch, host = opened.next()
                error, unread = host.error, [*unread, *host.skipped]
            state = one(state, batch, splits.normalization, allowed)
        told = processes.from_all([error, unread])
        skipped.extend(dict.fromkeys(line for _, lines in told for line in lines if line not in skipped))
        if errors := [error for error, _ in told if error]:
            raise Unfed(errors[0], state)
        return (state,)

    def batch(plan: Plan, step: int) -> tuple[jax.Array, jax.Array]:
        images, labels, _ = next(placed(iter([made[step]]), spread))[0]
        return images, labels

    return Feeding(advance, batch, skipped, opened.close)


class _Opened:
    """A stream of batches that is opened anew where the next one is to be of another step."""

    def __init__(self, made: TrainingBatches, workers: int, spread: NamedSharding):
        self.made, self.workers, self.spread, self.step = made, workers, spread, -1

    def go_to(self, step: int) -> None:
        if step == self.step:
            return
        self.close()
        self.step = step
        self.host = stream(self.made, step, self.workers)
        self.batches = placed(self.host, self.spread)

    def next(self) -> tuple[Masked, Batch]:
        try:
            return next(self.batches)
        except UserError as error:
            return next(placed(iter([self.made.unmade(self.step, str(error))]), self.spread))
        finally:
            self.step += 1

    def close(self) -> None:
        for each in ('batches', 'host'):
            if hasattr(self, each):
                getattr(self, each).close()


class Unfed(TogetherError):
    """The next batch cannot be made; `state` is what training has come to."""

    def __init__(self, message: str, state: TrainState):
        super().__init__(message)
        self.state = state
