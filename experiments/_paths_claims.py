"""The claims of the paths experiment, and the statistics that are held against them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments import _veit
from resnet_jax import spec
from resnet_jax.analysis.paths import mean_length, shares
from resnet_jax.experiment import Measured
from resnet_jax.report.claims import Claim, Form, Interval
from resnet_jax.report.intervals import bootstrap, over_seeds

PAPER = f'{_veit.PAPER}, section 5'
BELOW_HALF = Interval(0.0, float(np.nextafter(0.5, 0)))


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Of the main run's paths, and of the networks trained with a subset of their blocks."""
    return _path_claims(measured[0], config) + _training_claims(pairs(measured))


def _path_claims(main: Measured, config: ConfigDict) -> list[Claim]:
    blocks, on_the_papers = main.arch.blocks, _veit.is_theirs(main)
    claim = partial(_claim, main, config)
    made = [
        claim(
            lambda examples: linearity(main['path_norm_image'][:, examples]), figure='norms',
            statement='The norm of the gradient along a path falls exponentially with its length',
            quantity='R² of log mean norm against length, negative where it grows', expected='linear (figure 6b)',
            accept=Interval(0.95, 1.0), form='number' if on_the_papers else 'shape',
        ),
        claim(
            lambda examples: mean_length(contributions(main, 'path_norm', 'image', examples)) / blocks,
            statement='The paths that bring the gradient are on the mean shorter than paths are',
            quantity='mean length, weighted by number of paths x mean norm, as a share of the blocks',
            expected='0.1 to 0.3 (5 to 17 of 54 blocks)', accept=BELOW_HALF,
        ),
        claim(
            lambda examples: mean_length(contributions(main, 'sum_norm', 'image', examples)) / blocks,
            statement='Short paths bring most of the gradient by the exact sums, in which paths of a length may cancel',
            source='this project, beyond section 5 of Veit et al. 2016',
            quantity='mean length, weighted by the norm of the sum of all paths, as a share of the blocks',
            expected='below 0.5', accept=BELOW_HALF, kind='sum_norm',
        ),
    ]  # fmt: skip
    if on_the_papers:
        made.append(
            claim(
                lambda examples: float(np.argmax(contributions(main, 'path_norm', 'image', examples))), form='number',
                statement='The paths that contribute most go through 5 to 17 of 54 blocks',
                quantity='length at which number of paths x mean norm is largest, blocks', expected='5 to 17',
                accept=Interval(5, 17),
            )
        )  # fmt: skip
    return made


def _training_claims(trained: list[tuple[Measured, Measured]]) -> list[Claim]:
    if not trained:
        return []
    (whole, subset), *_ = trained
    active, blocks = active_blocks(subset), subset.arch.blocks
    value, interval = over_seeds([float(subset['test_error'] - whole['test_error']) for whole, subset in trained])
    on_the_papers = _veit.is_theirs(whole) and active == 23
    return [
        Claim(
            statement=f'Training with {active} random blocks of {blocks} a batch gives no worse a network',
            quantity='difference of the test errors, subset minus whole, mean over seeds, percentage points',
            expected='-0.14 (5.96 against 6.10 %), not significant', accept=Interval(-np.inf, 1.0),
            form='number' if on_the_papers else 'shape', source=PAPER, measured=value, interval=interval,
            n=f'{len(trained)} seeds', data=whole.data, figure='paths_training',
        )
    ]  # fmt: skip


def _claim(
    main: Measured,
    config: ConfigDict,
    statistic: Callable[[np.ndarray], float],
    *,
    form: Form = 'shape',
    source: str = PAPER,
    figure: str = 'contributions',
    kind: str = 'path_norm',
    **said,
) -> Claim:
    """Of the examples of that kind of norm, which are sampled again for the interval."""
    count = main[f'{kind}_image'].shape[1]
    value, interval = bootstrap(statistic, count, config)
    return Claim(measured=value, interval=interval, source=source, form=form, n=f'{count} training images',
                 data=main.data, figure=f'paths_{figure}', **said)  # fmt: skip


def contributions(main: Measured, kind: str, place: str, examples: np.ndarray | slice = slice(None)) -> np.ndarray:
    """What each length brings of the gradient by a place (image, first_block), (lengths,), as shares of their sum.

    Args:
      kind: path_norm, the number of paths times their mean norm, as in the paper; sum_norm, the norm of their sum.
    """
    mean = main[f'{kind}_{place}'][:, examples].mean(axis=1)
    weights = mean * shares(main.arch.blocks) if kind == 'path_norm' else mean
    return weights / weights.sum()


def linearity(norms: np.ndarray) -> float:
    """R² of the regression of the log mean norm (of (lengths, examples)) on the length, negative if it rises."""
    lengths, logs = _log_means(norms)
    if not np.ptp(logs):  # a constant does not fall
        return 0.0
    r = stats.linregress(lengths, logs).rvalue
    return float(-np.sign(r) * r**2)


def fitted(norms: np.ndarray) -> tuple[np.ndarray, float]:
    """By the same regression: the norm at every length, and by what each further block multiplies it."""
    line = stats.linregress(*_log_means(norms))
    return 10 ** (line.intercept + line.slope * np.arange(len(norms))), float(10**line.slope)


def _log_means(norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the lengths along which anything came back that float32 holds: hundreds of blocks leave nothing."""
    mean = norms.mean(axis=1)
    lengths = np.flatnonzero(mean)
    return lengths, np.log10(mean[lengths])


def active_blocks(trained: Measured) -> int:
    """Through how many blocks each batch of its training went; 0: through all."""
    return trained.config.train.active_blocks if trained.config else 0


def pairs(measured: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    """(trained whole, trained with a subset of the blocks a batch), alike but for that; by seed."""

    def rest(each: Measured) -> dict:
        return {key: value for key, value in spec.definition(each.config).items() if key != 'train.active_blocks'}

    wholes = [each for each in measured if not active_blocks(each)]
    subsets = sorted((each for each in measured if active_blocks(each)), key=lambda each: each.seed)
    return [(whole, subset) for subset in subsets for whole in wholes if rest(whole) == rest(subset)]
