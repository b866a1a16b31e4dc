"""Lesion: does a residual network survive losing any one of its blocks, and how many?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks"
(arXiv 1605.06431), sections 4.1 and 4.2. A trained network loses blocks at test time, y <- shortcut(x), with
nothing trained again and BN's statistics as stored: each block alone, then random sets of k blocks. Blocks that
enter a stage change the shape and are told apart. A plain network is measured alike where shapes agree.

Runs beside the given one that differ in block, depth or shortcut alone are measured too (single deletions), and
compared: does resilience grow with depth, and has a plain network any?

    resnet-jax experiment lesion --run runs/digits
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from scipy import stats

from resnet_jax import spec
from resnet_jax.analysis import lesion
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress
from resnet_jax.report import lesions
from resnet_jax.report.claims import Claim, Interval
from resnet_jax.report.findings import Array
from resnet_jax.run import Run
from resnet_jax.spec import Architecture

TITLE = 'Losing blocks'
PAPER = 'Veit et al. 2016, arXiv 1605.06431'
ABOVE_ZERO = Interval(float(np.nextafter(0, 1)), np.inf)


def get_config(tier: str) -> ConfigDict:
    """How many blocks are deleted together, and how many draws of each."""
    return ConfigDict(
        {
            'counts': (1, 2, 3, 5, 7, 10, 12, 15, 18, 20),
            'draws': {'cpu': 12, 'paper': 100}[tier],
            'seed': 0,
            'resamples': 2000,
            'confidence': 0.95,
        }
    )


@dataclass(frozen=True, eq=False)
class Singles:
    """One network's single deletions. Errors are in percent; examples are paired over all lesions and networks."""

    arch: Architecture
    blocks: np.ndarray  # (lesions,): number of the deleted block
    entry: np.ndarray  # (lesions,): does it enter a stage?
    intact: np.ndarray  # (examples,): right with all blocks
    right: np.ndarray  # (lesions, examples): right without that block

    @property
    def plain(self) -> bool:
        return self.arch.shortcut == 'none'

    @property
    def name(self) -> str:
        return spec.title(self.arch)

    @property
    def errors(self) -> np.ndarray:
        return error(self.right)

    def median_error(self, examples: np.ndarray) -> float:
        """After deleting one block that enters no stage, on these examples."""
        return float(np.median(error(self.right[~self.entry][:, examples])))

    def increase(self, which: np.ndarray, examples: np.ndarray) -> float:
        """Median over the lesions `which` of the error's increase on these examples, in percentage points."""
        return float(np.median(error(self.right[which][:, examples])) - error(self.intact[examples]))


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is measured on a run, and the single deletions of the runs beside it."""

    data: str
    config: ConfigDict
    network: Singles
    others: tuple[Singles, ...]
    counts: np.ndarray  # (counts,): blocks deleted together
    without_entry: np.ndarray  # (counts, draws): errors, entry blocks never deleted
    with_entry: np.ndarray  # (counts, draws): errors, any block deleted

    @property
    def on_the_papers_data(self) -> bool:
        return (self.data, self.network.name) == ('cifar10', 'preact-110')


def error(right: np.ndarray) -> np.ndarray:
    """Percent of the examples (last axis) that are not right."""
    return 100 * (1 - right.mean(axis=-1))


def measure(run: Run, others: Sequence[Run], config: ConfigDict, progress: Progress) -> Measurement:
    """Deletes blocks of a trained run, one and many, and of the others one, on the test split.

    Raises:
      UserError: all blocks of the run enter a stage.
    """
    arch, rng = run.network.arch, np.random.default_rng(config.seed)
    candidates, inner = lesion.deletable(arch), _inner_blocks(arch)
    if not inner.any():
        raise UserError(f'all blocks of {run.path} enter a stage; lesions need a network of 14 layers or more')
    others = [other for other in others if _inner_blocks(other.network.arch).any()]
    counts = [count for count in config.counts if count <= inner.sum()]
    sets = [
        lesion.random_deletions(rng, which, count, config.draws) for which in (inner, candidates) for count in counts
    ]
    network, right = _sweep(run, np.concatenate(sets), progress)
    without_entry, with_entry = error(right).reshape(2, len(counts), config.draws)
    return Measurement(
        data=run.config.data.dataset,
        config=config,
        network=network,
        others=tuple(_sweep(other, np.zeros((0, other.network.arch.blocks), bool), progress)[0] for other in others),
        counts=np.array(counts),
        without_entry=without_entry,
        with_entry=with_entry,
    )


def _inner_blocks(arch: Architecture) -> np.ndarray:
    """Which blocks can be deleted and enter no stage."""
    return lesion.deletable(arch) & ~lesion.is_entry(arch)


def _sweep(run: Run, more: np.ndarray, progress: Progress) -> tuple[Singles, np.ndarray]:
    """Every single deletion of a run, and which examples are right after each of `more` lesions."""
    arch = run.network.arch
    single = lesion.single_deletions(arch)
    deleted = np.concatenate([single, more])
    intact, right = lesion.sweep(run.network, run.variables, run.chunks('test'), deleted, progress=progress)
    numbers = np.flatnonzero(lesion.deletable(arch))
    singles = Singles(
        arch=arch,
        blocks=numbers + 1,
        entry=lesion.is_entry(arch)[numbers],
        intact=intact,
        right=right[: len(single)],
    )
    return singles, right[len(single) :]


def arrays(measured: Measurement) -> dict[str, Array]:
    """What is saved: the numbers as measured, and which examples each single deletion leaves right."""
    network = measured.network
    saved = {
        'block': Array(network.blocks, ('lesion',), 'number from 1'),
        'is_entry': Array(network.entry, ('lesion',), ''),
        'intact_right': Array(network.intact, ('example',), ''),
        'single_right': Array(network.right, ('lesion', 'example'), ''),
        'single_error': Array(network.errors, ('lesion',), '%'),
        'count': Array(measured.counts, ('count',), 'blocks'),
        'error_without_entry': Array(measured.without_entry, ('count', 'draw'), '%'),
        'error_with_entry': Array(measured.with_entry, ('count', 'draw'), '%'),
    }
    for other in measured.others:
        saved[f'single_error_{other.name}'] = Array(other.errors, ('lesion',), '%')
    return saved


def summary(measured: Measurement) -> dict[str, object]:
    """The short table."""
    network, examples = measured.network, len(measured.network.intact)
    inner, entry = network.errors[~network.entry], network.errors[network.entry]
    wrong = examples - int(network.intact.sum())
    table: dict[str, object] = {
        'test error, intact': f'{error(network.intact):.2f} % ({wrong} of {examples})',
        'one block deleted, median': f'{np.median(inner):.2f} % ({len(inner)} blocks, entry blocks apart)',
        'one block deleted, worst': f'{inner.max():.2f} % (block {network.blocks[~network.entry][inner.argmax()]})',
    }
    if len(entry):
        named = zip(network.blocks[network.entry], entry, strict=True)
        table['an entry block deleted'] = ', '.join(f'{value:.1f} % (block {number})' for number, value in named)
    for count in (5, 10, 20):
        if count in measured.counts:
            errors = measured.without_entry[measured.counts == count]
            table[f'{count} blocks deleted, median'] = f'{np.median(errors):.1f} % ({errors.size} draws)'
    for other in measured.others:
        table[f'{other.name}, one block deleted, median'] = (
            f'{np.median(other.errors[~other.entry]):.2f} % (intact {error(other.intact):.2f} %)'
        )
    return table


def notes(measured: Measurement) -> list[str]:
    config, network = measured.config, measured.network
    said = [
        f'Evaluation mode, stored BN statistics, nothing trained again. {config.draws} draws for every k; '
        f'{config.confidence:.0%} intervals by bootstrap, over examples for single deletions (paired with '
        'the intact network) and over draws for several. One trained network of each kind, one seed.',
        "Costs little: at most a tenth of the way to chance. That bound is this project's, not the paper's, and was "
        'set after the digits had been seen: on digits it illustrates, and tests nothing new.',
    ]
    if not measured.on_the_papers_data:
        said.append(
            f"The paper's numbers are of a pre-activation ResNet-110 on CIFAR-10; on {measured.data} with "
            f'{network.name} only the shape of a claim is tested.'
        )
    if _shallow_and_deep(measured) is None or _plain(measured) is None:
        said.append(
            'That resilience grows with depth, and that a plain network has none, is tested where the directory of '
            'this run has beside it runs of another depth, or plain ones, that are otherwise trained alike.'
        )
    return said


def claims(measured: Measurement) -> list[Claim]:
    """The claims on deletions that these networks and this dataset can decide."""
    made = _network_claims(measured)
    return made if measured.network.plain else _single_claims(measured) + _many_claims(measured) + made


def _single_claims(measured: Measurement) -> list[Claim]:
    network = measured.network
    shared = _shared(measured, 'section 4.1', 'lesion_single_deletions')

    def inner(examples: np.ndarray) -> float:
        return network.increase(~network.entry, examples)

    def entry(examples: np.ndarray) -> float:
        return network.increase(network.entry, examples)

    chance = 100 * (1 - 1 / network.arch.classes)

    def share(examples: np.ndarray) -> float:
        return inner(examples) / (chance - float(error(network.intact[examples])))

    made = [
        Claim(
            statement='Deleting any one block but an entry block costs little of what there is to lose',
            quantity='median increase of the error, as a share of the way to chance',
            expected='0.005 (0.4 of 84 points)',
            accept=Interval(-np.inf, 0.1), form='shape', **shared, **_bootstrap(measured, share),
        ),
        Claim(
            statement='Deleting a block that enters a stage costs more than deleting any other',
            quantity='median error over entry blocks minus that over the others, percentage points',
            expected='42, 12 and 12 % against 6.4 %', accept=ABOVE_ZERO, form='shape', **shared,
            **_bootstrap(measured, lambda examples: entry(examples) - inner(examples)),
        )
    ]  # fmt: skip
    if measured.on_the_papers_data:
        made += [
            Claim(
                statement='Deleting any one block but an entry block hardly changes the error',
                quantity='median increase of the error, percentage points', expected='+0.4',
                accept=Interval(-np.inf, 1.0), form='number', **shared, **_bootstrap(measured, inner),
            ),
            Claim(
                statement='Deleting an entry block is felt',
                quantity='median increase of the error, percentage points', expected='+6 to +36',
                accept=Interval(5.0, np.inf), form='number', **shared, **_bootstrap(measured, entry),
            ),
        ]  # fmt: skip
    return made


def _many_claims(measured: Measurement) -> list[Claim]:
    draws = measured.without_entry.shape[1]
    shared = _shared(measured, 'section 4.2', 'lesion_many_deletions') | {'n': f'{draws} draws'}

    def grows(chosen: np.ndarray) -> float:
        medians = np.median(measured.without_entry[:, chosen], axis=1)
        # A constant has no ranks: it does not grow.
        return stats.spearmanr(measured.counts, medians).statistic if np.ptp(medians) else 0.0

    made = [
        Claim(
            statement='The error grows smoothly with the number of deleted blocks',
            quantity='rank correlation of the median error with k', expected='1 (6.5 % at k=1 to 58 % at k=20)',
            accept=Interval(0.9, 1.0), form='shape', **shared, **_bootstrap(measured, grows, draws),
        )
    ]  # fmt: skip
    if measured.on_the_papers_data:
        for count, expected, low, high in ((5, 9.4, 7, 14), (10, 19, 12, 30), (20, 57.7, 40, 75)):
            row = measured.without_entry[measured.counts == count][0]
            made.append(
                Claim(
                    statement=f'Deleting {count} blocks at random gives the error of the paper',
                    quantity='median error, %', expected=f'{expected} %', accept=Interval(low, high), form='number',
                    **shared, **_bootstrap(measured, lambda chosen, row=row: float(np.median(row[chosen])), draws),
                )
            )  # fmt: skip
    return made


def _network_claims(measured: Measurement) -> list[Claim]:
    """What takes networks of several kinds: depth, and the lack of shortcuts."""
    made, network = [], measured.network
    shared = _shared(measured, 'section 4.1', 'lesion_networks' if measured.others else 'lesion_single_deletions')
    if pair := _shallow_and_deep(measured):
        shallow, deep = pair
        made.append(
            Claim(
                statement=f'Resilience grows with depth: a deletion costs {shallow.name} more than {deep.name}',
                quantity='difference of the median increases of the error, percentage points',
                expected='23 against 0.4 (20 and 110 layers)', accept=ABOVE_ZERO, form='shape', **shared,
                **_bootstrap(measured, lambda examples: _inner(shallow, examples) - _inner(deep, examples)),
            )
        )  # fmt: skip
        if measured.data == 'cifar10' and shallow.name == 'preact-20':
            made.append(
                Claim(
                    statement='A shallow residual network is hurt by losing one block (preact-20)',
                    quantity='median error after deleting one block, %', expected='31 %',
                    accept=Interval(15.0, np.inf), form='number', **shared,
                    **_bootstrap(measured, shallow.median_error),
                )
            )  # fmt: skip
    if plain := _plain(measured):
        residual = _nearest(plain, [n for n in (network, *measured.others) if not n.plain])
        if residual:
            made.append(
                Claim(
                    statement=f'Without shortcuts a deletion costs more: {plain.name} against {residual.name}',
                    quantity='difference of the median increases of the error, percentage points',
                    expected='80 to 90 (VGG) against 0.4', accept=ABOVE_ZERO, form='shape', **shared,
                    **_bootstrap(measured, lambda examples: _inner(plain, examples) - _inner(residual, examples)),
                )
            )  # fmt: skip
        if measured.data == 'cifar10':
            made.append(
                Claim(
                    statement=f'A plain network ({plain.name}) does not survive losing one layer',
                    quantity='median error after deleting one block, %', expected='88 to 98 % (VGG)',
                    accept=Interval(80.0, 100.0), form='number', **shared,
                    **_bootstrap(measured, plain.median_error),
                )
            )  # fmt: skip
    return made


def _inner(network: Singles, examples: np.ndarray) -> float:
    return network.increase(~network.entry, examples)


def _shallow_and_deep(measured: Measurement) -> tuple[Singles, Singles] | None:
    """The networks of least and of greatest depth that are otherwise of this network's kind, where there are two."""
    kind = dataclasses.replace(measured.network.arch, stage_blocks=())
    alike = [n for n in (measured.network, *measured.others) if dataclasses.replace(n.arch, stage_blocks=()) == kind]
    alike = sorted(alike, key=lambda n: n.arch.depth)
    return (alike[0], alike[-1]) if len(alike) > 1 and not measured.network.plain else None


def _plain(measured: Measurement) -> Singles | None:
    """The plain network nearest to this one in depth and kind of block, where there is one."""
    return _nearest(measured.network, [n for n in (measured.network, *measured.others) if n.plain])


def _nearest(network: Singles, among: Sequence[Singles]) -> Singles | None:
    arch = network.arch
    return min(among, key=lambda n: (abs(n.arch.depth - arch.depth), n.arch.block != arch.block), default=None)


def _shared(measured: Measurement, section: str, figure: str) -> dict[str, Any]:
    network = measured.network
    return {
        'source': f'{PAPER}, {section}',
        'data': measured.data,
        'figure': figure,
        'n': f'{len(network.intact)} test images, {len(network.blocks)} blocks',
    }


def _bootstrap(measured: Measurement, statistic: Callable, size: int | None = None) -> dict[str, Any]:
    """The statistic of all examples (or draws), and its percentile interval over resamples of them."""
    config, everything = measured.config, np.arange(size or len(measured.network.intact))
    resampled = stats.bootstrap(
        (everything,), statistic, vectorized=False, method='percentile', n_resamples=config.resamples,
        confidence_level=config.confidence, rng=np.random.default_rng(config.seed),
    ).confidence_interval  # fmt: skip
    return {
        'measured': float(statistic(everything)),
        'interval': Interval(float(resampled.low), float(resampled.high)),
    }


def figures(measured: Measurement) -> dict[str, tuple[Figure, str, dict[str, Any]]]:
    """Name -> figure, caption, the numbers behind it."""
    network, intact = measured.network, float(error(measured.network.intact))
    draws = {'entry blocks kept': measured.without_entry, 'any block': measured.with_entry}
    quartiles = {
        f'{name}, {label} (%)': np.quantile(errors, level, axis=1)
        for name, errors in draws.items()
        for label, level in (('lower quartile', 0.25), ('median', 0.5), ('upper quartile', 0.75))
    }
    drawn: dict[str, tuple[Figure, str, dict[str, Any]]] = {
        'single_deletions': (
            lesions.single_deletions(network.blocks, network.entry, network.errors, intact),
            'Test error after deleting each block alone. Blocks that enter a stage are hatched; the line is the '
            'intact network.',
            {'block': network.blocks, 'enters a stage': network.entry, 'test error (%)': network.errors},
        ),
        'many_deletions': (
            lesions.many_deletions(measured.counts, draws, intact),
            'Test error after deleting k blocks at random: the median over draws, the middle half (band), and every '
            'draw (points).',
            {'k': measured.counts, **quartiles},
        ),
    }
    if measured.others:
        kinds = sorted((network, *measured.others), key=lambda each: (each.plain, each.arch.depth))
        names, inner = [each.name for each in kinds], [each.errors[~each.entry] for each in kinds]
        drawn['networks'] = (
            lesions.networks(names, [e.plain for e in kinds], inner, [float(error(e.intact)) for e in kinds]),
            'Test error after deleting each block alone, in networks trained alike: every block (points; blocks that '
            'enter a stage are left out), the median (bar), the intact network (cross).',
            {
                'network': [name for name, errors in zip(names, inner, strict=True) for _ in errors],
                'block': np.concatenate([each.blocks[~each.entry] for each in kinds]),
                'test error (%)': np.concatenate(inner),
            },
        )
    return drawn
