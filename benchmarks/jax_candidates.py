"""Ours and plain Flax as they take turns in a benchmark of whole networks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.timing import Calls
from resnet_jax.models.platform import compiler_options
from resnet_jax.train.gradient import Targets
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import train_step


def calls(network: Any, config: ConfigDict, images: np.ndarray, labels: np.ndarray, *, looped: bool) -> Calls:
    """`train step`, which keeps its own state from call to call, and `evaluation`.

    Ours runs inside a loop, as training runs it; there plain Flax would take thirty times as long on a CPU.
    """
    optimizer, compute = make_optimizer(config), config.train.compute
    state = [initial_state(network, optimizer, 0)]
    inputs, targets = jnp.asarray(images), Targets(jnp.asarray(labels))

    def one(state):
        return train_step(network, optimizer, state, inputs, targets, compute=compute)

    steps = jax.jit(
        lambda state, count: jax.lax.fori_loop(0, count, lambda _, state: one(state), state) if looped else one(state),
        donate_argnums=0,
        compiler_options=compiler_options() if looped else {},
    )
    apply = jax.jit(partial(network.apply, train=False))

    def step():
        state[0] = steps(state[0], 1)
        return state[0]

    return {'train step': step, 'evaluation': lambda: apply(state[0].variables, inputs.astype(compute))}
