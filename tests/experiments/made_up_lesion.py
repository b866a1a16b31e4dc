"""Measurements of lesions, made up: what `experiments/_lesion_measure.py` measures, with given errors."""

import functools

import numpy as np

from configs import default
from resnet_jax import config as configuration
from resnet_jax import experiment, spec
from resnet_jax.analysis.lesion import deletable, is_entry, pair_deletions
from resnet_jax.experiment import Measured
from resnet_jax.models import zoo
from resnet_jax.report.findings import Array

EXAMPLES, DRAWS, SOME = 2000, 40, 500
CONFIG = experiment.find('lesion').get_config('cpu')
CONFIG.update(draws=DRAWS, resamples=200)
# Veit et al. 2016, figure 5: medians for k = 1, 2, 3, 5, 7, 10, 12, 15, 18, 20.
PAPER = (6.5, 7.0, 7.7, 9.4, 11.2, 19.0, 24.9, 33.2, 51.7, 57.7)


def made(
    depth=110, block='preact_resnet', shortcut='A', *, data='digits', intact=6.0, inner=6.4, entry=40.0, twice=6.4,
    seed=0, medians=None, fresh=None, spread=0.2, together=0.5, between=None, worth=1.0, entry_worth=20.0, noise=0.1,
) -> Measured:  # fmt: skip
    """A run with errors of these percentages. Some examples are harder than others, for every network.

    `together`, `between`: the interaction of two blocks of one stage and of two, in points; `worth`: of blocks.
    """
    config = run_config(depth, block, shortcut, data, seed)
    arch, title = spec.architecture(config), configuration.title(config.network)
    which = deletable(arch)
    enters, numbers = is_entry(arch)[which], np.flatnonzero(which)
    rng, counts = np.random.default_rng(0), np.array(CONFIG.counts)
    several = about(PAPER if medians is None else medians, spread)
    fresh = several - 0.1 if fresh is None else about(fresh, spread)
    errors = np.where(enters, entry, inner)
    pairs = np.nonzero(pair_deletions(arch))[1].reshape(-1, 2)
    stages = np.array(arch.stage_of)
    alike = stages[pairs[:, 0]] == stages[pairs[:, 1]]
    alone = [errors[np.searchsorted(numbers, member)] for member in pairs.T]
    both = sum(alone) - intact + np.where(alike, together, together if between is None else between)
    orders = rng.normal(np.where(enters, entry_worth, worth), noise, (16, len(numbers)))
    bodies = np.flatnonzero(~is_entry(arch))
    arrays = {
        'block': (numbers + 1, 'lesion'), 'is_entry': (enters, 'lesion'),
        'stage': (stages[numbers] + 1, 'lesion'),
        'intact_right': (right(intact), 'example'),
        'single_right': (np.stack([right(each) for each in errors]), 'lesion example'),
        'count': (counts, 'count'), 'error_without_entry': (several, 'count draw'),
        'error_with_entry': (np.minimum(100, 2 * several), 'count draw'),
        'stage_count': (np.array(CONFIG.stage_counts), 'stage_count'),
        'error_by_stage': (np.full((arch.stages, len(CONFIG.stage_counts), DRAWS), 9.0), 'stage stage_count draw'),
        'twice_block': (bodies + 1, 'twice'), 'twice_right': (np.stack([right(twice)] * len(bodies)), 'twice example'),
        'fresh_intact_right': (right(intact), 'example'),
        'fresh_single_right': (np.stack([right(each) for each in errors]), 'lesion example'),
        'fresh_error_without_entry': (fresh, 'count draw'),
        'pair': (pairs + 1, 'pair member'),
        'pair_right': (np.stack([right(e)[:SOME] for e in both]), 'pair some_example'),
        'shapley': (orders, 'order lesion'),
    }  # fmt: skip
    return Measured(
        config, title, 330, {name: Array(each, tuple(axes.split()), '') for name, (each, axes) in arrays.items()}
    )


def about(medians, spread):
    """Draws about these medians."""
    return np.asarray(medians)[:, None] + spread * np.random.default_rng(0).normal(size=(len(medians), DRAWS))


@functools.cache
def run_config(depth, family, shortcut, data, seed):
    config = default.get_config()
    config.network.update(zoo.settings(f'{family}{depth}'))
    config.network.shortcut, config.data.dataset = shortcut, data
    config.seed = seed
    return config


def right(percent):
    """All examples but the hardest, of which there are this many percent; among the first SOME as among all."""
    ranks = np.arange(EXAMPLES).reshape(SOME, -1).T.ravel()
    return ranks >= round(EXAMPLES * percent / 100)
