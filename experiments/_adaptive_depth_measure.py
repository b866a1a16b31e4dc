"""What the adaptive-depth experiment measures on each run, and how runs are grouped."""

import json
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.analysis import depth, removal
from resnet_jax.analysis.lesion import deletion
from resnet_jax.analysis.probes import probe
from resnet_jax.analysis.sweep import split, sweep
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.progress import Progress
from resnet_jax.report.findings import Array
from resnet_jax.run import Run

METHODS = ('greedy', 'by cost', 'by size')  # the orders in which blocks are removed


def measure(run: Run, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Of each block what it does and what is known behind it; the errors while blocks are removed."""
    if not len(run.dataset.selection.labels):
        raise UserError(
            f'{run.path} has no selection split, on which blocks to remove are chosen; give a run with data.selection '
            'above 0'
        )
    progress('looking at blocks', 0, 1)
    found = _blocks(run)
    progress('probing blocks', 0, 1)
    return found | _read_outs(run, config) | _removal(run, found['size'].values, progress)


def _blocks(run: Run) -> dict[str, Array]:
    """Means over the examples of the selection split: by their sizes, blocks will be chosen."""
    network, variables = run.network, run.variables
    parts = [
        [np.asarray(rows, float) for rows in depth.blocks(network, variables, *part)]
        for part in split(network, variables, run.chunks('selection'))
    ]
    by_example = [np.concatenate(rows, axis=1) for rows in zip(*parts, strict=True)]
    size, change, cosine, distance, squared, mean, square = (rows.mean(axis=1) for rows in by_example)
    unit = np.sqrt(square - mean**2)
    deviation = np.sqrt(np.maximum(squared - distance**2, 0))
    return {
        'size': Array(size, ('block',), 'of the input'),
        'change': Array(change, ('block',), 'of the input'),
        'cosine': Array(cosine, ('block',), ''),
        'estimate_mean': Array(distance / unit, ('block',), "standard deviations of the stage's output"),
        'estimate_spread': Array(deviation / unit, ('block',), "standard deviations of the stage's output"),
        'gain': Array(depth.gains(network.arch, variables), ('block',), ''),
    }


def _read_outs(run: Run, config: ConfigDict) -> dict[str, Array]:
    """Test errors of the classifier behind each block of the last stage, and of a linear probe behind every block."""
    network, variables = run.network, run.variables
    test = list(split(network, variables, run.chunks('test')))
    of_head = [
        np.asarray(depth.read_outs(network, variables, images)).argmax(axis=-1) == np.asarray(labels)
        for images, labels in test
    ]
    of_probe = probe(network, variables, split(network, variables, run.chunks('train')), test, config.penalty)
    return {
        'read_out_error': Array(_error(np.concatenate(of_head, axis=1)), ('block of the last stage',), '%'),
        'probe_error': Array(_error(of_probe), ('place',), '%'),
    }


def _removal(run: Run, sizes: np.ndarray, progress: Progress) -> dict[str, Array]:
    """The orders, chosen on the selection split, and the errors they lead to on the test split."""
    network, variables, arch = run.network, run.variables, run.network.arch
    selection = list(split(network, variables, run.chunks('selection')))
    order, left = removal.greedy(network, variables, selection, progress=progress)
    alone = removal.costs(network, variables, selection, np.zeros(arch.blocks, bool))
    orders = np.array([order, removal.cheapest(alone), removal.smallest(arch, sizes)])
    chosen = [order[:count] for order in orders for count in range(orders.shape[1] + 1)]
    lesions = np.array([*(deletion(arch, (blocks + 1).tolist()) for blocks in chosen), *removal.cuts(arch)])
    different, where = np.unique(lesions, axis=0, return_inverse=True)
    _, right = sweep(network, variables, run.chunks('test'), different, progress=progress)
    errors = _error(right)[where]
    cuts = len(removal.cuts(arch))
    whole = run.evaluate('selection').error
    return {
        'order': Array(orders + 1, ('method', 'step'), 'number from 1'),
        'selection_error': Array(np.array([whole, *left[:, 0]]), ('removed',), '%'),  # of greedy removal
        'test_error': Array(errors[:-cuts].reshape(len(METHODS), -1), ('method', 'removed'), '%'),
        'cut_error': Array(errors[-cuts:], ('blocks of a stage',), '%'),
    }


def _error(right: np.ndarray) -> np.ndarray:
    """Percent of the examples (last axis) that are not right."""
    return 100 * (1 - right.mean(axis=-1))


# What is made of it


def removable(run: Measured, bound: float) -> int:
    """The most blocks removed, greedily, at which the selection error is within `bound` points of the whole's."""
    errors = run['selection_error']
    return int(np.flatnonzero(errors <= errors[0] + bound + 1e-9).max())


def fewest(run: Measured, bound: float) -> int:
    """The fewest blocks that keep the accuracy, by greedy removal."""
    return run.arch.blocks - removable(run, bound)


def error_of_fewest(run: Measured, bound: float) -> float:
    """Their error on the test split, percent."""
    return float(run['test_error'][0, removable(run, bound)])


def definition(run: Measured) -> dict:
    """The settings that define a run, but for its seed."""
    assert run.config is not None
    return {key: value for key, value in spec.definition(run.config).items() if key != 'seed'}


def kinds(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Runs that differ in their seed alone together, by seed; the main run's kind first."""
    found: dict[str, list[Measured]] = {}
    for run in measured:
        found.setdefault(json.dumps(definition(run), sort_keys=True), []).append(run)
    return [sorted(group, key=lambda run: run.seed) for group in found.values()]


def apart(one: Measured, other: Measured) -> set[str]:
    """The settings in which two runs differ, but for their seed."""
    ours, theirs = definition(one), definition(other)
    return {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}


def depths(measured: Sequence[Measured]) -> list[list[Measured]]:
    """The main run's kind and those that differ from it in depth alone, from shallow to deep."""
    groups = kinds(measured)
    alike = [group for group in groups if apart(group[0], groups[0][0]) <= {'network.stage_blocks'}]
    return sorted(alike, key=lambda group: group[0].depth)


def tasks(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Kinds of the main network trained on some classes and as many images, from few classes to many."""
    groups = kinds(measured)
    main = groups[0][0]
    of = {'data.classes', 'data.examples', 'data.selection'}
    found = [group for group in groups if 'data.classes' in apart(group[0], main) <= of]
    return sorted(found, key=lambda group: definition(group[0])['data.classes'])


def stochastic(measured: Sequence[Measured]) -> list[Measured]:
    """The main network trained with stochastic depth; [] where it was not."""
    groups = kinds(measured)
    found = [group for group in groups if apart(group[0], groups[0][0]) == {'network.survival'}]
    return found[0] if found else []


def gated(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Kinds whose blocks have a learned gate."""
    return [group for group in kinds(measured) if np.isfinite(group[0]['gain']).any()]


def label(run: Measured) -> str:
    """A short name for a kind of network."""
    settings = definition(run)
    words = [f'{run.depth} layers']
    if run.arch.survival != 1:
        words.append('stochastic depth')
    if run.arch.gain != 'none':
        words.append({'skipinit': 'SkipInit', 'rezero': 'ReZero'}.get(run.arch.gain, run.arch.gain))
    if settings['data.classes']:
        words.append(f'{settings["data.classes"]} classes')
    if settings['data.examples']:
        words.append(f'{settings["data.examples"]} images')
    return ', '.join(words)
