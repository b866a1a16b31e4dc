"""The training step: a pure function, and many of them in one compiled call."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int32, UInt8
from ml_collections import ConfigDict

from resnet_jax.data import mix, resident
from resnet_jax.data.augment import Normalization, augment
from resnet_jax.data.resident import Examples
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.state import Sums, TrainState

MIXING = 100  # far behind the numbers of what `augment` draws


def train_step(
    network: ResNet,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Float[Array, 'n h w c'],
    labels: Int32[Array, ' n'],
    gates: Gates | None = None,
    loss: Callable[[Array], Array] | None = None,
) -> TrainState:
    """One step of gradient descent on the mean loss of a batch. What is frozen gets no gradient.

    Args:
      gates: of all blocks, (blocks,), for this batch; None: the network is whole, and no gate is compiled.
      loss: of the logits (n, classes), a number; None: their cross-entropy with the labels.
    """
    # Not the step's own key: augmentation splits that in two, and 0 and 1 would give those very keys.
    draws = jax.random.fold_in(_key(state), 2)

    def objective(params):
        variables = {'params': hold(params, network.frozen), 'batch_stats': state.batch_stats}
        logits, updates = network.apply(
            variables, images, gates, train=True, mutable=['batch_stats'], rngs={'dropout': draws}
        )  # fmt: skip
        value = loss(logits) if loss else optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, (logits, updates.get('batch_stats', {}))

    (value, (logits, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    errors = jnp.sum(jnp.argmax(logits, axis=-1) != labels, dtype=jnp.int32)
    return state._replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        sums=Sums(state.sums.loss + value, state.sums.errors + errors, state.sums.steps + 1),
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


def train_on(
    network: ResNet,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
    state: TrainState,
    images: UInt8[Array, 'n h w c'],
    labels: Int32[Array, ' n'],
    normalization: Normalization,
) -> TrainState:
    """The step of a validated config on a batch as the data give it: augmented, mixed, and passed through the blocks
    that are drawn for it, as far as the config asks for that."""
    train, key, loss = config.train, _key(state), None
    # The numbers of the step's own draws: augmentation has 0, 1 and from 4 on, train_step has 2.
    gates = random_blocks(network, jax.random.fold_in(key, 3), train.active_blocks) if train.active_blocks else None
    images = augment(key, images, normalization, config.data)
    if train.mixup or train.cutmix or train.label_smoothing or train.loss != 'softmax':
        targets = mix.targets(labels, network.arch.classes, train.label_smoothing)
        images, targets = mix.mix(jax.random.fold_in(key, MIXING), images, targets, train.mixup, train.cutmix)
        loss = partial(mix.loss, targets=targets, kind=train.loss)
    return train_step(network, optimizer, state, images, labels, gates, loss)


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
    size = config.train.batch_size

    def body(state, examples, normalization, permutation):
        index = state.step % (len(examples.labels) // size)
        chosen = resident.batch(examples, permutation, index, size)
        images, labels = jax.lax.with_sharding_constraint((chosen.images, chosen.labels), spread)
        return train_on(network, optimizer, config, state, images, labels, normalization)

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


def one_step(
    network: ResNet, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: jax.sharding.Mesh
) -> Callable:
    """Compiles `step(state, images, labels, normalization) -> state` for batches that come one by one, spread over
    the mesh's `data` axis. After a step whose loss is not finite it changes nothing. The state is donated."""
    whole = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec('data'))

    def step(state: TrainState, images, labels, normalization: Normalization) -> TrainState:
        def body(state):
            return train_on(network, optimizer, config, state, images, labels, normalization)

        # A loop, as many_steps has it: XLA compiles both alike.
        until = state.step + 1
        return jax.lax.while_loop(lambda state: (state.step < until) & jnp.isfinite(state.sums.loss), body, state)

    return jax.jit(step, donate_argnums=0, in_shardings=(whole, spread, spread, whole), out_shardings=whole)
