"""What a sweep is about to cost."""

import statistics
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.config import changed
from resnet_jax.cores import cores
from resnet_jax.models import counts
from resnet_jax.runtime import result

SHARE = 0.2  # of what a product of matrices reaches, that a training step does
SIDE = 1024  # of these matrices
TIMES = 10  # that they are multiplied; the quickest counts
PASSES = 3  # of a step, in forward passes: the backward one costs two


def work(config: ConfigDict) -> float:
    """The operations of a whole training, two a multiply-add."""
    arch = spec.architecture(config)
    images = config.train.batch_size * config.run.steps * len(spec.seeds(config))
    return 2.0 * PASSES * counts.multiply_adds(arch) * images


def rate(finished: Iterable[tuple[Path, ConfigDict]]) -> tuple[float, str]:
    """Operations a second of one run, and where that is known from: runs that are finished, or else this machine.

    Args:
      finished: directories and configs of runs, of which some may have a result.
    """
    measured = []
    for run_dir, config in finished:
        seeds = spec.seeds(config)
        for seed in seeds:  # which were trained together, each in a directory of its own
            own = changed(config, {'seed': seed, 'train.seeds': 1})
            numbers = result.read(run_dir / f'seed{seed}' if len(seeds) > 1 else run_dir, spec.identity(own))
            if numbers and numbers.get('seconds'):
                measured.append(work(config) / numbers['seconds'])  # pyright: ignore[reportOperatorIssue]
    if measured:
        return statistics.median(measured), f'as the {len(measured)} finished runs took'
    return SHARE * _products() / len(cores()), 'a guess: a fifth of what products of matrices reach here'


def _products() -> float:
    """Operations a second of float32 products, on all cores, undisturbed."""
    one, taken = np.ones((SIDE, SIDE), np.float32), []
    for _ in range(TIMES):
        since = time.perf_counter()
        np.matmul(one, one)
        taken.append(time.perf_counter() - since)
    return 2 * SIDE**3 / min(taken)
