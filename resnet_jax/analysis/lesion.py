"""Lesions: what a trained network still does without some of its blocks (Veit et al. 2016, arXiv 1605.06431).

Deleting a block puts its residual gate to 0 and its shortcut gate to 1: y = shortcut(x). A set of lesions is a
boolean array (lesions, blocks), True where the block is deleted. Blocks are numbered from 1 in network order, as
in the paper; in arrays block b stands at index b - 1.
"""

from collections.abc import Iterable
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from resnet_jax.errors import UserError
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.gates import Gates


def deletion(arch: Architecture, blocks: Iterable[int]) -> Bool[np.ndarray, ' blocks']:
    """The lesion that deletes the blocks of these numbers (from 1).

    Raises:
      UserError: there is no such block, or nothing would pass in its place.
    """
    lesion = np.zeros(arch.blocks, bool)
    for number in blocks:
        if not 1 <= number <= arch.blocks:
            raise UserError(f'block {number} does not exist; this network has blocks 1 to {arch.blocks}')
        if not deletable(arch)[number - 1]:
            raise UserError(
                f'block {number} cannot be deleted: it changes the shape and has no shortcut, so nothing would pass; '
                f'blocks that can be: {_ranges(deletable(arch))}'
            )
        lesion[number - 1] = True
    return lesion


def deletable(arch: Architecture) -> Bool[np.ndarray, ' blocks']:
    """Which blocks can be deleted: all, but for those of a plain network that change the shape."""
    return np.array([arch.shortcut != 'none' or agree for agree in arch.shortcut_shapes_agree])


def is_entry(arch: Architecture) -> Bool[np.ndarray, ' blocks']:
    """Which blocks are the first of their stage."""
    return np.isin(np.arange(arch.blocks), arch.entry_blocks)


def single_deletions(arch: Architecture) -> Bool[np.ndarray, 'lesions blocks']:
    """Every lesion of one block, in network order; blocks that cannot be deleted are left out."""
    return np.eye(arch.blocks, dtype=bool)[deletable(arch)]


def pair_deletions(arch: Architecture) -> Bool[np.ndarray, 'lesions blocks']:
    """Every lesion of two blocks, in the order of `itertools.combinations`."""
    pairs = np.array(list(combinations(np.flatnonzero(deletable(arch)), 2)), int).reshape(-1, 2)
    lesions = np.zeros((len(pairs), arch.blocks), bool)
    np.put_along_axis(lesions, pairs, True, axis=1)
    return lesions


def random_deletions(
    rng: np.random.Generator, candidates: Bool[np.ndarray, ' blocks'], count: int, draws: int
) -> Bool[np.ndarray, 'draws blocks']:
    """Lesions of `count` blocks each, drawn uniformly from the candidates without replacement."""
    numbers = np.flatnonzero(candidates)
    if count > len(numbers):
        raise UserError(f'{count} blocks cannot be deleted of {len(numbers)} candidates; delete fewer')
    lesions = np.zeros((draws, len(candidates)), bool)
    for lesion in lesions:
        lesion[rng.choice(numbers, count, replace=False)] = True
    return lesions


def delete(intact: Gates, lesions: Bool[Array, '*batch blocks'] | np.ndarray) -> Gates:
    """The gates of a lesion (blocks,), or of one lesion an example (n, blocks), from the network's intact gates."""
    gone = jnp.moveaxis(jnp.asarray(lesions), -1, 0)
    spread = jax.tree.map(lambda gate: gate.reshape(gate.shape + (1,) * (gone.ndim - 1)), intact)
    ones = jnp.ones(gone.shape, jnp.float32)
    return Gates(
        shortcut=jnp.where(gone, ones, spread.shortcut),
        residual=jnp.where(gone, 0 * ones, spread.residual),
        shortcut_grad=spread.shortcut_grad * ones,
        residual_grad=spread.residual_grad * ones,
    )


def _ranges(which: np.ndarray) -> str:
    """`1-18, 20-36` for the numbers that are True."""
    numbers = np.flatnonzero(which) + 1
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ', '.join(f'{run[0]}-{run[-1]}' if len(run) > 1 else str(run[0]) for run in runs if len(run))
