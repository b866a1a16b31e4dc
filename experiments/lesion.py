"""Lesion: does a residual network survive losing any one of its blocks, and how many?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks"
(arXiv 1605.06431), sections 4.1 and 4.2. A trained network loses blocks at test time, y <- shortcut(x), with
nothing trained again and BN's statistics as stored: each block alone, then random sets of k blocks. Blocks that
enter a stage change the shape and are told apart. A plain network is measured alike where shapes agree.

Runs beside the given one that differ in the network alone are measured too (single deletions), and
compared: does resilience grow with depth, and has a plain network any?

    resnet-jax experiment lesion --run runs/digits

How it is measured: _lesion_measure.py. What is claimed: _lesion_claims.py. Here: how much is measured, what is
saved, the short table, the notes and the figures.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments._lesion_claims import claims
from experiments._lesion_measure import Measurement, error, measure
from resnet_jax.report import lesions
from resnet_jax.report.findings import Array

__all__ = ['TITLE', 'arrays', 'claims', 'figures', 'get_config', 'measure', 'notes', 'summary']

TITLE = 'Losing blocks'


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
    inner, entry = network.errors[network.inner], network.errors[network.entry]
    wrong = examples - int(network.intact.sum())
    table: dict[str, object] = {
        'test error, intact': f'{error(network.intact):.2f} % ({wrong} of {examples})',
        'one block deleted, median': f'{np.median(inner):.2f} % ({len(inner)} blocks, entry blocks apart)',
        'one block deleted, worst': f'{inner.max():.2f} % (block {network.blocks[network.inner][inner.argmax()]})',
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
            f'{np.median(other.errors[other.inner]):.2f} % (intact {error(other.intact):.2f} %)'
        )
    return table


def notes(measured: Measurement) -> list[str]:
    """Under which conditions the claims are tested."""
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
    if measured.shallow_and_deep is None or measured.nearest_plain is None:
        said.append(
            'That resilience grows with depth, and that a plain network has none, is tested where the directory of '
            'this run has beside it runs of another depth, or plain ones, that are otherwise trained alike.'
        )
    return said


Drawing = tuple[Figure, str, dict[str, Any]]  # the figure, its caption, the numbers behind it


def figures(measured: Measurement) -> dict[str, Drawing]:
    """Name -> figure, caption, the numbers behind it."""
    drawn = {'single_deletions': _single_deletions(measured), 'many_deletions': _many_deletions(measured)}
    return drawn | ({'networks': _networks(measured)} if measured.others else {})


def _single_deletions(measured: Measurement) -> Drawing:
    network = measured.network
    return (
        lesions.single_deletions(network.blocks, network.entry, network.errors, float(error(network.intact))),
        'Test error after deleting each block alone. Blocks that enter a stage are hatched; the line is the '
        'intact network.',
        {'block': network.blocks, 'enters a stage': network.entry, 'test error (%)': network.errors},
    )


def _many_deletions(measured: Measurement) -> Drawing:
    draws = {'entry blocks kept': measured.without_entry, 'any block': measured.with_entry}
    quartiles = {
        f'{name}, {label} (%)': np.quantile(errors, level, axis=1)
        for name, errors in draws.items()
        for label, level in (('lower quartile', 0.25), ('median', 0.5), ('upper quartile', 0.75))
    }
    return (
        lesions.many_deletions(measured.counts, draws, float(error(measured.network.intact))),
        'Test error after deleting k blocks at random: the median over draws, the middle half (band), and every '
        'draw (points).',
        {'k': measured.counts, **quartiles},
    )


def _networks(measured: Measurement) -> Drawing:
    kinds = sorted(measured.networks, key=lambda each: (each.plain, each.depth))
    names, inner = [each.name for each in kinds], [each.errors[each.inner] for each in kinds]
    return (
        lesions.networks(names, [each.plain for each in kinds], inner, [float(error(each.intact)) for each in kinds]),
        'Test error after deleting each block alone, in networks trained alike: every block (points; blocks that '
        'enter a stage are left out), the median (bar), the intact network (cross).',
        {
            'network': [name for name, errors in zip(names, inner, strict=True) for _ in errors],
            'block': np.concatenate([each.blocks[each.inner] for each in kinds]),
            'test error (%)': np.concatenate(inner),
        },
    )
