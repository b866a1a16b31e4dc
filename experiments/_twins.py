"""Which of the measured runs can be compared: with shortcuts and without, and by depth."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from experiments._networks import alike, names, paired
from resnet_jax.experiment import Measured, by_network

Pairs = list[tuple[Measured, ...]]
Networks = dict[str, list[Measured]]  # a short name -> the seeds


def twins(measured: Sequence[Measured]) -> dict[int, Pairs]:
    """Depth -> (residual, plain) of each seed: they differ in the shortcut alone, and from depth to depth in depth."""
    plain = {(run.arch, run.seed): run for run in measured if run.arch.plain}
    both = [
        (run, twin) for run in measured
        if not run.arch.plain and (twin := plain.get((replace(run.arch, shortcut='none'), run.seed)))
    ]  # fmt: skip
    found: dict[int, Pairs] = {}
    for run, twin in sorted(both, key=lambda pair: (pair[0].depth, pair[0].seed)):
        if run.arch in alike([both[0][0].arch, run.arch], 'stage_blocks'):
            found.setdefault(run.depth, []).append((run, twin))
    return found


def neighbours(measured: Sequence[Measured]) -> dict[tuple[int, int], Pairs]:
    """(Depth, next greater depth) -> (shallow, deep) of each seed: residual networks with a plain twin."""
    by_depth = {depth: [run for run, _ in pairs] for depth, pairs in twins(measured).items()}
    found = {depths: paired(*(by_depth[depth] for depth in depths)) for depths in pairwise(sorted(by_depth))}
    return {depths: pairs for depths, pairs in found.items() if pairs}


def networks(measured: Sequence[Measured]) -> Networks:
    """The seeds of each network, the deepest first."""
    found = sorted(by_network(measured).values(), key=lambda runs: -runs[0].depth)
    return dict(zip(names([runs[0] for runs in found]), found, strict=True))


def has_body(run: Measured) -> bool:
    """Has any stage more than its entry block?"""
    return max(run.arch.stage_blocks) > 1
