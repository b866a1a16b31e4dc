"""Evaluation: every example once, whatever the batch."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from resnet_jax.data import resident
from resnet_jax.data.augment import Normalization, normalize
from resnet_jax.data.resident import Examples
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet


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
    examples: Examples,
    normalization: Normalization,
    *,
    batch: int,
    gates: Gates | None = None,
) -> Evaluation:
    """Loss and correct classifications of a split, with BN's running statistics.

    Args:
      examples: whole on every device of its mesh; each batch is spread over them.
      batch: examples at once, rounded up to the devices; the last batch is padded and masked.
      gates: of shape (blocks,): an intervention on the network; None for the network as it is.
    """
    count = len(examples.labels)
    batch, spread = min(batch, count), None
    if isinstance(whole := examples.labels.sharding, NamedSharding):
        batch, spread = batch + -batch % whole.num_devices, NamedSharding(whole.mesh, PartitionSpec('data'))
    loss, correct = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    for start in range(0, count, batch):
        part_loss, part_correct = _evaluate_part(
            network, variables, examples, normalization, start, gates, batch=batch, spread=spread
        )
        loss, correct = loss + part_loss, correct + part_correct
    return Evaluation(float(loss) / count, int(correct), count)


@partial(jax.jit, static_argnames=('network', 'batch', 'spread'))
def _evaluate_part(
    network, variables, examples, normalization, start, gates, *, batch: int, spread: NamedSharding | None
) -> tuple[Array, Array]:
    chosen, inside = resident.part(examples, start, batch)
    if spread is not None:
        chosen = jax.lax.with_sharding_constraint(chosen, spread)
    logits = network.apply(variables, normalize(chosen.images, normalization), gates, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, chosen.labels)
    right = jnp.argmax(logits, axis=-1) == chosen.labels
    return jnp.sum(jnp.where(inside, losses, 0.0)), jnp.sum(right & inside, dtype=jnp.int32)
