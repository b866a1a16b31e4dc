"""Shapley values of blocks: how much of a network's accuracy each is worth, over all orders of losing them.

The worth of a set is the accuracy with the blocks outside it deleted. A block's value is the mean, over all orders in
which the blocks may be lost, of what is lost with it (Shapley 1953). Over orders drawn at random (Castro et al. 2009,
doi 10.1016/j.cor.2008.04.004) the mean is unbiased, and the values of every order sum to what all blocks
are worth together. An order and its reverse are drawn together (antithetic sampling):
what a block is worth early and late balances.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def random_orders(
    rng: np.random.Generator, players: Bool[np.ndarray, ' blocks'], pairs: int
) -> Int[np.ndarray, 'orders players']:
    """Orders of the players' indices, each followed by its reverse."""
    drawn = [rng.permutation(np.flatnonzero(players)) for _ in range(pairs)]
    return np.array([each for order in drawn for each in (order, order[::-1])])


def chains(orders: Int[np.ndarray, 'orders players'], blocks: int) -> Bool[np.ndarray, 'orders steps blocks']:
    """The lesions on the way along each order: of none, of the first, of the first two, … of all players."""
    lesions = np.zeros((len(orders), orders.shape[1] + 1, blocks), bool)
    for order, lesion in zip(orders, lesions, strict=True):
        for step, block in enumerate(order, start=1):
            lesion[step:, block] = True
    return lesions


def marginals(
    worth: Float[np.ndarray, 'orders steps'], orders: Int[np.ndarray, 'orders players'], blocks: int
) -> Float[np.ndarray, 'orders blocks']:
    """What each order loses with each block, in the unit of `worth` along its chain; 0 for who does not play."""
    found = np.zeros((len(orders), blocks))
    np.put_along_axis(found, orders, worth[:, :-1] - worth[:, 1:], axis=1)
    return found


def estimate(found: Float[np.ndarray, 'orders blocks']) -> tuple[np.ndarray, np.ndarray]:
    """Values (blocks,), and their standard errors over the pairs of an order and its reverse (NaN of one pair)."""
    pairs = found.reshape(-1, 2, found.shape[1]).mean(axis=1)
    if len(pairs) == 1:
        return pairs[0], np.full(pairs.shape[1], np.nan)
    return pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
