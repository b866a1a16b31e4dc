"""Landscape: do skips smooth the loss surface?

Li, Xu, Taylor, Studer & Goldstein 2018, "Visualizing the loss landscape of neural nets" (arXiv 1712.09913), sections 4
and 6. Around the parameters of trained networks the training loss is evaluated on a square of two random directions,
normalised filter by filter (biases and BN stay where they are), without augmentation, BN's statistics as stored. Over
a coarser grid of the same square the extreme eigenvalues of the Hessian say how far the surface is from convex, as in
the paper's figure 7; at the centre the whole spectrum is estimated. Residual networks are held against plain ones that
are the same but for the shortcuts, seed by seed.

The paper draws one network of each kind; here are three seeds, each with directions of its own, the same for both
kinds. It takes all training images; the cpu tier takes a few hundred.

    resnet-jax experiment landscape
    resnet-jax experiment landscape --run runs/digits      # on a run of yours, beside its plain twin if that is there

What is claimed: _landscape_claims.py, of the quantities in _landscape_quantities.py. Here: what is measured, the short
table, the notes. Figures: _landscape_figures.py.
"""

import itertools
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import _landscape_figures as drawing
from experiments import _landscape_quantities as quantities
from experiments._landscape_claims import claims
from experiments._landscape_quantities import CURVATURE
from experiments._networks import network
from resnet_jax.analysis import hessian, landscape
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.progress import Progress
from resnet_jax.report.findings import Array, Plain
from resnet_jax.run import Run

__all__ = ['TITLE', 'claims', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'The surface of the loss'


def get_config(tier: str) -> ConfigDict:
    """How fine the grids, how many images, and how many steps of the Lanczos method from how many start vectors.

    The paper tier takes hours of an accelerator.
    """
    return ConfigDict(
        {
            'tier': tier,
            'depths': (20, 56),
            'seeds': (0, 1, 2),
            'seed': 0,
            'grid': {'cpu': 11, 'paper': 51}[tier],  # points a side; odd: the network itself is one
            'images': {'cpu': 256, 'paper': 45_000}[tier],
            'hessian_grid': {'cpu': 3, 'paper': 7}[tier],
            'hessian_images': {'cpu': 128, 'paper': 2_000}[tier],
            'batch': {'cpu': 128, 'paper': 500}[tier],
            'steps': {'cpu': 8, 'paper': 20}[tier],  # over the square: extreme eigenvalues alone
            'spectrum_steps': {'cpu': 16, 'paper': 80}[tier],  # at the centre
            'draws': {'cpu': 1, 'paper': 5}[tier],
            'near_zero': 0.01,  # of the largest eigenvalue in size
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """Residual and plain networks of each depth, the deepest first."""
    kinds = [f'{family}{depth}' for depth in sorted(config.depths, reverse=True) for family in ('resnet', 'plain')]
    return [network(config.tier, kind, seed) for kind in kinds for seed in config.seeds]


def measure(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """The surface, the extreme eigenvalues over it, and the spectrum at its centre."""
    key = jax.random.fold_in(jax.random.key(config.seed), run.config.seed)
    first, second, *starts = jax.random.split(key, 2 + config.draws)
    params, share = run.variables['params'], run.network.arch.share
    directions = tuple(landscape.direction(each, params, share) for each in (first, second))
    fine, coarse = (np.linspace(-1, 1, side) for side in (config.grid, config.hessian_grid))

    progress('the surface', 0, 1)
    images, labels, batch = _examples(run, config.images, config.batch)
    losses = landscape.surface(run.network, run.variables, directions, _grid(fine), images, labels, batch=batch)

    points = [landscape.moved(params, directions, point) for point in _grid(coarse)]
    spectra = partial(_spectra, run, config, progress)
    values, _ = spectra('Hessians over the square', [(point, starts[0]) for point in points], config.steps)
    extremes = {
        name: Array(choose.reduce(values, axis=1).reshape(2 * coarse.shape), ('hessian point',) * 2, CURVATURE)
        for name, choose in (('lowest', np.fmin), ('highest', np.fmax))
    }
    values, weights = spectra('the spectrum', [(params, start) for start in starts], config.spectrum_steps)
    return {
        'step': Array(fine, ('point',), 'norms of the filters'),
        'loss': Array(np.asarray(losses).reshape(2 * fine.shape), ('point', 'point'), 'nats'),
        'hessian_step': Array(coarse, ('hessian point',), 'norms of the filters'),
        **extremes,
        'eigenvalue': Array(values, ('draw', 'lanczos step'), CURVATURE),
        'weight': Array(weights, ('draw', 'lanczos step'), 'share of all eigenvalues'),
    }


def _grid(steps: np.ndarray) -> jax.Array:
    """(points, 2): every pair of steps along the two directions."""
    return jnp.asarray(list(itertools.product(steps, steps)), jnp.float32)


def _examples(run: Run, count: int, batch: int) -> tuple[jax.Array, jax.Array, int]:
    """Training images and labels, as many as there are in whole batches, and the size of a batch."""
    images, labels = run.examples('train', count)
    batch = min(batch, len(labels))
    whole = len(labels) - len(labels) % batch
    return images[:whole], labels[:whole], batch


def _spectra(
    run: Run, config: ConfigDict, progress: Progress, what: str, places: Sequence[tuple[dict, jax.Array]], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and their weights, (places, steps) each, at these parameters from the start vectors of these keys."""
    images, labels, batch = _examples(run, config.hessian_images, config.batch)
    found = []
    for done, (params, key) in enumerate(places):
        progress(what, done, len(places))
        found.append(
            hessian.spectrum(
                run.network, {**run.variables, 'params': params}, images, labels, key,
                steps=steps, room=config.spectrum_steps, batch=batch,
            )
        )  # fmt: skip
    values, weights = zip(*found, strict=True)
    return np.stack(values), np.stack(weights)


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The surfaces of the deepest pair; and of every network lines, curvature and spectrum."""
    networks = quantities.shown(measured)
    return {
        'surface': drawing.surfaces(networks[:2]),
        'lines': drawing.lines(networks),
        'curvature': drawing.curvature(networks),
        'spectrum': drawing.spectrum(networks, config.near_zero),
    }


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The short table: medians over seeds."""
    networks = quantities.shown(measured)
    rows = {
        'loss at the centre, nats': quantities.loss_at_centre,
        'rise of the loss over the square, nats': quantities.rise,
        '|λmin / λmax| over the square': quantities.non_convexity,
        f'largest eigenvalue at the centre, {CURVATURE}': quantities.sharpness,
        'eigenvalues near zero, share': partial(quantities.near_zero, width=config.near_zero),
    }
    return {
        name: ', '.join(f'{each.label}: {np.median([of(run) for run in each.runs]):.4g}' for each in networks)
        for name, of in rows.items()
    }


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    said = [
        f'Evaluation mode, stored BN statistics, without augmentation; the first {config.images} training images for '
        f'the surface and {config.hessian_images} for Hessians. Every seed has two directions of its own. '
        f'Eigenvalues by {config.steps} steps of the Lanczos method with full orthogonalisation, at the centre by '
        f'{config.spectrum_steps} (start vectors there: {config.draws}). Over the square: the median over its '
        f'{config.grid} x {config.grid} points (51 x 51 in the paper), for Hessians {config.hessian_grid} x '
        f'{config.hessian_grid}.',
        f'Near zero: at most {config.near_zero} times the largest eigenvalue in size. That bound, and that nearly all '
        "means nine in ten, are this project's, not the paper's. The region has no upper end, since Student's interval "
        'of a share can reach above 1 (with an end at 1 a first measurement was undecided).',
        'Over the square eigenvalues are those of few Lanczos steps: the most negative one is then not wholly found,'
        ' and the surface looks the more convex for it.',
        'Of three seeds all have the sign that a claim says by chance one time in eight.',
        'The largest eigenvalue is not normalised by filters: it depends on their scale, which BN makes arbitrary; '
        'the rise of the loss over the square does not.',
    ]
    untrained = [run for each in quantities.shown(measured) for run in each.runs if not quantities.trained(run)]
    if untrained:
        names = ', '.join(f'{run.title}, seed {run.seed}' for run in untrained)
        said.append(
            'The minima of two kinds of network are compared where all of them are trained: to a loss below half of '
            f"chance's. These were not: {names}. What is said of the surface around them is not said of a minimum."
        )
    if not quantities.twins(measured):
        said.append(
            'What shortcuts do is tested where a network and its plain twin were both measured in three seeds; '
            'without --run they are trained.'
        )
    return said
