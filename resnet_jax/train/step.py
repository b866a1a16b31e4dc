"""The training step: a pure function, and many of them in one compiled call."""

from collections.abc import Callable
from functools import partial, reduce
from operator import and_

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int32, UInt8
from ml_collections import ConfigDict

from resnet_jax.data import mix, resident
from resnet_jax.data.augment import Normalization, augment
from resnet_jax.data.resident import Examples, Masked
from resnet_jax.models.gates import Gates
from resnet_jax.models.platform import compiler_options
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime.mesh import spread, whole
from resnet_jax.train.gradient import Targets, gradient
from resnet_jax.train.state import Sums, TrainState

MIXING = 100  # far behind the numbers of what `augment` draws


def train_step(
    network: ResNet,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Float[Array, 'n h w c'],
    targets: Targets,
    gates: Gates | None = None,
    *,
    microbatches: int = 1,
    compute: str = 'float32',
    ema: float = 0.0,
    mesh: Mesh | None = None,
) -> TrainState:
    """One step of gradient descent on the mean loss of a batch. What is frozen gets no gradient.

    A batch whose loss or gradient is not finite changes nothing but the counts of batches and of those skipped.

    Args:
      gates: of all blocks, (blocks,), for this batch; None: the network is whole, and no gate is compiled.
      microbatches, compute: see `gradient`.
      ema: share that the average of the variables keeps, where the state has one.
      mesh: where the state's arrays may be cut over devices: they are gathered to compute.
    """
    draws = draws_of(state)
    found = gradient(
        network, state.params, state.batch_stats, images, targets, draws, gates,
        microbatches=microbatches, compute=compute, mesh=mesh,
    )  # fmt: skip
    updates, opt_state = optimizer.update(found.gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    sums = Sums(state.sums.loss + found.loss, state.sums.errors + found.errors, state.sums.steps + 1)
    stepped = state._replace(
        params=params, batch_stats=found.batch_stats, opt_state=opt_state, sums=sums,
        ema=optax.incremental_update({'params': params, 'batch_stats': found.batch_stats}, state.ema, 1 - ema)
        if state.ema else {},
    )  # fmt: skip
    # Behind a barrier, or XLA has each array's update find it out anew: a quarter of the time it takes to compile.
    good = jax.lax.optimization_barrier(_all_finite((found.loss, found.batch_stats, found.gradient)))
    kept = jax.tree.map(partial(jnp.where, good), stepped, state)
    return kept._replace(step=state.step + 1, skipped=state.skipped + (~good).astype(jnp.int32))


def _all_finite(tree: object) -> Bool[Array, '']:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def random_blocks(network: ResNet, key: Array, active: int) -> Gates:
    """Gates that delete all blocks but `active` of them, drawn uniformly: y = shortcut(x).

    Entry blocks are drawn as any other: their shortcut is there. (Veit et al. 2016, arXiv 1605.06431, section 5,
    trained 23 of 54 blocks a batch.)
    """
    drawn = jax.random.permutation(key, network.arch.blocks) < active
    return network.intact_gates()._replace(residual=drawn.astype(jnp.float32))


def draws_of(state: TrainState) -> Array:
    """The key of what the network draws in the step that comes."""
    # Not the step's own key: augmentation splits that in two, and 0 and 1 would give those very keys.
    return jax.random.fold_in(_key(state), 2)


def _key(state: TrainState) -> Array:
    """Of all draws of the step that comes."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)


def prepared(
    network: ResNet,
    config: ConfigDict,
    state: TrainState,
    images: UInt8[Array, 'n h w c'],
    labels: Int32[Array, ' n'],
    normalization: Normalization,
) -> tuple[Float[Array, 'n h w c'], Targets, Gates | None]:
    """What the step of a validated config computes with, of a batch as the data give it: images augmented and mixed,
    their targets, and the gates of the blocks that are drawn, as far as the config asks for that."""
    train, key = config.train, _key(state)
    # The numbers of the step's own draws: augmentation has 0, 1 and from 4 on, train_step has 2.
    gates = random_blocks(network, jax.random.fold_in(key, 3), train.active_blocks) if train.active_blocks else None
    augmented = augment(key, images, normalization, config.data)
    if not (train.mixup or train.cutmix or train.label_smoothing or train.loss != 'softmax'):
        return augmented, Targets(labels), gates
    classes = mix.targets(labels, network.arch.classes, train.label_smoothing)
    mixed, classes = mix.mix(jax.random.fold_in(key, MIXING), augmented, classes, train.mixup, train.cutmix)
    return mixed, Targets(labels, classes, train.loss), gates


def train_on(
    network: ResNet,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
    state: TrainState,
    images: UInt8[Array, 'n h w c'],
    labels: Int32[Array, ' n'],
    normalization: Normalization,
    mesh: Mesh | None = None,
) -> TrainState:
    """The step of a validated config on a batch as the data give it."""
    train = config.train
    return train_step(
        network, optimizer, state, *prepared(network, config, state, images, labels, normalization),
        microbatches=train.microbatches, compute=train.compute, ema=train.ema, mesh=mesh,
    )  # fmt: skip


def many_steps(
    network: ResNet,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
    mesh: Mesh,
    layouts: tuple[TrainState, ...],
) -> Callable:
    """Compiles `steps(states, examples, normalization, permutations, stop) -> states`, for one network or several.

    It trains all of them, which are at one step, up to step `stop` (data, so that any number of steps is the same
    program) within one epoch, whose orders are `permutations`. It ends early right after a batch that one had to skip.
    The states are donated; a batch is spread over the mesh.

    A network goes the way that it goes alone: to the bit as XLA compiles it for a CPU; elsewhere it was not compared.
    (One vmap over the networks would make their convolutions one in groups: slower, and another sum.)

    Args:
      layouts: the sharding of each array of each network's state.
    """
    size = config.train.batch_size

    def body(examples, normalization, state, permutation):
        index = state.step % (len(examples.labels) // size)
        chosen = resident.batch(examples, permutation, index, size)
        images, labels = jax.lax.with_sharding_constraint((chosen.images, chosen.labels), spread(mesh))
        return train_on(network, optimizer, config, state, images, labels, normalization, mesh)

    def steps(
        states: tuple[TrainState, ...],
        examples: Examples,
        normalization: Normalization,
        permutations: tuple[Int32[Array, ' n'], ...],
        stop: Int32[Array, ''],
    ) -> tuple[TrainState, ...]:
        one, skipped = partial(body, examples, normalization), tuple(state.skipped for state in states)
        return _while_good(states, stop, skipped, lambda states: tuple(map(one, states, permutations)))

    return _compiled(steps, (layouts, *(whole(mesh),) * 4))


def one_step(
    network: ResNet, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: Mesh, layout: TrainState
) -> Callable:
    """Compiles `step(state, batch, normalization, skipped) -> state` for batches that come one by one, spread over the
    mesh. The state is left as it is by a batch that is not all inside, of which a process could not make its share; and
    where it has skipped more batches than `skipped`. It is donated."""

    def step(state: TrainState, batch: Masked, normalization: Normalization, skipped: Int32[Array, '']) -> TrainState:
        # A loop, as many_steps has it: XLA compiles both alike.
        def once(states: tuple[TrainState, ...]) -> tuple[TrainState, ...]:
            return (train_on(network, optimizer, config, states[0], batch.images, batch.labels, normalization, mesh),)

        return _while_good((state,), state.step + jnp.all(batch.inside).astype(jnp.int32), (skipped,), once)[0]

    return _compiled(step, (layout, spread(mesh), whole(mesh), whole(mesh)))


def _compiled(steps: Callable, shardings: tuple) -> Callable:
    """Of what takes a state or several, which are donated, and gives as many laid out alike."""
    return jax.jit(
        steps, donate_argnums=0, in_shardings=shardings, out_shardings=shardings[0], compiler_options=compiler_options()
    )  # fmt: skip


def _while_good(
    states: tuple[TrainState, ...], stop: Int32[Array, ''], skipped: tuple[Int32[Array, ''], ...], body: Callable
) -> tuple[TrainState, ...]:
    """Step by step up to `stop`, while none skips more batches than its `skipped`."""

    def goes_on(states: tuple[TrainState, ...]) -> Bool[Array, '']:
        good = (state.skipped <= most for state, most in zip(states, skipped, strict=True))
        return reduce(and_, good, states[0].step < stop)

    return jax.lax.while_loop(goes_on, body, states)
