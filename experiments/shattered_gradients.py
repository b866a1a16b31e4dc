"""Shattered gradients: do the gradients of plain networks turn into white noise with depth?

Balduzzi et al. 2017, "The shattered gradients problem" (arXiv 1702.08591). Untrained networks R -> R
of width 200: df/dx at 256 points on [-2, 2], and its autocorrelation, mean over 20 draws of weights, held against that
of white noise and of brown noise (expectations, computed). Feed-forward, mean-centred, with BN; residual, without BN
and with it, β = 1 and 0.1; with looks-linear weights. Then the correlation of gradients at independent inputs of 1000
dimensions against 2^-L, (3/4)^L and the product over the layers. Last, which the paper has not: the library's own
networks, plain and residual, before training, on lines between two images. Nothing is trained.

    resnet-jax experiment shattered_gradients

How it is measured: _shattered_measure.py. What is claimed: _shattered_claims.py. The figures: _shattered_figures.py.
"""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments._shattered_claims import at_lag, claims
from experiments._shattered_figures import figures
from experiments._shattered_measure import measure
from resnet_jax.experiment import Measured
from resnet_jax.report.findings import Plain

__all__ = ['TITLE', 'claims', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'Shattered gradients'


def get_config(tier: str) -> ConfigDict:
    """How much is measured: the paper's own grid in both tiers."""
    return ConfigDict(
        {
            'tier': tier,
            'seed': 0,
            'width': 200,
            'points': 256,
            'draws': 20,
            'linear_draws': 3,  # of looks-linear networks
            'depths': (2, 4, 10, 24, 50),  # shown, of all from 1 to the last
            'lags': 21,  # from 0
            'sparse': 4,  # every so many points of a covariance are kept
            'wide': 1000,
            'inputs': 128,
            'wide_draws': {'cpu': 4, 'paper': 20}[tier],
            'shallow': 10,  # layers, of the kinds that lose their correlation fast
            'line_depths': (8, 20, 56),
            'line_draws': {'cpu': 10, 'paper': 20}[tier],
            'line_batch': 256,  # images that BN takes its statistics from
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """Needs no trained network."""
    return []


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The autocorrelation at lag 1, mean over draws, by kind and depth."""
    (one,) = measured

    def listed(values: dict[int, float]) -> str:
        return ', '.join(f'{value:.2f} ({depth} layers)' for depth, value in values.items())

    table: dict[str, Plain] = {
        f'lag 1, {kind}': listed({depth: at_lag(one, kind, depth).mean() for depth in one['depth'].tolist()})
        for kind in one['kind'].tolist()
    }
    for place, family in enumerate(('plain', 'residual')):
        means = one['line_autocorrelation'][:, place, :, 1].mean(axis=1)
        table[f'lag 1, {family}, on lines between images'] = listed(
            dict(zip(one['line_depth'].tolist(), means, strict=True))
        )
    return table | {'lag 1, brown noise': f'{one["brown"][1]:.2f}', 'lag 1, white noise': f'{one["white"][1]:.2f}'}


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    (one,) = measured
    return [
        'The statistics of centring and BN are those of all inputs, and constants to the derivative. A network of '
        'depth L has L ReLUs, of which L - 1 are in blocks where it is residual. Biases: the first layer has an input '
        'that is always 1 beside x; without centring, the curve depends on how strong it is.',
        f"Intervals: Student's t over {config.draws} draws on the grid, {config.wide_draws} at independent inputs, "
        f'{config.line_draws} on lines. Noise: exact expectations of the autocorrelation of {config.points} points.',
        'Numbers of the autocorrelation, and its tolerance of 0.1, are of an independent computation of the same '
        'protocol, for the paper only plots them. Correlations must agree within 20 % or 0.01. That twice 2^-L is too '
        'much, half of brown noise too little, and a slope within 0.1 of -1/2 are bounds of this project.',
        'Theorems on correlation assume that two units let a quarter of pairs of inputs through both. That holds where '
        'they are centred; without, it drifts towards a half, and more correlation is left.',
        f'The product R takes the variance of the stream to grow by β² a layer. BN divides by the deviation about the '
        f'mean, and of that, only {1 - 1 / np.pi:.2f} β² is added; both products are tested.',
        f'Lines: {config.points} points between two images of {one["line_data"]}; the first logit of untrained '
        f'networks; BN by the statistics of {config.line_batch} training images, as at the first step of training.',
    ]
