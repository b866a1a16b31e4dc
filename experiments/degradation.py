"""Degradation: do deeper plain networks train worse, and residual ones not?

He, Zhang, Ren & Sun 2015, "Deep residual learning for image recognition" (arXiv 1512.03385), section 4.2, figures 1
and 6. Plain and residual networks of several depths, which have the same parameters (shortcut A has none), are trained
by one recipe, with the same seeds, hence the same order and augmentation of the data. Training and test error are
those of the last step, in evaluation mode, without augmentation; a network whose training diverges counts as chance.

Two more questions. How much of it does batch normalisation cure? Both kinds are trained without it, the residual ones
with SkipInit (De & Smith 2020, arXiv 2002.10444), since they would explode. Wider instead of deeper? The shallower
networks get the parameters of the deeper ones by width (Zagoruyko & Komodakis 2016, arXiv 1605.07146).

    resnet-jax experiment degradation

What is compared and claimed: _degradation_claims.py.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments._degradation_claims import Kind, claims, compared, kinds_of
from experiments._networks import network
from experiments._training import columns, diverged, measure, rows, said
from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.experiment import Drawing, Measured
from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.report import figures as style
from resnet_jax.report.findings import Plain

__all__ = ['TITLE', 'check', 'claims', 'diverged', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'Deeper plain networks'


def get_config(tier: str) -> ConfigDict:
    """Which depths, and how many seeds."""
    return ConfigDict(
        {
            'tier': tier,
            'depths': {'cpu': (8, 20, 56), 'paper': (20, 32, 44, 56, 110)}[tier],
            'shallow': 20,  # is compared with
            'deep': 56,
            'depths_without_norm': {'cpu': (8, 20), 'paper': (20, 56)}[tier],
            'seeds': (0, 1, 2),
        }
    )


def runs(config: ConfigDict) -> list[ConfigDict]:
    """Plain and residual by depth, without BN by depth, and wide ones."""
    made, make = [], partial(network, config.tier)
    for seed in config.seeds:
        for family in ('resnet', 'plain'):
            made += [make(f'{family}{depth}', seed) for depth in config.depths]
            gain = 'skipinit' if family == 'resnet' else 'none'
            made += [make(f'{family}{depth}', seed, norm='none', gain=gain) for depth in config.depths_without_norm]
            made.append(_wide(config, family, seed))
    return made


def _wide(config: ConfigDict, family: str, seed: int) -> ConfigDict:
    """The shallow network, as many times wider as it takes to have the deep one's parameters."""
    make = partial(network, config.tier, seed=seed)
    narrow, deep = (
        make(f'{family}{config.shallow}'),
        counts.parameters(spec.architecture(make(f'{family}{config.deep}'))),
    )

    def widened(stem_width: int) -> ConfigDict:
        factor = stem_width / narrow.network.stem_width
        widths = tuple(round(factor * width) for width in narrow.network.widths)
        return make(f'{family}{config.shallow}', stem_width=stem_width, widths=widths)

    candidates = [widened(narrow.network.stem_width + more) for more in range(1, 4 * narrow.network.stem_width)]
    return min(candidates, key=lambda each: abs(counts.parameters(spec.architecture(each)) - deep))


def check(architectures: Sequence[Architecture]) -> None:
    """There must be plain and residual networks of two depths to compare."""
    kinds = {(arch.plain, counts.depth(arch)) for arch in compared(architectures) if arch.norm != 'none'}
    depths = [len({depth for plain, depth in kinds if plain == which}) for which in (True, False)]
    if min(depths) < 2:
        raise UserError(
            f'degradation compares two depths and more, plain and residual; here are {depths[0]} plain and {depths[1]} '
            'residual ones: leave out --run, and what is missing is trained'
        )


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """Training and test error of every kind: the median, and all seeds."""
    return {
        f'{name}, {split} error': said(runs, f'{split}_error')
        for name, runs in _named(measured).items()
        for split in ('training', 'test')
    }


def _named(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    kinds, wide = kinds_of(measured)
    names = {True: 'plain', False: 'residual'}
    named = {f'{names[plain]} {depth}{"" if norm else ", no BN"}': each for (plain, norm, depth), each in kinds.items()}
    return named | {f'{names[plain]} {each[0].depth}, wide': each for plain, each in wide.items()}


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    said = [
        'Claims of this paper must hold in every seed: the interval is the range over seeds. Plain and residual twins '
        'of one seed have the same parameters, start from the same draw, and see the same images in the same order.',
        'Without BN the residual networks have SkipInit: one learned number a block, which is 0 at the start.',
        'Where residual networks leave nothing of the training split wrong, the deeper ones cannot have a lower error: '
        'there the loss is compared.',
    ]
    if measured[0].data != 'cifar10':
        said.append(
            f'The paper is on CIFAR-10; on {measured[0].data} only the signs are tested, with a recipe of its own.'
        )
    return said


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The curves of training (figures 1 and 6 of the paper), and the ends by depth."""
    kinds, _ = kinds_of(measured)
    every = [(name, run) for name, runs in _named(measured).items() for run in runs]
    course = [(name, run.seed, split, step, error) for name, run in every for split in ('training', 'test')
              for step, error in zip(run[f'{split}_steps'], run[f'{split}_errors'], strict=True)]  # fmt: skip
    keys = ('network', 'seed', 'split', 'step', 'error (%)')
    named, chance = _named(measured), 100 * (1 - 1 / measured[0].arch.classes)
    return {
        'curves': Drawing(
            _curves({kind: runs for kind, runs in kinds.items() if kind[1]}),
            'Error as training goes on, as figure 6 of the paper, by the number of layers (right): on the training '
            'batches (lines: the median over seeds; bands: their range) and on the test split (points: the median).',
            {key: [row[index] for row in course] for index, key in enumerate(keys)},
        ),
        'by_depth': Drawing(
            rows(named, chance),
            'Error at the end of training, on the training split and on the test split: every seed (points) and the '
            'median (bar). Dotted: chance.',
            columns(named),
        ),
    }


def _curves(kinds: dict[Kind, list[Measured]]) -> Figure:
    figure, axes = style.figure(1, 2, sharey=True)
    with style.style():
        for panel, plain in zip(axes[0], (True, False), strict=True):
            labels = []
            for series, (kind, runs) in zip(style.SERIES, [each for each in kinds.items() if each[0][0] == plain],
                                            strict=False):  # fmt: skip
                steps, curves = _aligned(runs, 'training')
                if not len(steps):
                    continue
                panel.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=series.color, alpha=0.18,
                                   linewidth=0)  # fmt: skip
                panel.plot(steps, np.median(curves, axis=0), color=series.color, linestyle=series.linestyle)
                tested, errors = _aligned(runs, 'test')
                panel.plot(tested, np.median(errors, axis=0), series.marker, color=series.color)
                labels.append((float(np.median(curves[:, -1])), f'{kind[2]}', series.color))
            panel.set(xlabel='step', title='plain' if plain else 'residual', ylim=(0, 100))
            figure.draw_without_rendering()
            style.label_lines(panel, labels)
        axes[0, 0].set_ylabel('error (%)')
    return figure


def _aligned(runs: Sequence[Measured], split: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps that all seeds have a record of, and the errors there (seeds, steps)."""
    steps, errors = f'{split}_steps', f'{split}_errors'
    whole = [run for run in runs if len(run[steps])]
    if not whole:
        return np.zeros(0), np.zeros((0, 0))
    length = min(len(run[steps]) for run in whole)
    return whole[0][steps][:length], np.stack([run[errors][:length] for run in whole])
