"""Which of the measured runs can be compared: with shortcuts and without, and by depth."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from experiments._lesion_measure import names
from resnet_jax.experiment import Measured, by_network
from resnet_jax.report.claims import Interval

ABOVE_ZERO = Interval(float(np.nextafter(0, 1)), np.inf)

Pairs = list[tuple[Measured, Measured]]
Networks = dict[str, list[Measured]]  # a short name -> the seeds


def twins(measured: Sequence[Measured]) -> dict[int, Pairs]:
    """Depth -> (residual, plain) of each seed: networks that differ in the shortcut alone."""
    plain = {(run.arch, run.seed): run for run in measured if run.arch.plain}
    found: dict[int, Pairs] = {}
    for run in sorted(measured, key=lambda run: (run.depth, run.seed)):
        twin = plain.get((replace(run.arch, shortcut='none'), run.seed))
        if twin is not None and not run.arch.plain:
            found.setdefault(run.depth, []).append((run, twin))
    return found


def neighbours(measured: Sequence[Measured]) -> dict[tuple[int, int], Pairs]:
    """(Depth, next greater depth) -> (shallow, deep) of each seed: residual networks with a plain twin."""
    by_depth = {depth: {run.seed: run for run, _ in pairs} for depth, pairs in twins(measured).items()}
    found = {}
    for shallow, deep in pairwise(sorted(by_depth)):
        seeds = sorted(by_depth[shallow].keys() & by_depth[deep].keys())
        found[shallow, deep] = [(by_depth[shallow][seed], by_depth[deep][seed]) for seed in seeds]
    return {depths: pairs for depths, pairs in found.items() if pairs}


def networks(measured: Sequence[Measured]) -> Networks:
    """The seeds of each network, the deepest first."""
    found = sorted(by_network(measured).values(), key=lambda runs: -runs[0].depth)
    return dict(zip(names([runs[0] for runs in found]), found, strict=True))


def has_body(run: Measured) -> bool:
    """Has any stage more than its entry block?"""
    return max(run.arch.stage_blocks) > 1
