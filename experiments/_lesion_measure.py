"""The measurement of the lesion experiment: blocks deleted one by one and many together, on the test split."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.analysis import lesion
from resnet_jax.errors import UserError
from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.progress import Progress
from resnet_jax.run import Run


@dataclass(frozen=True, eq=False)
class Singles:
    """One network's single deletions. Errors are in percent; examples are paired over all lesions and networks."""

    name: str
    arch: Architecture
    blocks: np.ndarray  # (lesions,): number of the deleted block
    entry: np.ndarray  # (lesions,): does it enter a stage?
    intact: np.ndarray  # (examples,): right with all blocks
    right: np.ndarray  # (lesions, examples): right without that block

    @property
    def plain(self) -> bool:
        return self.arch.plain

    @property
    def depth(self) -> int:
        return counts.depth(self.arch)

    @property
    def inner(self) -> np.ndarray:
        """(lesions,): does the deleted block enter no stage?"""
        return ~self.entry

    @property
    def errors(self) -> np.ndarray:
        """(lesions,): after each deletion, on all examples."""
        return error(self.right)

    def median_error(self, which: np.ndarray, examples: np.ndarray) -> float:
        """Median over the lesions `which` (bool) of the error on these examples (numbers)."""
        return float(np.median(error(self.right[which][:, examples])))

    def increase(self, which: np.ndarray, examples: np.ndarray) -> float:
        """By how many percentage points `median_error` is above the intact network's error."""
        return self.median_error(which, examples) - float(error(self.intact[examples]))


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is measured on a run, and the single deletions of the runs beside it."""

    data: str
    config: ConfigDict
    network: Singles
    others: tuple[Singles, ...]
    counts: np.ndarray  # (counts,): blocks deleted together
    without_entry: np.ndarray  # (counts, draws): errors, entry blocks never deleted
    with_entry: np.ndarray  # (counts, draws): errors, any block deleted

    @property
    def networks(self) -> tuple[Singles, ...]:
        return self.network, *self.others

    @property
    def on_the_papers_data(self) -> bool:
        return (self.data, self.network.name) == ('cifar10', 'preact_resnet110')

    @property
    def shallow_and_deep(self) -> tuple[Singles, Singles] | None:
        """The networks of least and greatest depth that are otherwise of this network's kind, where there are two."""

        def kind(network: Singles) -> Architecture:
            return dataclasses.replace(network.arch, stage_blocks=())

        alike = [each for each in self.networks if kind(each) == kind(self.network)]
        alike = sorted(alike, key=lambda each: each.depth)
        return (alike[0], alike[-1]) if len(alike) > 1 and not self.network.plain else None

    @property
    def nearest_plain(self) -> Singles | None:
        """The plain network nearest to this one in depth and kind of block, where there is one."""
        return nearest(self.network, (each for each in self.networks if each.plain))


def error(right: np.ndarray) -> np.ndarray:
    """Percent of the examples (last axis) that are not right."""
    return 100 * (1 - right.mean(axis=-1))


def nearest(network: Singles, among: Iterable[Singles]) -> Singles | None:
    """Which of these is nearest to a network in depth, then in its kind of block; None of none."""

    def distance(other: Singles) -> tuple:
        kinds = [(each.arch.block, each.arch.placement) for each in (network, other)]
        return abs(other.depth - network.depth), kinds[0] != kinds[1]

    return min(among, key=distance, default=None)


def measure(run: Run, others: Sequence[Run], config: ConfigDict, progress: Progress) -> Measurement:
    """Deletes blocks of a trained run, one and many, and of the others one, on the test split.

    Raises:
      UserError: all blocks of the run enter a stage.
    """
    arch, rng = run.network.arch, np.random.default_rng(config.seed)
    candidates, inner = lesion.deletable(arch), _inner_blocks(arch)
    if not inner.any():
        raise UserError(f'all blocks of {run.path} enter a stage; lesions need a network of 14 layers or more')
    others = [other for other in others if _inner_blocks(other.network.arch).any()]
    counts = [count for count in config.counts if count <= inner.sum()]
    sets = [
        lesion.random_deletions(rng, which, count, config.draws) for which in (inner, candidates) for count in counts
    ]
    network, right = _sweep(run, np.concatenate(sets), progress)
    without_entry, with_entry = error(right).reshape(2, len(counts), config.draws)
    return Measurement(
        data=run.config.data.dataset,
        config=config,
        network=network,
        others=tuple(_sweep(other, np.zeros((0, other.network.arch.blocks), bool), progress)[0] for other in others),
        counts=np.array(counts),
        without_entry=without_entry,
        with_entry=with_entry,
    )


def _inner_blocks(arch: Architecture) -> np.ndarray:
    """Which blocks can be deleted and enter no stage."""
    return lesion.deletable(arch) & ~lesion.is_entry(arch)


def _sweep(run: Run, more: np.ndarray, progress: Progress) -> tuple[Singles, np.ndarray]:
    """Every single deletion of a run, and which examples are right after each of `more` lesions."""
    arch = run.network.arch
    single = lesion.single_deletions(arch)
    deleted = np.concatenate([single, more])
    intact, right = lesion.sweep(run.network, run.variables, run.chunks('test'), deleted, progress=progress)
    numbers = np.flatnonzero(lesion.deletable(arch))
    singles = Singles(
        name=run.title,
        arch=arch,
        blocks=numbers + 1,
        entry=lesion.is_entry(arch)[numbers],
        intact=intact,
        right=right[: len(single)],
    )
    return singles, right[len(single) :]
