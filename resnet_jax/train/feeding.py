"""What brings batches to the training step: the device's own memory, or a stream."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from optax import GradientTransformation

from resnet_jax.data.augment import Normalization
from resnet_jax.data.batches import Batch, TrainingBatches
from resnet_jax.data.order import Plan
from resnet_jax.data.resident import Masked
from resnet_jax.data.stream import placed, stream, this_process
from resnet_jax.errors import UserError
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.splits import Splits
from resnet_jax.train.state import TrainState
from resnet_jax.train.step import many_steps, one_step


class Feeding(NamedTuple):
    """`advance(state, until) -> state` trains up to step `until`, or to a step that cannot be done, within an epoch.

    Attributes:
      skipped: what could not be read since the start, once each, where and why; another stood in for it.
      close: ends what makes batches ahead.
    """

    advance: Callable[[TrainState, int], TrainState]
    skipped: list[str]
    close: Callable[[], None]


def resident_feeding(
    network: ResNet, optimizer: GradientTransformation, config: ConfigDict, splits: Splits, plan: Plan
) -> Feeding:
    """From the images on the device: many steps are one call."""
    steps = many_steps(network, optimizer, config, splits.devices)
    order: dict[int, jax.Array] = {}  # of the present epoch

    def advance(state: TrainState, until: int) -> TrainState:
        epoch = plan.at(until - 1).epoch
        if epoch not in order:
            order.clear()
            order[epoch] = jax.device_put(plan.order(epoch), splits.sharding)
        return steps(state, splits.train, splits.normalization, order[epoch], jnp.asarray(until, jnp.int32))

    return Feeding(advance, list(splits.dataset.skipped.get('train', ())), lambda: None)


def streamed_feeding(
    network: ResNet, optimizer: GradientTransformation, config: ConfigDict, splits: Splits, plan: Plan, start: int
) -> Feeding:
    """From a stream that begins at step `start`."""
    step = one_step(network, optimizer, config, splits.devices)
    made = TrainingBatches(
        splits.dataset.source('train'), plan, splits.dataset.data, network.arch.image_shape[2], config.run.steps,
        this_process(),
    )  # fmt: skip
    spread = NamedSharding(splits.devices, PartitionSpec('data'))
    host = stream(made, start, config.run.workers)
    batches, skipped = placed(host, spread), []
    advance = partial(_advance, step, batches, splits.normalization, skipped)

    def close() -> None:
        batches.close()
        host.close()

    return Feeding(advance, skipped, close)


def _advance(
    step: Callable,
    batches: Iterator[tuple[Masked, Batch]],
    normalization: Normalization,
    skipped: list[str],
    state: TrainState,
    until: int,
) -> TrainState:
    for _ in range(until - int(state.step)):
        try:
            batch, host = next(batches)
        except UserError as error:
            raise Unfed(str(error), state) from None
        skipped.extend(line for line in host.skipped if line not in skipped)
        state = step(state, batch.images, batch.labels, normalization)
    return state


class Unfed(UserError):
    """The next batch cannot be made; `state` is what training has come to."""

    def __init__(self, message: str, state: TrainState):
        super().__init__(message)
        self.state = state
