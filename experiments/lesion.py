"""Lesion: does a residual network survive losing any one of its blocks, and how many?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks"
(arXiv 1605.06431), sections 4.1 and 4.2. A trained network loses blocks at test time, y <- shortcut(x), with
nothing trained again and BN's statistics as stored: each block alone, then random sets of k blocks. Blocks that
enter a stage change the shape and are told apart. A plain network is measured alike where shapes agree.

    resnet-jax experiment lesion --run runs/digits
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from scipy import stats

from resnet_jax.analysis import lesion
from resnet_jax.progress import Progress
from resnet_jax.report import figures as style
from resnet_jax.report.claims import Claim, Interval
from resnet_jax.report.findings import Array
from resnet_jax.run import Run

TITLE = 'Losing blocks'
PAPER = 'Veit et al. 2016, arXiv 1605.06431'
ABOVE_ZERO = Interval(float(np.nextafter(0, 1)), np.inf)


def get_config(tier: str) -> ConfigDict:
    """How many blocks are deleted together, and how many draws of each."""
    return ConfigDict(
        {
            'counts': (1, 2, 3, 5, 7, 10, 12, 15, 18, 20),
            'draws': {'cpu': 20, 'paper': 100}[tier],
            'seed': 0,
            'resamples': 2000,
            'confidence': 0.95,
        }
    )


@dataclass(frozen=True)
class Measurement:
    """Which test examples stay right. Errors in percent; examples are paired over all lesions."""

    data: str
    plain: bool  # no shortcuts
    depth: int
    config: ConfigDict
    blocks: np.ndarray  # (single,): number of the deleted block
    entry: np.ndarray  # (single,): does it enter a stage?
    intact: np.ndarray  # (examples,): right with all blocks
    single: np.ndarray  # (single, examples): right without that block
    counts: np.ndarray  # (counts,): blocks deleted together
    without_entry: np.ndarray  # (counts, draws): errors, entry blocks never deleted
    with_entry: np.ndarray  # (counts, draws): errors, any block deleted

    @property
    def base_error(self) -> float:
        return float(error(self.intact))

    @property
    def single_errors(self) -> np.ndarray:
        return error(self.single)


def error(right: np.ndarray) -> np.ndarray:
    """Percent of the examples (last axis) that are not right."""
    return 100 * (1 - right.mean(axis=-1))


def measure(run: Run, config: ConfigDict, progress: Progress) -> Measurement:
    """Deletes blocks of one trained run, on its test split."""
    arch, rng = run.network.arch, np.random.default_rng(config.seed)
    candidates = lesion.deletable(arch)
    inner = candidates & ~lesion.is_entry(arch)
    counts = [count for count in config.counts if count <= inner.sum()]
    single = lesion.single_deletions(arch)
    random = [
        lesion.random_deletions(rng, which, count, config.draws) for which in (inner, candidates) for count in counts
    ]
    intact, right = lesion.sweep(
        run.network, run.variables, run.chunks('test'), np.concatenate([single, *random]), progress=progress
    )
    without_entry, with_entry = error(right[len(single) :]).reshape(2, len(counts), config.draws)
    numbers = np.flatnonzero(candidates)
    return Measurement(
        data=run.config.data.dataset,
        plain=arch.shortcut == 'none',
        depth=arch.depth,
        config=config,
        blocks=numbers + 1,
        entry=lesion.is_entry(arch)[numbers],
        intact=intact,
        single=right[: len(single)],
        counts=np.array(counts),
        without_entry=without_entry,
        with_entry=with_entry,
    )


def arrays(measured: Measurement) -> dict[str, Array]:
    """What is saved: the numbers as measured, and which examples each single deletion leaves right."""
    return {
        'block': Array(measured.blocks, ('lesion',), 'number from 1'),
        'is_entry': Array(measured.entry, ('lesion',), ''),
        'intact_right': Array(measured.intact, ('example',), ''),
        'single_right': Array(measured.single, ('lesion', 'example'), ''),
        'single_error': Array(measured.single_errors, ('lesion',), '%'),
        'count': Array(measured.counts, ('count',), 'blocks'),
        'error_without_entry': Array(measured.without_entry, ('count', 'draw'), '%'),
        'error_with_entry': Array(measured.with_entry, ('count', 'draw'), '%'),
    }


def summary(measured: Measurement) -> dict[str, object]:
    """The short table."""
    inner, entry = measured.single_errors[~measured.entry], measured.single_errors[measured.entry]
    examples = len(measured.intact)
    table: dict[str, object] = {
        'test error, intact': f'{measured.base_error:.2f} % ({examples - int(measured.intact.sum())} of {examples})',
        'one block deleted, median': f'{np.median(inner):.2f} % ({len(inner)} blocks, entry blocks apart)',
        'one block deleted, worst': f'{inner.max():.2f} % (block {measured.blocks[~measured.entry][inner.argmax()]})',
    }
    if len(entry):
        named = ', '.join(
            f'{value:.1f} % (block {number})'
            for number, value in zip(measured.blocks[measured.entry], entry, strict=True)
        )
        table['an entry block deleted'] = named
    for count in (5, 10, 20):
        if count in measured.counts:
            errors = measured.without_entry[measured.counts == count]
            table[f'{count} blocks deleted, median'] = f'{np.median(errors):.1f} % ({errors.size} draws)'
    return table


def notes(measured: Measurement) -> list[str]:
    said = [
        f'Evaluation mode, stored BN statistics, nothing trained again. {measured.config.draws} draws for every k; '
        f'{measured.config.confidence:.0%} intervals by bootstrap, over examples for single deletions (paired with '
        'the intact network) and over draws for several. One trained network, one seed.'
    ]
    if not _on_the_papers_data(measured):
        said.append(
            f"The paper's numbers are of a pre-activation ResNet-110 on CIFAR-10; on {measured.data} with "
            f'{measured.depth} layers only the shape of a claim is tested.'
        )
    said.append('That resilience grows with depth is not tested here: it takes networks of several depths.')
    return said


def claims(measured: Measurement) -> list[Claim]:
    """The claims on deletions that this network and this dataset can decide."""
    if measured.plain:
        return [_plain_claim(measured)] if measured.data == 'cifar10' else []
    return _single_claims(measured) + _many_claims(measured)


def _on_the_papers_data(measured: Measurement) -> bool:
    return (measured.data, measured.depth, measured.plain) == ('cifar10', 110, False)


def _single_claims(measured: Measurement) -> list[Claim]:
    def increase(which: np.ndarray) -> Callable:
        return lambda chosen: np.median(error(measured.single[which][:, chosen])) - error(measured.intact[chosen])

    inner, entry = increase(~measured.entry), increase(measured.entry)
    shared: dict[str, Any] = {
        'source': f'{PAPER}, section 4.1',
        'data': measured.data,
        'figure': 'lesion_single_deletions',
    }
    blocks = f'{len(measured.intact)} test images, {len(measured.blocks)} blocks'
    made = [
        Claim(
            statement='Deleting a block that enters a stage costs more than deleting any other',
            quantity='median error over entry blocks minus that over the others, percentage points',
            expected='42, 12 and 12 % against 6.4 %', accept=ABOVE_ZERO, form='shape', n=blocks, **shared,
            **_bootstrap(measured, lambda chosen: entry(chosen) - inner(chosen), len(measured.intact)),
        )
    ]  # fmt: skip
    if _on_the_papers_data(measured):
        made += [
            Claim(
                statement='Deleting any one block but an entry block hardly changes the error',
                quantity='median increase of the error, percentage points', expected='+0.4',
                accept=Interval(-np.inf, 1.0), form='number', n=blocks, **shared,
                **_bootstrap(measured, inner, len(measured.intact)),
            ),
            Claim(
                statement='Deleting an entry block is felt',
                quantity='median increase of the error, percentage points', expected='+6 to +36',
                accept=Interval(5.0, np.inf), form='number', n=blocks, **shared,
                **_bootstrap(measured, entry, len(measured.intact)),
            ),
        ]  # fmt: skip
    return made


def _many_claims(measured: Measurement) -> list[Claim]:
    draws = measured.without_entry.shape[1]
    shared: dict[str, Any] = {
        'source': f'{PAPER}, section 4.2',
        'data': measured.data,
        'figure': 'lesion_many_deletions',
    }

    def grows(chosen: np.ndarray) -> float:
        return stats.spearmanr(measured.counts, np.median(measured.without_entry[:, chosen], axis=1)).statistic

    made = [
        Claim(
            statement='The error grows smoothly with the number of deleted blocks',
            quantity='rank correlation of the median error with k', expected='1 (6.5 % at k=1 to 58 % at k=20)',
            accept=Interval(0.9, 1.0), form='shape', n=f'{len(measured.counts)} values of k, {draws} draws each',
            **shared, **_bootstrap(measured, grows, draws),
        )
    ]  # fmt: skip
    if _on_the_papers_data(measured):
        for count, expected, low, high in ((5, 9.4, 7, 14), (10, 19, 12, 30), (20, 57.7, 40, 75)):
            row = measured.without_entry[measured.counts == count][0]
            made.append(
                Claim(
                    statement=f'Deleting {count} blocks at random gives the error of the paper',
                    quantity='median error, %', expected=f'{expected} %', accept=Interval(low, high), form='number',
                    n=f'{draws} draws', **shared,
                    **_bootstrap(measured, lambda chosen, row=row: np.median(row[chosen]), draws),
                )
            )  # fmt: skip
    return made


def _plain_claim(measured: Measurement) -> Claim:
    return Claim(
        statement='A plain network does not survive losing one layer',
        source=f'{PAPER}, section 4.1 (VGG)',
        quantity='median error after deleting one block, %',
        expected='88 to 98 %',
        accept=Interval(80.0, 100.0),
        form='number',
        n=f'{len(measured.intact)} test images, {len(measured.blocks)} blocks',
        data=measured.data,
        figure='lesion_single_deletions',
        **_bootstrap(
            measured,
            lambda chosen: np.median(error(measured.single[~measured.entry][:, chosen])),
            len(measured.intact),
        ),
    )


def _bootstrap(measured: Measurement, statistic: Callable, examples: int) -> dict[str, Any]:
    """The statistic of all examples (or draws), and its percentile interval over resamples of them."""
    config, everything = measured.config, np.arange(examples)
    value = float(statistic(everything))
    resampled = stats.bootstrap(
        (everything,), statistic, vectorized=False, method='percentile', n_resamples=config.resamples,
        confidence_level=config.confidence, rng=np.random.default_rng(config.seed),
    ).confidence_interval  # fmt: skip
    return {'measured': value, 'interval': Interval(float(resampled.low), float(resampled.high))}


def figures(measured: Measurement) -> dict[str, tuple[Figure, str, dict]]:
    """Name -> figure, caption, the numbers behind it."""
    without, with_entry = measured.without_entry, measured.with_entry
    return {
        'single_deletions': (
            _single_figure(measured),
            'Test error after deleting each block alone. Blocks that enter a stage are hatched; the line is the '
            'intact network.',
            {'block': measured.blocks, 'enters a stage': measured.entry, 'test error (%)': measured.single_errors},
        ),
        'many_deletions': (
            _many_figure(measured),
            'Test error after deleting k blocks at random: the median over draws, the middle half (band), and every '
            'draw (points).',
            {
                'k': measured.counts,
                **{
                    f'{name}, {quantile} quantile (%)': np.quantile(errors, level, axis=1)
                    for name, errors in (('entry blocks kept', without), ('any block', with_entry))
                    for quantile, level in (('lower', 0.25), ('middle', 0.5), ('upper', 0.75))
                },
            },
        ),
    }


def _single_figure(measured: Measurement) -> Figure:
    figure, ((axes,),) = style.figure(1, 1)
    inner, entry = style.SERIES[:2]
    with style.style():
        for which, series, label in ((~measured.entry, inner, 'other blocks'), (measured.entry, entry, 'entry blocks')):
            if which.any():
                axes.bar(measured.blocks[which], measured.single_errors[which], label=label, **series.bar)
        axes.axhline(measured.base_error, color=style.INK, linewidth=1, label=f'intact: {measured.base_error:.2f} %')
        axes.set(xlabel='deleted block', ylabel='test error (%)', xlim=(0, measured.blocks.max() + 1))
        axes.set_ylim(0, min(100, 1.1 * measured.single_errors.max() + 1))
    figure.legend(loc='outside upper center', ncols=3)
    return figure


def _many_figure(measured: Measurement) -> Figure:
    figure, ((axes,),) = style.figure(1, 1)
    with style.style():
        for errors, series, label in (
            (measured.without_entry, style.SERIES[0], 'entry blocks kept'),
            (measured.with_entry, style.SERIES[1], 'any block'),
        ):
            low, middle, high = np.quantile(errors, (0.25, 0.5, 0.75), axis=1)
            axes.fill_between(measured.counts, low, high, color=series.color, alpha=0.18, linewidth=0)
            axes.plot(measured.counts, middle, label=label, **series.line)
            spread = np.repeat(measured.counts, errors.shape[1])
            axes.plot(spread, errors.ravel(), '.', color=series.color, alpha=0.3, markersize=4, markeredgewidth=0)
        axes.axhline(measured.base_error, color=style.INK, linewidth=1, label='intact')
        axes.set(xlabel='blocks deleted (k)', ylabel='test error (%)', ylim=(0, 100), xticks=measured.counts)
    figure.legend(loc='outside upper center', ncols=3)
    return figure
