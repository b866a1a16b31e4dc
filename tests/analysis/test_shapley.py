from itertools import permutations

import numpy as np
import pytest

from resnet_jax.analysis import shapley
from resnet_jax.analysis.lesion import deletable
from resnet_jax.analysis.sweep import sweep
from tests.analysis.chunks import parts

PLAYERS = np.array([True, False, True, True])


def sampled(orders, worth):
    """Marginals of a game of four blocks; `worth` of a lesion (blocks,)."""
    values = np.apply_along_axis(worth, -1, shapley.chains(orders, 4))
    return shapley.marginals(values, orders, 4)


def test_orders_come_with_their_reverses_and_are_of_the_players():
    orders = shapley.random_orders(np.random.default_rng(0), PLAYERS, 500)
    assert orders.shape == (1000, 3) and set(orders.ravel()) == {0, 2, 3}
    np.testing.assert_array_equal(orders[1::2], orders[::2, ::-1])
    _, counts = np.unique(orders[::2], axis=0, return_counts=True)
    assert len(counts) == 6 and np.abs(counts - 500 / 6).max() < 4 * np.sqrt(500 / 6)


def test_a_chain_loses_one_block_more_at_every_step():
    (chain,) = shapley.chains(np.array([[2, 0, 3]]), 4)
    np.testing.assert_array_equal(chain.astype(int), [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 1, 1]])


def test_of_a_sum_each_block_is_worth_its_term_and_nothing_varies():
    terms = np.array([5.0, 9.0, 2.0, -1.0])
    orders = shapley.random_orders(np.random.default_rng(0), PLAYERS, 3)
    values, errors = shapley.estimate(sampled(orders, lambda lesion: terms[~lesion].sum()))
    np.testing.assert_allclose(values, [5, 0, 2, -1])  # the second does not play
    np.testing.assert_allclose(errors, 0, atol=1e-12)


def test_a_product_of_two_is_shared_between_them():
    """The worth is 1 with both 0 and 2: by symmetry half each. One order and its reverse find that exactly."""
    orders = shapley.random_orders(np.random.default_rng(0), PLAYERS, 2)
    values, errors = shapley.estimate(sampled(orders, lambda lesion: float(not (lesion[0] or lesion[2]))))
    np.testing.assert_allclose(values, [0.5, 0, 0.5, 0])
    np.testing.assert_allclose(errors, 0)


def test_the_standard_error_is_that_of_means_of_pairs():
    found = np.array([[1.0], [3.0], [5.0], [5.0], [0.0], [2.0]])  # pairs: 2, 5, 1
    values, errors = shapley.estimate(found)
    np.testing.assert_allclose([values[0], errors[0]], [8 / 3, np.std([2, 5, 1], ddof=1) / np.sqrt(3)])
    assert np.isnan(shapley.estimate(found[:2])[1]).all()


@pytest.mark.parametrize('fields', [{'stage_blocks': (2, 2, 1)}, {'stage_blocks': (2, 2, 2), 'shortcut': 'none'}])
def test_sampling_agrees_with_all_orders_of_a_network(make_network, fields):
    network, variables = make_network('float32', **{'placement': 'original'} | fields)
    arch, (part,) = network.arch, parts(network, variables, (60,))
    subsets = (np.arange(2**arch.blocks)[:, None] >> np.arange(arch.blocks)) % 2 == 1
    players = deletable(arch)
    subsets = subsets[~subsets[:, ~players].any(axis=1)]
    _, right = sweep(network, variables, [part], subsets)
    worth = dict(zip(map(tuple, subsets), right.sum(axis=1), strict=True))

    def measured(orders):
        values = np.array([[worth[tuple(step)] for step in chain] for chain in shapley.chains(orders, arch.blocks)])
        return shapley.marginals(values.astype(float), orders, arch.blocks)

    exact = measured(np.array(list(permutations(np.flatnonzero(players))))).mean(axis=0)
    found = measured(shapley.random_orders(np.random.default_rng(0), players, 40))
    values, errors = shapley.estimate(found)
    assert np.ptp(exact[players]) > 1 and (errors[players] > 0).all()
    np.testing.assert_array_less(np.abs(values - exact), 3.5 * errors + 1e-9)
    none, everything = (worth[tuple(lesion)] for lesion in (0 * players == 1, players))
    np.testing.assert_array_equal(found.sum(axis=1), none - everything)  # of every order, and of the mean:
    assert abs(values.sum() - (none - everything)) < 1e-9 and none != everything
