"""The measurement of the lesion experiment: blocks of a run deleted, recalibrated and applied twice, on its test split.

What is derived from it stands here too: errors in percent, on chosen examples, which are paired over lesions and runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.analysis import lesion, order, shapley
from resnet_jax.analysis.recalibration import can_recalibrate, recalibrated_sweep
from resnet_jax.analysis.sweep import sweep
from resnet_jax.experiment import Measured, by_network
from resnet_jax.models.architecture import Architecture
from resnet_jax.progress import Progress
from resnet_jax.report.findings import Array
from resnet_jax.run import Run


@dataclass(frozen=True, eq=False)
class Sets:
    """Random sets of blocks to delete, each (…, draws, blocks)."""

    counts: np.ndarray  # (counts,): how many together
    without_entry: np.ndarray  # (counts, draws, blocks)
    with_entry: np.ndarray
    stage_counts: np.ndarray
    by_stage: np.ndarray  # (stages, stage_counts, draws, blocks); of no block where a stage has too few


def measure(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """All that is deleted of a run; where no block is within a stage, each block alone."""
    test = list(run.chunks('test'))
    sets = draw_sets(run.network.arch, config)
    found = _deleted(run, test, sets, progress)
    if not config.beyond or not inner_blocks(run.network.arch).any():
        return found
    some = run.examples('test', config.examples)
    found |= _applied_twice(run, test, progress) | _pairs(run, some, progress) | _shapley(run, some, config, progress)
    if can_recalibrate(run.network.arch):
        found |= _recalibrated(run, test, sets, config, progress)
    return found


def measure_beside(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Every block alone: by that, networks are compared."""
    lesions = lesion.single_deletions(run.network.arch)
    return _alone(run.network.arch, *sweep(run.network, run.variables, run.chunks('test'), lesions, progress=progress))


def inner_blocks(arch: Architecture) -> np.ndarray:
    """Which blocks can be deleted and enter no stage."""
    return lesion.deletable(arch) & ~lesion.is_entry(arch)


def draw_sets(arch: Architecture, config: ConfigDict) -> Sets:
    """As many of each kind and count as `config.draws`; counts that the network has not the blocks for are left out."""
    rng, inner = np.random.default_rng(config.seed), inner_blocks(arch)
    counts = [count for count in config.counts if count <= inner.sum()]
    stages = [inner & (np.array(arch.stage_of) == stage) for stage in range(arch.stages)]
    stage_counts = [count for count in config.stage_counts if count <= max(which.sum() for which in stages)]

    def draw(which: np.ndarray, of: Sequence[int]) -> np.ndarray:
        drawn = [
            lesion.random_deletions(rng, which, count if count <= which.sum() else 0, config.draws) for count in of
        ]
        return np.array(drawn, bool).reshape(len(of), config.draws, arch.blocks)

    return Sets(
        np.array(counts, int), draw(inner, counts), draw(lesion.deletable(arch), counts),
        np.array(stage_counts, int), np.stack([draw(which, stage_counts) for which in stages]),
    )  # fmt: skip


def _deleted(run: Run, test: list, sets: Sets, progress: Progress) -> dict[str, Array]:
    """Every block alone, and the sets."""
    arch = run.network.arch
    single = lesion.single_deletions(arch)
    drawn = [sets.without_entry, sets.with_entry, sets.by_stage]
    every = np.concatenate([single, *(each.reshape(-1, arch.blocks) for each in drawn)])
    intact, right = sweep(run.network, run.variables, test, every, progress=progress)
    ends = np.cumsum([len(single), *(each[..., 0].size for each in drawn)])
    right, *errors = np.split(right, ends[:-1])
    without_entry, with_entry, by_stage = (
        error(found).reshape(each.shape[:-1]) for found, each in zip(errors, drawn, strict=True)
    )
    return _alone(arch, intact, right) | {
        'count': Array(sets.counts, ('count',), 'blocks'),
        'error_without_entry': Array(without_entry, ('count', 'draw'), '%'),
        'error_with_entry': Array(with_entry, ('count', 'draw'), '%'),
        'stage_count': Array(sets.stage_counts, ('stage_count',), 'blocks'),
        'error_by_stage': Array(
            np.where(sets.by_stage.any(axis=-1), by_stage, np.nan), ('stage', 'stage_count', 'draw'), '%'
        ),
    }


def _alone(arch: Architecture, intact: np.ndarray, right: np.ndarray) -> dict[str, Array]:
    numbers = np.flatnonzero(lesion.deletable(arch))
    return {
        'block': Array(numbers + 1, ('lesion',), 'number from 1'),
        'is_entry': Array(lesion.is_entry(arch)[numbers], ('lesion',), ''),
        'stage': Array(np.array(arch.stage_of)[numbers] + 1, ('lesion',), 'number from 1'),
        'intact_right': Array(intact, ('example',), ''),
        'single_right': Array(right, ('lesion', 'example'), ''),
    }


def _applied_twice(run: Run, test: list, progress: Progress) -> dict[str, Array]:
    """Each block of a stage's body, one more time behind itself."""
    arch = run.network.arch
    numbers = np.flatnonzero(~lesion.is_entry(arch))
    orders = np.stack([order.repeated(arch, int(number)) for number in numbers])
    right = order.order_sweep(run.network, run.variables, test, orders, progress=progress)
    return {
        'twice_block': Array(numbers + 1, ('twice',), 'number from 1'),
        'twice_right': Array(right, ('twice', 'example'), ''),
    }


def _recalibrated(run: Run, test: list, sets: Sets, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Every block alone and the sets without entry blocks, with BN statistics of training images."""
    arch, size = run.network.arch, config.recalibration_batch
    images, _ = run.examples('train', config.recalibration_batches * size)
    batches = [images[start : start + size] for start in range(0, len(images) - size + 1, size)] or [images]
    none, single = np.zeros((1, arch.blocks), bool), lesion.single_deletions(arch)
    every = np.concatenate([none, single, sets.without_entry.reshape(-1, arch.blocks)])
    right = recalibrated_sweep(run.network, run.variables, batches, test, every, progress=progress)
    several = error(right[1 + len(single) :]).reshape(sets.without_entry.shape[:-1])
    return {
        'fresh_intact_right': Array(right[0], ('example',), ''),
        'fresh_single_right': Array(right[1 : 1 + len(single)], ('lesion', 'example'), ''),
        'fresh_error_without_entry': Array(several, ('count', 'draw'), '%'),
    }


def _pairs(run: Run, some: tuple, progress: Progress) -> dict[str, Array]:
    """Every two blocks, on some examples: the first of the test split."""
    lesions = lesion.pair_deletions(run.network.arch)
    _, right = sweep(run.network, run.variables, [some], lesions, progress=progress)
    pairs = np.nonzero(lesions)[1].reshape(-1, 2)
    return {
        'pair': Array(pairs + 1, ('pair', 'member'), 'number from 1'),
        'pair_right': Array(right, ('pair', 'some_example'), ''),
    }


def _shapley(run: Run, some: tuple, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """What every block is worth, on some examples: all that can be deleted play, entry blocks too."""
    arch, rng = run.network.arch, np.random.default_rng(config.seed)
    orders = shapley.random_orders(rng, lesion.deletable(arch), config.order_pairs)
    chains = shapley.chains(orders, arch.blocks)
    different, where = np.unique(chains.reshape(-1, arch.blocks), axis=0, return_inverse=True)
    _, right = sweep(run.network, run.variables, [some], different, progress=progress)
    worth = 100.0 * right.sum(axis=1)[where.reshape(chains.shape[:-1])] / right.shape[1]
    found = shapley.marginals(worth, orders, arch.blocks)[:, lesion.deletable(arch)]
    return {'shapley': Array(found, ('order', 'lesion'), 'percentage points of accuracy')}


# What is derived


def error(right: np.ndarray) -> np.ndarray:
    """Percent of the examples (last axis) that are not right."""
    return 100 * (1 - right.mean(axis=-1))


def inner(run: Measured) -> np.ndarray:
    """(lesions,): does the deleted block enter no stage?"""
    return ~run['is_entry']


def single_errors(run: Measured) -> np.ndarray:
    """(lesions,): after each deletion, on all examples."""
    return error(run['single_right'])


def increase(run: Measured, which: np.ndarray, chosen: np.ndarray | slice) -> float:
    """By how many points the median error over the single deletions `which` is above the intact network's."""
    return float(np.median(error(run['single_right'][which][:, chosen])) - error(run['intact_right'][chosen]))


def interaction(run: Measured) -> np.ndarray:
    """err(i, j) - err(i) - err(j) + err(), per example: (pairs, some examples), in percent of one example."""
    examples = run['pair_right'].shape[1]
    wrong = 1.0 - run['single_right'][:, :examples]
    first, second = np.searchsorted(run['block'], run['pair']).T
    return 100 * ((1.0 - run['pair_right']) - wrong[first] - wrong[second] + (1.0 - run['intact_right'][:examples]))


def networks(measured: Sequence[Measured]) -> list[Measured]:
    """One run of each network that has blocks to delete within a stage: the main one first, then by depth."""
    others = [runs[0] for runs in by_network(measured[1:]).values() if runs[0].arch != measured[0].arch]
    others = sorted((run for run in others if inner(run).any()), key=lambda run: (run.arch.plain, run.depth))
    return [measured[0], *others]
