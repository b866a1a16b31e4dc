"""Evaluation: every example once, whatever the batch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from resnet_jax.data import resident
from resnet_jax.data.augment import Normalization, normalize
from resnet_jax.data.resident import Examples, Masked
from resnet_jax.data.stream import Streamed
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import processes


class Evaluation(NamedTuple):
    """Counts over a split: mean cross-entropy, examples classified rightly, examples."""

    loss: float
    correct: int
    examples: int

    @property
    def error(self) -> float:
        """In percent."""
        return 100 * (1 - self.correct / self.examples)


def evaluate(
    network: ResNet,
    variables: dict,
    examples: Examples | Streamed,
    normalization: Normalization,
    *,
    batch: int,
    gates: Gates | None = None,
    between: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Loss and correct classifications of a split, with BN's running statistics.

    Args:
      examples: whole on every device of its mesh, or a stream; each batch is spread over the devices.
      batch: examples at once, rounded up to the devices; the last batch is filled up and masked.
      gates: of shape (blocks,): an intervention on the network; None for the network as it is.
      between: is called before each batch, and may raise.

    Raises:
      UserError: examples of a stream cannot be read.
    """
    batches = examples.batches(batch) if isinstance(examples, Streamed) else _batches(examples, batch)
    sums = (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
    for part in batches:
        between()
        sums = _add(sums, _evaluate_batch(network, variables, part, normalization, gates))
    if isinstance(examples, Streamed):
        examples.check(processes.from_all([examples.skipped, examples.errors]))
    loss, correct, count = jax.device_get(sums)
    return Evaluation(float(loss) / int(count), int(correct), int(count))


def _batches(examples: Examples, batch: int) -> Iterator[Masked]:
    count = len(examples.labels)
    batch, spread = min(batch, count), None
    if isinstance(whole := examples.labels.sharding, NamedSharding):
        batch, spread = (
            batch + -batch % whole.num_devices,
            NamedSharding(whole.mesh, PartitionSpec(whole.mesh.axis_names)),
        )
    for start in range(0, count, batch):
        yield _part(examples, start, batch=batch, spread=spread)


@partial(jax.jit, static_argnames=('batch', 'spread'))
def _part(examples: Examples, start: Int[Array, ''], *, batch: int, spread: NamedSharding | None) -> Masked:
    chosen, inside = resident.part(examples, start, batch)
    masked = Masked(chosen.images, chosen.labels, inside)
    return masked if spread is None else jax.lax.with_sharding_constraint(masked, spread)


@jax.jit
def _add(sums: tuple, more: tuple) -> tuple:
    return jax.tree.map(jnp.add, sums, more)


@partial(jax.jit, static_argnames='network')
def _evaluate_batch(network, variables, batch: Masked, normalization, gates) -> tuple[Array, Array, Array]:
    logits = network.apply(variables, normalize(batch.images, normalization), gates, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    right = (jnp.argmax(logits, axis=-1) == batch.labels) & batch.inside
    loss = jnp.sum(jnp.where(batch.inside, losses, 0.0))
    return loss, jnp.sum(right, dtype=jnp.int32), jnp.sum(batch.inside, dtype=jnp.int32)
