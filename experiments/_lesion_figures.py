"""The figures of the lesion experiment, with the numbers behind them."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from experiments._lesion_measure import error, inner, interaction, networks, single_errors
from experiments._networks import names
from resnet_jax.analysis import shapley
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.report import lesions

ANCHORS = Path(__file__).parent / 'anchors' / 'veit2016_single_deletion.csv'


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """Name -> figure, caption, the numbers behind it."""
    run, drawn = measured[0], {'single_deletions': _single_deletions(measured[0])}
    if len(run['count']):
        drawn['many_deletions'] = _many_deletions(run)
    if len(run['stage_count']):
        drawn['by_stage'] = _by_stage(run)
    if config.beyond:
        drawn |= {'each_block': _each_block(run), 'pairs': _pairs(run), 'shapley': _shapley(run)}
    return drawn | ({'networks': _networks(measured)} if len(networks(measured)) > 1 else {})


def published(run: Measured) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Places on the block axis of a residual network, errors and a label: the paper's curve of the nearest depth."""
    if run.arch.plain:
        return None
    with ANCHORS.open() as file:
        rows = [row for row in csv.DictReader(file) if row['deleted_block'] != 'none']
    curves: dict[str, list[float]] = {}
    for row in rows:
        curves.setdefault(row['network'], []).append(float(row['cifar10_test_error_percent']))
    name = min(curves, key=lambda name: abs(len(curves[name]) - run.arch.blocks))
    errors = np.array(curves[name])
    # By relative position; where both have as many blocks, block for block.
    places = (np.arange(len(errors)) + 0.5) / len(errors) * run.arch.blocks + 0.5
    return places, errors, f'{name.replace("preact_resnet", "paper, preact ")}, CIFAR-10'


def _single_deletions(run: Measured) -> Drawing:
    curve, errors, intact = published(run), single_errors(run), float(error(run['intact_right']))
    numbers = {
        'network': ['this'] * len(errors),
        'block': run['block'],
        'enters a stage': run['is_entry'],
        'test error (%)': errors,
    }
    said = ''
    if curve is not None:
        places, theirs, label = curve
        alike = len(theirs) == run.arch.blocks
        said = f' Beside it {label} (Veit et al. 2016, figure 3)' + (
            ', block for block.' if alike else f': {len(theirs)} blocks, drawn by relative position.'
        )
        firsts = np.isin(np.arange(len(theirs)) % (len(theirs) // 3), 0)
        added = (['paper'] * len(theirs), places, firsts, theirs)
        numbers = {name: np.concatenate([own, more]) for (name, own), more in zip(numbers.items(), added, strict=True)}
    caption = 'Test error after deleting each block alone. Blocks that enter a stage are hatched; the line is the '
    drawn = lesions.single_deletions(run['block'], run['is_entry'], errors, intact, curve)
    return Drawing(drawn, f'{caption}intact network.{said}', numbers)


def _many_deletions(run: Measured) -> Drawing:
    draws = {'entry blocks kept': run['error_without_entry'], 'any block': run['error_with_entry']}
    if 'fresh_error_without_entry' in run.arrays:
        draws['entry kept, fresh BN'] = run['fresh_error_without_entry']
    return Drawing(
        lesions.many_deletions(run['count'], draws, float(error(run['intact_right']))),
        'Test error after deleting k blocks at random: the median over draws, the middle half (band), and every '
        'draw (points). Fresh BN: the same sets, with BN statistics taken anew from training images.',
        _every_draw(run['count'], draws),
    )


def _by_stage(run: Measured) -> Drawing:
    draws = {
        f'stage {number}': errors for number, errors in enumerate(run['error_by_stage'], start=1)
        if np.isfinite(errors).all()
    }  # fmt: skip
    return Drawing(
        lesions.many_deletions(run['stage_count'], draws, float(error(run['intact_right']))),
        'Test error after deleting k blocks of one stage at random, its entry block kept: the median over draws, the '
        'middle half (band), and every draw (points).',
        _every_draw(run['stage_count'], draws),
    )


def _every_draw(counts: np.ndarray, draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The draws (counts, draws) of every kind, a row each."""
    which, count, number = np.meshgrid(list(draws), counts, range(next(iter(draws.values())).shape[1]), indexing='ij')
    errors = np.stack(list(draws.values()))
    columns = {'which': which, 'k': count, 'draw': number + 1, 'test error (%)': errors}
    return {name: column.ravel() for name, column in columns.items()}


def _each_block(run: Measured) -> Drawing:
    series = {'deleted': (run['block'], single_errors(run))}
    if 'fresh_single_right' in run.arrays:
        series['deleted, fresh BN'] = (run['block'], error(run['fresh_single_right']))
    series['applied twice'] = (run['twice_block'], error(run['twice_right']))
    return Drawing(
        lesions.each_block(series, float(error(run['intact_right'])), np.array(run.arch.entry_blocks) + 1),
        'Test error after one thing done to one block: deleted; deleted, with BN statistics taken anew from training '
        'images; applied twice in a row, by the same parameters and statistics (not entry blocks, which are marked).',
        {
            'what': [label for label, (blocks, _) in series.items() for _ in blocks],
            'block': np.concatenate([blocks for blocks, _ in series.values()]),
            'test error (%)': np.concatenate([errors for _, errors in series.values()]),
        },
    )


def _pairs(run: Measured) -> Drawing:
    found = interaction(run).mean(axis=1)
    return Drawing(
        lesions.pairs(run['pair'], found, np.array(run.arch.entry_blocks) + 1),
        'Interaction of two deletions, err(i, j) - err(i) - err(j) + err(): above 0 the two cost more together than '
        f'each alone, summed. On {run["pair_right"].shape[1]} test images; lines are between stages; the colours end '
        'at the 98th percentile of the pairs without an entry block.',
        {'block': run['pair'][:, 0], 'other block': run['pair'][:, 1], 'interaction (points)': found},
    )


def _shapley(run: Measured) -> Drawing:
    values, errors = shapley.estimate(run['shapley'])
    return Drawing(
        lesions.worth(run['block'], run['is_entry'], values, errors),
        'What each block is worth: its Shapley value, in points of accuracy, with the standard error over '
        f'{len(run["shapley"]) // 2} random orders and their reverses. All blocks that can be deleted play.',
        {'block': run['block'], 'Shapley value (points)': values, 'standard error (points)': errors},
    )


def _networks(measured: Sequence[Measured]) -> Drawing:
    kinds = sorted(networks(measured), key=lambda run: (run.arch.plain, run.depth))
    titles = dict(zip(map(id, networks(measured)), names(networks(measured)), strict=True))
    titles, errors = [titles[id(run)] for run in kinds], [single_errors(run)[inner(run)] for run in kinds]
    intact = [float(error(run['intact_right'])) for run in kinds]
    return Drawing(
        lesions.networks(titles, [run.arch.plain for run in kinds], errors, intact),
        'Test error after deleting each block alone, in networks trained alike: every block (points; blocks that '
        'enter a stage are left out), the median (bar), the intact network (cross).',
        {
            'network': [title for title, values in zip(titles, errors, strict=True) for _ in values],
            'block': np.concatenate([run['block'][inner(run)] for run in kinds]),
            'test error (%)': np.concatenate(errors),
        },
    )
