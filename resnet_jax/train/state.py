"""What training carries from step to step, and what a checkpoint holds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32, Int32, UInt32

from resnet_jax.models.resnet import ResNet

NO_EPOCH = 2**32 - 1


class Sums(NamedTuple):
    """Sums over the steps since the last record: a record is the same however the steps were grouped into calls."""

    loss: Float32[Array, '']
    errors: Int32[Array, '']
    steps: Int32[Array, '']


class TrainState(NamedTuple):
    """`step` (steps done), the variables, the optimizer's state, the data of the key of all draws, and the sums."""

    step: Int32[Array, '']
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    rng: UInt32[Array, '2']
    sums: Sums

    @property
    def variables(self) -> dict:
        return {'params': self.params, 'batch_stats': self.batch_stats}


def no_sums() -> Sums:
    return Sums(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def initial_state(network: ResNet, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state of step 0, a function of the seed alone."""
    # Not from the seed's own key: `fold_in(key, epoch)` orders the epochs, and `split` would give those very keys.
    init_key, rng = jax.random.split(jax.random.fold_in(jax.random.key(seed), NO_EPOCH))
    variables = network.init_variables(init_key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables['params'],
        batch_stats=variables['batch_stats'],
        opt_state=jax.jit(optimizer.init)(variables['params']),
        rng=jax.random.key_data(rng),
        sums=no_sums(),
    )
