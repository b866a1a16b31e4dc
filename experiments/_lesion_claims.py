"""The claims of the lesion experiment: what the paper says of deletions, and the statistic that is held against it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from experiments._lesion_measure import Measurement, Singles, error, nearest
from resnet_jax.report.claims import Claim, Interval

PAPER = 'Veit et al. 2016, arXiv 1605.06431'
ABOVE_ZERO = Interval(float(np.nextafter(0, 1)), np.inf)


def claims(measured: Measurement) -> list[Claim]:
    """The claims on deletions that these networks and this dataset can decide."""
    made = _depth_claims(measured) + _shortcut_claims(measured)
    return made if measured.network.plain else _single_claims(measured) + _many_claims(measured) + made


def _single_claims(measured: Measurement) -> list[Claim]:
    """Of one block deleted."""
    network = measured.network
    chance = 100 * (1 - 1 / network.arch.classes)
    inner, entry = partial(network.increase, network.inner), partial(network.increase, network.entry)
    claim = partial(_claim, measured, section='4.1', figure='single_deletions')
    made = [
        claim(
            lambda examples: inner(examples) / (chance - float(error(network.intact[examples]))),
            statement='Deleting any one block but an entry block costs little of what there is to lose',
            quantity='median increase of the error, as a share of the way to chance',
            expected='0.005 (0.4 of 84 points)', accept=Interval(-np.inf, 0.1), form='shape',
        ),
        claim(
            lambda examples: entry(examples) - inner(examples),
            statement='Deleting a block that enters a stage costs more than deleting any other',
            quantity='median error over entry blocks minus that over the others, percentage points',
            expected='42, 12 and 12 % against 6.4 %', accept=ABOVE_ZERO, form='shape',
        ),
    ]  # fmt: skip
    if measured.on_the_papers_data:
        claim = partial(claim, quantity='median increase of the error, percentage points', form='number')
        made += [
            claim(
                inner, statement='Deleting any one block but an entry block hardly changes the error',
                expected='+0.4', accept=Interval(-np.inf, 1.0),
            ),
            claim(
                entry, statement='Deleting an entry block is felt',
                expected='+6 to +36', accept=Interval(5.0, np.inf),
            ),
        ]  # fmt: skip
    return made


def _many_claims(measured: Measurement) -> list[Claim]:
    """Of several blocks deleted together."""
    claim = partial(_claim, measured, section='4.2', figure='many_deletions', draws=measured.without_entry.shape[1])

    def growth(chosen: np.ndarray) -> float:
        medians = np.median(measured.without_entry[:, chosen], axis=1)
        # A constant has no ranks: it does not grow.
        return stats.spearmanr(measured.counts, medians).statistic if np.ptp(medians) else 0.0

    def median(count: int, chosen: np.ndarray) -> float:
        return float(np.median(measured.without_entry[measured.counts == count][0][chosen]))

    made = [
        claim(
            growth, statement='The error grows smoothly with the number of deleted blocks',
            quantity='rank correlation of the median error with k', expected='1 (6.5 % at k=1 to 58 % at k=20)',
            accept=Interval(0.9, 1.0), form='shape',
        )
    ]  # fmt: skip
    if measured.on_the_papers_data:
        made += [
            claim(
                partial(median, count), statement=f'Deleting {count} blocks at random gives the error of the paper',
                quantity='median error, %', expected=f'{expected} %', accept=Interval(low, high), form='number',
            )
            for count, expected, low, high in ((5, 9.4, 7, 14), (10, 19, 12, 30), (20, 57.7, 40, 75))
        ]  # fmt: skip
    return made


def _depth_claims(measured: Measurement) -> list[Claim]:
    """Of networks that differ in depth."""
    if measured.shallow_and_deep is None:
        return []
    shallow, deep = measured.shallow_and_deep
    made = [
        _costs_more(
            measured, shallow, deep, expected='23 against 0.4 (20 and 110 layers)',
            statement=f'Resilience grows with depth: a deletion costs {shallow.name} more than {deep.name}',
        )
    ]  # fmt: skip
    if measured.data == 'cifar10' and shallow.name == 'preact_resnet20':
        made.append(
            _error_without_one(
                measured, shallow, expected='31 %', accept=Interval(15.0, np.inf),
                statement='A shallow residual network is hurt by losing one block (preact_resnet20)',
            )
        )  # fmt: skip
    return made


def _shortcut_claims(measured: Measurement) -> list[Claim]:
    """Of a network without shortcuts."""
    plain = measured.nearest_plain
    if plain is None:
        return []
    made, residual = [], nearest(plain, (each for each in measured.networks if not each.plain))
    if residual:
        made.append(
            _costs_more(
                measured, plain, residual, expected='80 to 90 (VGG) against 0.4',
                statement=f'Without shortcuts a deletion costs more: {plain.name} against {residual.name}',
            )
        )  # fmt: skip
    if measured.data == 'cifar10':
        made.append(
            _error_without_one(
                measured, plain, expected='88 to 98 % (VGG)', accept=Interval(80.0, 100.0),
                statement=f'A plain network ({plain.name}) does not survive losing one layer',
            )
        )  # fmt: skip
    return made


def _costs_more(measured: Measurement, one: Singles, other: Singles, **said: Any) -> Claim:
    """That a deletion costs the one network more than the other."""

    def difference(examples: np.ndarray) -> float:
        return one.increase(one.inner, examples) - other.increase(other.inner, examples)

    return _network_claim(
        measured, difference, quantity='difference of the median increases of the error, percentage points',
        accept=ABOVE_ZERO, form='shape', **said,
    )  # fmt: skip


def _error_without_one(measured: Measurement, network: Singles, **said: Any) -> Claim:
    """How wrong a network is that has lost one block."""
    statistic = partial(network.median_error, network.inner)
    return _network_claim(
        measured, statistic, quantity='median error after deleting one block, %', form='number', **said
    )


def _network_claim(measured: Measurement, statistic: Callable[[np.ndarray], float], **said: Any) -> Claim:
    figure = 'networks' if measured.others else 'single_deletions'
    return _claim(measured, statistic, section='4.1', figure=figure, **said)


def _claim(
    measured: Measurement,
    statistic: Callable[[np.ndarray], float],
    *,
    section: str,
    figure: str,
    draws: int | None = None,
    **said: Any,
) -> Claim:
    """The claim that `said` states, with the statistic of all examples (or draws) as its measured value.

    Args:
      statistic: takes the numbers of the examples (or draws).
      draws: how many there are, where it is draws that are sampled again for the interval, by their percentiles.
    """
    config, network = measured.config, measured.network
    everything = np.arange(draws or len(network.intact))
    resampled = stats.bootstrap(
        (everything,), statistic, vectorized=False, method='percentile', n_resamples=config.resamples,
        confidence_level=config.confidence, rng=np.random.default_rng(config.seed),
    ).confidence_interval  # fmt: skip
    return Claim(
        source=f'{PAPER}, section {section}',
        data=measured.data,
        figure=f'lesion_{figure}',
        n=f'{draws} draws' if draws else f'{len(network.intact)} test images, {len(network.blocks)} blocks',
        measured=float(statistic(everything)),
        interval=Interval(float(resampled.low), float(resampled.high)),
        **said,
    )
