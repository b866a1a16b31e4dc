"""States that are saved, and compared."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def state(seed=0, width=3):
    """Every dtype of a training state, an optimizer's state, numbers that are not finite."""
    random = np.random.default_rng(seed)
    params = {'conv': {'kernel': jnp.asarray(random.normal(size=(3, 3, width)), jnp.float32)}}
    optimizer = optax.sgd(0.1, momentum=0.9)
    opt_state = optimizer.update(params, optimizer.init(params), params)[1]
    return {
        'step': jnp.asarray(seed, jnp.int32),
        'params': params,
        'opt_state': opt_state,
        'rng': jax.random.key_data(jax.random.key(seed)),
        'half': jnp.asarray(random.normal(size=5), jnp.bfloat16),
        'odd': jnp.asarray([np.nan, np.inf, -0.0, 1e-45], jnp.float32),
    }


def bits(tree):
    return [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def save(checkpoints, *steps):
    """The states of these steps, each of which is waited for."""
    for step in steps:
        checkpoints.save(step, state(step))
        checkpoints.wait()
