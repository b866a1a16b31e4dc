"""The state of step 0 is a function of the seed, and shares no random bits with the order of the examples."""

import jax
import numpy as np
import pytest

from resnet_jax.train.state import initial_state


@pytest.fixture(scope='module')
def states(parts):
    return [initial_state(parts.network, parts.optimizer, seed) for seed in (5, 5, 6)]


def test_equal_seeds_give_equal_states_and_others_differ(states, same):
    first, again, other = states
    assert same(first, again)
    assert not np.array_equal(first.rng, other.rng)
    kernels = [state.params['stem']['conv1']['kernel'] for state in states]
    assert not np.array_equal(kernels[0], kernels[2])


def test_it_has_done_no_step_and_has_no_momentum(states):
    state = states[0]
    assert int(state.step) == 0 and [float(leaf) for leaf in state.sums] == [0, 0, 0]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


def test_no_epoch_is_ordered_with_the_key_of_parameters_or_augmentation(parts, states):
    """`split(key)` gives the very keys `fold_in(key, 0)` and `fold_in(key, 1)`: those of the first two epochs."""
    seed_key, state = jax.random.key(5), states[0]
    assert (
        jax.random.key_data(jax.random.split(seed_key)[1]) == jax.random.key_data(jax.random.fold_in(seed_key, 1))
    ).all()
    for epoch in range(200):
        assert (jax.random.key_data(jax.random.fold_in(seed_key, epoch)) != state.rng).any()
    alike = parts.network.init_variables(jax.random.fold_in(seed_key, 0))
    assert (alike['params']['stem']['conv1']['kernel'] != state.params['stem']['conv1']['kernel']).any()
