"""Lesions: what a trained network still does without some of its blocks (Veit et al. 2016, arXiv 1605.06431).

Deleting a block puts its residual gate to 0 and its shortcut gate to 1: y = shortcut(x). A set of lesions is a
boolean array (lesions, blocks), True where the block is deleted. Blocks are numbered from 1 in network order, as
in the paper; in arrays block b stands at index b - 1.
"""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from resnet_jax.errors import UserError
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.suffix import block_inputs, enter_body, enter_stage
from resnet_jax.progress import Progress, silent
from resnet_jax.spec import Architecture


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


def sweep(
    network: ResNet,
    variables: dict,
    parts: Iterable[tuple[Float[Array, 'n h w c'], Int[Array, ' n']]],
    lesions: Bool[np.ndarray, 'lesions blocks'],
    *,
    progress: Progress = silent,
) -> tuple[Bool[np.ndarray, ' examples'], Bool[np.ndarray, 'lesions examples']]:
    """Which examples the network classifies rightly: intact, and after each lesion.

    Every lesion is entered at its first deleted block, from the intact network's input there: a sweep of all
    single deletions costs half the blocks of as many whole networks. Lesions are data: a stage is compiled
    once, whatever is deleted.

    Args:
      parts: the examples, a chunk after the other (images as the network takes them, and labels).
      progress: hears of lesions done, over all chunks.

    Returns:
      Intact, and by lesion.
    """
    parts = list(parts)
    gates = [delete(network.intact_gates(), lesion) for lesion in lesions]
    entries = [_entry_point(network.arch, lesion) for lesion in lesions]
    intact, by_lesion, done, total = [], [], 0, len(lesions) * len(parts)
    for images, labels in parts:
        right, inputs = _intact(network, variables, images, labels)
        intact.append(right)
        rows = []
        for lesion_gates, (stage, start) in zip(gates, entries, strict=True):
            rows.append(_lesioned(network, variables, inputs[stage], start, lesion_gates, labels, stage=stage,
                                  at_entry=start == network.arch.entry_blocks[stage]))  # fmt: skip
            done += 1
            if done % 16 == 0 or done == total:
                rows[-1].block_until_ready()
                progress('deleting blocks', done, total)
        by_lesion.append(np.array(jax.device_get(rows)).reshape(len(lesions), len(labels)))
    return np.concatenate(jax.device_get(intact)), np.concatenate(by_lesion, axis=1)


def _entry_point(arch: Architecture, lesion: np.ndarray) -> tuple[int, int]:
    """The stage and the index of the first deleted block; the last block for a lesion of none."""
    start = int(np.argmax(lesion)) if lesion.any() else arch.blocks - 1
    return int(np.searchsorted(arch.entry_blocks, start, side='right')) - 1, start


@partial(jax.jit, static_argnames='network')
def _intact(network, variables, images, labels):
    logits, inputs = block_inputs(network, variables, images)
    return jnp.argmax(logits, axis=-1) == labels, inputs


@partial(jax.jit, static_argnames=('network', 'stage', 'at_entry'))
def _lesioned(network, variables, inputs, start, gates, labels, *, stage: int, at_entry: bool):
    logits = lesioned_logits(network, variables, inputs, start, gates, stage=stage, at_entry=at_entry)
    return jnp.argmax(logits, axis=-1) == labels


def lesioned_logits(
    network: ResNet, variables: dict, inputs: dict, start: Int[Array, ''], gates: Gates, *, stage: int, at_entry: bool
) -> Float[Array, 'n classes']:
    """The logits under `gates`, entered at block `start` of `stage` with what `block_inputs` keeps of that stage."""
    if at_entry:
        return enter_stage(network, variables, stage, inputs['entry'], gates)
    x = inputs['body'][start - network.arch.entry_blocks[stage] - 1]
    return enter_body(network, variables, stage, x, start, gates)


def _ranges(which: np.ndarray) -> str:
    """`1-18, 20-36` for the numbers that are True."""
    numbers = np.flatnonzero(which) + 1
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ', '.join(f'{run[0]}-{run[-1]}' if len(run) > 1 else str(run[0]) for run in runs if len(run))
