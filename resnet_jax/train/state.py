"""What training carries from step to step, and what a checkpoint holds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float32, Int32, UInt32

from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import mesh

NO_EPOCH = 2**32 - 1


class Sums(NamedTuple):
    """Sums over the steps since the last record: a record is the same however the steps were grouped into calls."""

    loss: Float32[Array, '']
    errors: Int32[Array, '']
    steps: Int32[Array, '']


class TrainState(NamedTuple):
    """All that a run is at a step.

    Attributes:
      step: batches that have been drawn.
      skipped: how many of them changed nothing, their loss or gradient not being finite.
      params, batch_stats: what is trained.
      ema: the average of both over the steps, `{'params', 'batch_stats'}`; {} where there is none.
      rng: the data of the key of all draws.
    """

    step: Int32[Array, '']
    skipped: Int32[Array, '']
    params: dict
    batch_stats: dict
    ema: dict
    opt_state: optax.OptState
    rng: UInt32[Array, '2']
    sums: Sums

    @property
    def variables(self) -> dict:
        """What the run is judged by: the average where there is one."""
        return self.ema or {'params': self.params, 'batch_stats': self.batch_stats}


def no_sums() -> Sums:
    return Sums(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def initial_state(
    network: ResNet, optimizer: optax.GradientTransformation, seed: int, *, average: bool = False
) -> TrainState:
    """The state of step 0, a function of the seed alone; with the variables' average where that is asked for."""
    # Not from the seed's own key: `fold_in(key, epoch)` orders the epochs, and `split` would give those very keys.
    init_key, rng = jax.random.split(jax.random.fold_in(jax.random.key(seed), NO_EPOCH))
    return state_of(network.init_variables(init_key), optimizer, jax.random.key_data(rng), average=average)


def state_of(
    variables: dict, optimizer: optax.GradientTransformation, rng: UInt32[Array, '2'], *, average: bool = False
) -> TrainState:
    """The state of step 0 with these variables."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        params=variables['params'],
        batch_stats=variables['batch_stats'],
        ema=dict(variables) if average else {},
        opt_state=jax.jit(optimizer.init)(variables['params']),
        rng=rng,
        sums=no_sums(),
    )


def layout_of(state: TrainState, devices: Mesh) -> TrainState:
    """The sharding of each array of a state: what is large and updated is cut, the rest whole on each device."""
    whole = jax.tree.map(lambda _: mesh.whole(devices), state)
    return whole._replace(
        params=mesh.cut(state.params, devices), opt_state=mesh.cut(state.opt_state, devices),
        ema=mesh.cut(state.ema, devices),
    )  # fmt: skip
