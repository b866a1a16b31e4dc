"""Examples for networks of the tests, and what the whole network makes of them, lesion by lesion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.analysis import lesion


@functools.cache
def classify(network):
    return jax.jit(lambda *given: jnp.argmax(network.apply(*given, train=False), axis=-1))


def parts(network, variables, sizes):
    """Images, with labels that the intact network gets right two times in three."""
    rng = np.random.default_rng(6)
    for size in sizes:
        x = jnp.asarray(rng.normal(size=(size, 8, 8, 1)), jnp.float32)
        guess = classify(network)(variables, x, network.intact_gates())
        yield x, jnp.where(jnp.asarray(rng.random(size) < 1 / 3), (guess + 1) % 10, guess)


def one_by_one(network, variables, chunks, lesions):
    """Which examples the whole network classifies rightly after each lesion: (lesions, examples)."""
    gates = [lesion.delete(network.intact_gates(), each) for each in lesions]
    return np.array(
        [np.concatenate([classify(network)(variables, x, each) == labels for x, labels in chunks]) for each in gates]
    )
