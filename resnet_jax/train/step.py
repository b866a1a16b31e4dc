"""The training step: a pure function, and many of them in one compiled call."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int32
from ml_collections import ConfigDict

from resnet_jax.data import resident
from resnet_jax.data.augment import Normalization, augment, normalize
from resnet_jax.data.resident import Examples
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.state import Sums, TrainState


def train_step(
    network: ResNet,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Float[Array, 'n h w c'],
    labels: Int32[Array, ' n'],
    gates: Gates | None = None,
) -> TrainState:
    """One step of gradient descent on the mean cross-entropy of a batch. What is frozen gets no gradient.

    Args:
      gates: of all blocks, (blocks,), for this batch; None: the network is whole, and no gate is compiled.
    """
    # Not the step's own key: augmentation splits that in two, and 0 and 1 would give those very keys.
    draws = jax.random.fold_in(_key(state), 2)

    def objective(params):
        variables = {'params': hold(params, network.frozen), 'batch_stats': state.batch_stats}
        logits, updates = network.apply(
            variables, images, gates, train=True, mutable=['batch_stats'], rngs={'dropout': draws}
        )  # fmt: skip
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, (logits, updates.get('batch_stats', {}))

    (loss, (logits, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    errors = jnp.sum(jnp.argmax(logits, axis=-1) != labels, dtype=jnp.int32)
    return state._replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        sums=Sums(state.sums.loss + loss, state.sums.errors + errors, state.sums.steps + 1),
    )


def random_blocks(network: ResNet, key: Array, active: int) -> Gates:
    """Gates that delete all blocks but `active` of them, drawn uniformly: y = shortcut(x).

    Entry blocks are drawn as any other: their shortcut is there. (Veit et al. 2016, arXiv 1605.06431, section 5,
    trained 23 of 54 blocks a batch.)
    """
    drawn = jax.random.permutation(key, network.arch.blocks) < active
    return network.intact_gates()._replace(residual=drawn.astype(jnp.float32))


def _key(state: TrainState) -> Array:
    """Of all draws of the step that comes."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)


def hold(params: dict, frozen: Sequence[str]) -> dict:
    """The same parameters, of which the parts `frozen` are constants: what leads to them alone is never computed."""
    return {name: jax.lax.stop_gradient(part) if name in frozen else part for name, part in params.items()}


def many_steps(
    network: ResNet, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: jax.sharding.Mesh
) -> Callable:
    """Compiles `steps(state, examples, normalization, permutation, stop) -> state`.

    It trains up to step `stop` (data, so that any number of steps is the same program) within one epoch, whose
    order is `permutation`. It ends early right after a step whose loss is not finite. The state is donated; the
    batch is spread over the mesh's `data` axis, all else is whole on every device.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec('data'))
    size, data = config.train.batch_size, config.data

    def body(state, examples, normalization, permutation):
        index = state.step % (len(examples.labels) // size)
        chosen = resident.batch(examples, permutation, index, size)
        images, labels = jax.lax.with_sharding_constraint((chosen.images, chosen.labels), spread)
        images = augment(_key(state), normalize(images, normalization), shift=data.shift, flip=data.flip)
        active = config.train.active_blocks
        # 3: keys of other draws come from 0, 1 and 2, as in train_step.
        gates = random_blocks(network, jax.random.fold_in(_key(state), 3), active) if active else None
        return train_step(network, optimizer, state, images, labels, gates)

    def steps(
        state: TrainState,
        examples: Examples,
        normalization: Normalization,
        permutation: Int32[Array, ' n'],
        stop: Int32[Array, ''],
    ) -> TrainState:
        def unfinished(state):
            return (state.step < stop) & jnp.isfinite(state.sums.loss)

        return jax.lax.while_loop(unfinished, lambda state: body(state, examples, normalization, permutation), state)

    return jax.jit(steps, donate_argnums=0, in_shardings=whole, out_shardings=whole)
