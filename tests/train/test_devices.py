"""Several devices: the same training within float32's rounding, the same counts, and a run that moves between them."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from resnet_jax import run as runs
from resnet_jax.runtime import directory
from resnet_jax.train import loop

TINY = Path(__file__).parents[1] / 'tiny.py'
DEVICES, EVAL_BATCH = 4, 90  # neither 90 nor the 359 test images divide by 4

if jax.default_backend() != 'cpu' or jax.device_count() != 1:
    pytest.skip('compares one processor with several', allow_module_level=True)


def overrides(steps):
    return {'run.steps': steps, 'run.eval_batch': EVAL_BATCH, 'run.eval_every': 1, 'run.save_every': 1, 'run.keep': 9}


@pytest.fixture(scope='module')
def spread(tmp_path_factory):
    """The run of four devices, as processors of this machine, after three steps."""
    run_dir = tmp_path_factory.mktemp('runs') / 'spread'
    settings = [f'--config.{key}={value}' for key, value in overrides(3).items()]
    done = subprocess.run(
        [sys.executable, '-m', 'resnet_jax.cli', 'train', '--config', TINY, '--run', run_dir, *settings],
        env=os.environ
        | {'XLA_FLAGS': f'--xla_force_host_platform_device_count={DEVICES}', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
        cwd=TINY.parents[1], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return run_dir


def train(config, run_dir, steps):
    config.update_from_flattened_dict(overrides(steps))
    watched = []
    loop.train(config, run_dir, watched.append)
    return watched


@pytest.fixture(scope='module')
def single(tmp_path_factory, parts):
    """The same run on one device."""
    run_dir = tmp_path_factory.mktemp('runs') / 'single'
    train(parts.config.copy_and_resolve_references().unlock(), run_dir, 3)
    return run_dir


@pytest.mark.parametrize('step', [0, 1, 2, 3])
def test_four_devices_train_as_one_does(spread, single, step):
    """Within 2e-6 of the largest number of each leaf: a float32 has 6e-8, and sums of 128 images are split in four."""
    several, one = (runs.load(run_dir, step).state for run_dir in (spread, single))
    assert int(several.step) == int(one.step) == step
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(several), jax.tree.leaves(one), strict=True):
        leaf, other = np.asarray(leaf, np.float64), np.asarray(other, np.float64)
        assert np.abs(leaf - other).max() <= 2e-6 * max(1e-3, np.abs(other).max()), jax.tree_util.keystr(path)


def test_four_devices_evaluate_to_the_same_counts(spread, single):
    """Also where neither the batch nor the split divides by them."""
    several, one = (
        [record for record in directory.read_metrics(run_dir) if record['kind'] == 'test']
        for run_dir in (spread, single)
    )
    assert [record['step'] for record in several] == [1, 2, 3]
    for record, other in zip(several, one, strict=True):
        assert (record['examples'], record['correct']) == (359, other['correct'])
        assert record['loss'] == pytest.approx(other['loss'], rel=1e-5)
    assert runs.load(spread).evaluate().correct == several[-1]['correct']


def test_a_run_of_four_devices_goes_on_on_one_and_says_that_it_is_not_exact(spread, config):
    notes = [record['text'] for record in train(config, spread, 5) if record['kind'] == 'note']
    assert len(notes) == 1
    assert notes[0].startswith('resumed within float tolerance (') and notes[0].endswith('at step 3')
    assert 'devices 4 -> 1' in notes[0]
    assert runs.load(spread).step == 5
