"""The trained networks that experiments share: one recipe a tier, so that what is compared was trained alike."""

from collections.abc import Sequence
from dataclasses import replace

from ml_collections import ConfigDict

from resnet_jax import config as configuration
from resnet_jax.experiment import Measured
from resnet_jax.models import zoo
from resnet_jax.models.architecture import Architecture

SNAPSHOTS = {'cpu': (0, 33, 110, 330), 'paper': (0, 400, 4_000, 32_000, 64_000)}


def recipe(tier: str) -> ConfigDict:
    """How every network is trained.

    cpu: digits, 330 steps of 128 (33 epochs; 158 images held out leave 1,280). paper: CIFAR-10
    by He et al. 2016 (arXiv 1603.05027): 64,000 steps after 400 of warm-up, whatever the depth; 5,000 images held out.
    """
    if tier == 'cpu':
        config = configuration.load('configs/digits.py:resnet20')
        config.data.selection = 158
        config.run.update(log_every=10, eval_every=110, save_every=110, tensorboard=False)
    else:
        config = configuration.load('configs/cifar10.py:resnet110')
        config.data.selection = 5_000
        config.run.update(tensorboard=False)
    config.run.snapshots = SNAPSHOTS[tier]
    return config


def network(tier: str, name: str, seed: int = 0, **settings) -> ConfigDict:
    """The recipe with the named network, in the cpu tier half as wide; `settings` are keys of `network`."""
    config = recipe(tier)
    config.network.update(zoo.settings(name))
    if tier == 'cpu':
        config.network.stem_width //= 2
        config.network.widths = tuple(width // 2 for width in config.network.widths)
    config.network.update(settings)
    config.seed = seed
    return config


def alike(architectures: Sequence[Architecture], *fields: str) -> list[Architecture]:
    """Those that differ from the first one in these fields alone, if at all."""
    first = architectures[0]
    same = {field: getattr(first, field) for field in fields}
    return [arch for arch in architectures if replace(arch, **same) == first]


def paired(*groups: Sequence[Measured]) -> list[tuple[Measured, ...]]:
    """A row for each of the seeds that all groups have: its run of every group."""
    by_seed = [{run.seed: run for run in runs} for runs in groups]
    return [tuple(runs[seed] for runs in by_seed) for seed in sorted(set.intersection(*map(set, by_seed)))]


def names(runs: Sequence[Measured]) -> list[str]:
    """A short name for each network; the long ones where two short ones are the same."""
    short = [
        ' '.join(['preact'] * run.arch.preactivated + ['plain' if run.arch.plain else 'ResNet', str(run.depth)])
        for run in runs
    ]
    return short if len(set(short)) == len(short) else [run.title for run in runs]
