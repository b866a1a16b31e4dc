"""What analysis finds of a run, on as many devices as there are: `python on_devices.py RUN FILE` writes it as NPZ, with
the numbers of examples that each device had. In a process of its own, since devices are settled when JAX starts."""

import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import _adaptive_depth_measure
from resnet_jax import experiment
from resnet_jax import run as runs
from resnet_jax.analysis import paths, removal
from resnet_jax.analysis.sweep import _kept, split
from resnet_jax.progress import silent

EXAMPLES = 13  # no number of devices divides it


def found(run_dir: Path) -> dict[str, np.ndarray]:
    """Experiments and sweeps, of a test split that is odd in number."""
    run = runs.load(run_dir)
    return _lesions(run) | _paths(run) | _depth(run) | _features(run) | _shares(run) | _program(run)


def _lesions(run):
    lesion = experiment.find('lesion')
    config = lesion.get_config('cpu')
    config.update(draws=2, counts=(1, 2), stage_counts=(1,), examples=EXAMPLES, order_pairs=1, recalibration_batch=32,
                  recalibration_batches=1)  # fmt: skip
    return {name: array.values for name, array in lesion.measure(run, config, silent).items()}


def _paths(run):
    network, (images, labels) = run.network, run.examples('train', EXAMPLES)
    norms, missed = paths.sum_norms(network, run.variables, images, labels)
    drawn = paths.random_paths(np.random.default_rng(0), network.arch.blocks, 2, EXAMPLES)
    along = paths.path_norms(network, run.variables, images, labels, drawn)
    return {'path_sums': norms.image, 'missed': missed, 'path': along.image}


def _depth(run):
    parts = list(split(run.network, run.variables, run.chunks('test')))
    none = np.zeros(run.network.arch.blocks, bool)
    measured = _adaptive_depth_measure._blocks(run)
    left = removal.costs(run.network, run.variables, parts, none)
    return {'removal_error': left[:, 0], 'removal_loss': left[:, 1]} | {
        name: measured[name].values for name in ('size', 'change', 'estimate_mean')
    }


def _features(run):
    images = run.dataset.test.images[:EXAMPLES]
    return {'probabilities': run.predict(images), 'stage2': run.features(['stage2'], images)['stage2']}


def _shares(run):
    """Of every chunk of a sweep, the examples that each device had of its labels, of its images, of what every block is
    given, and of what comes out."""
    none, rows = np.zeros(run.network.arch.blocks, bool), []
    for images, labels in split(run.network, run.variables, run.chunks('test')):
        right, inputs = _kept(run.network, run.variables, images, labels, none)
        blocks = [stage[name] for stage in inputs for name in stage]
        axes = [(labels, 0), (images, 0), (right, 0), *((each, each.ndim - 4) for each in blocks)]
        rows.append([len(labels), *(each.sharding.shard_shape(each.shape)[axis] for each, axis in axes)])
    return {'shares': np.array(rows)}


def _program(run):
    """A device's FLOP for 16 and for 32 examples, and how often it waits for others, in the program for accelerators:
    that for CPUs convolves larger maps in chunks of examples, which every device then gathers."""
    programs = [_for_accelerators(run, examples) for examples in (16, 32)]
    sent = [re.findall(r' (all-gather|all-reduce|all-to-all|collective-permute)', each.as_text()) for each in programs]
    return {
        'flops': np.array([dict(each.cost_analysis() or {})['flops'] for each in programs]),
        'sent': np.array(len(sent[0])),
    }


def _for_accelerators(run, examples):
    none = np.zeros(run.network.arch.blocks, bool)
    ((images, labels),) = split(run.network, run.variables, [run.examples('test', examples)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, 'default_backend', lambda: 'gpu')
        return _kept.lower(run.network, run.variables, images, labels, none).compile()


if __name__ == '__main__':
    np.savez(sys.argv[2], **found(Path(sys.argv[1])))
