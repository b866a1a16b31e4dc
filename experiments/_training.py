"""What experiments that compare trained networks measure on each: the course of its training and where it ended."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments._networks import paired
from resnet_jax import spec
from resnet_jax.experiment import Measured
from resnet_jax.progress import Progress
from resnet_jax.report import figures as style
from resnet_jax.report.findings import Array
from resnet_jax.run import Run
from resnet_jax.runtime import directory


def measure(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Errors in training (as it went, augmented) and at its end (evaluation mode, both splits)."""
    records = directory.read_metrics(run.path)
    train, test = run.evaluate('train'), run.evaluate('test')
    return {
        **_course('training', [record for record in records if record['kind'] == 'train']),
        **_course('test', [record for record in records if record['kind'] == 'test']),
        'training_error': Array(np.array(train.error), (), '%'),
        'training_loss': Array(np.array(train.loss), (), 'nats'),
        'test_error': Array(np.array(test.error), (), '%'),
    }


def diverged(config: ConfigDict) -> dict[str, Array]:
    """Of a network that did not get through its training: chance."""
    classes = spec.architecture(config).classes
    chance = Array(np.array(100 * (1 - 1 / classes)), (), '%')
    loss = Array(np.array(np.log(classes)), (), 'nats')
    none = {**_course('training', []), **_course('test', [])}
    return {**none, 'training_error': chance, 'training_loss': loss, 'test_error': chance}


def _course(split: str, records: Sequence[dict]) -> dict[str, Array]:
    return {
        f'{split}_steps': Array(np.array([record['step'] for record in records], int), ('record',), 'steps'),
        f'{split}_errors': Array(np.array([record['error'] for record in records], float), ('record',), '%'),
    }


def values(runs: Sequence[Measured], name: str) -> np.ndarray:
    """One number a run, of that name."""
    return np.array([float(run[name]) for run in runs])


def differences(runs: Sequence[Measured], others: Sequence[Measured], name: str) -> np.ndarray:
    """What is measured of these above the others, seed by seed."""
    return np.array([float(run[name]) - float(other[name]) for run, other in paired(runs, others)])


def said(runs: Sequence[Measured], name: str) -> str:
    """The median and all seeds, in percent."""
    found = values(runs, name)
    return f'{np.median(found):.2f} % ({", ".join(f"{each:.2f}" for each in found)})'


def rows(kinds: Mapping[str, Sequence[Measured]], chance: float) -> Figure:
    """Test error (filled) and training error (hollow) of every seed, a row for each kind of network."""
    figure, ((axes,),) = style.figure(1, 1, heights=(0.9 + 0.34 * len(kinds),))
    color, splits = style.SERIES[0].color, (('training', 'none', 0.15), ('test', style.SERIES[0].color, -0.15))
    with style.style():
        for place, runs in enumerate(kinds.values()):
            for split, fill, aside in splits:
                found = values(runs, f'{split}_error')
                axes.plot(found, np.full(len(found), place + aside), 'o', markerfacecolor=fill, markeredgecolor=color,
                          markeredgewidth=1, label=split if place == 0 else None)  # fmt: skip
            middle = np.median(values(runs, 'test_error'))
            axes.vlines(middle, place - 0.4, place + 0.1, color=style.INK, linewidth=1)
        axes.set_xscale('symlog', linthresh=1)
        axes.set_xticks([0, 1, 3, 10, 30, 100], labels=['0', '1', '3', '10', '30', '100'])
        axes.set(xlabel='error (%)', xlim=(-0.1, 110), yticks=range(len(kinds)))
        axes.set_yticklabels(list(kinds))
        axes.axvline(chance, color=style.MUTED, linewidth=0.8, linestyle=':')
        axes.invert_yaxis()
        axes.grid(axis='x')
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def columns(kinds: Mapping[str, Sequence[Measured]]) -> dict[str, list]:
    """The numbers behind `rows`."""
    every = [(kind, run) for kind, runs in kinds.items() for run in runs]
    return {
        'network': [kind for kind, _ in every],
        'seed': [run.seed for _, run in every],
        'training error (%)': [float(run['training_error']) for _, run in every],
        'test error (%)': [float(run['test_error']) for _, run in every],
    }
