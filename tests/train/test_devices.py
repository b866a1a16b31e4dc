"""Several devices: the same training within float32's rounding, the same counts, and a run that moves between them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from resnet_jax import run as runs
from resnet_jax.runtime import directory
from resnet_jax.train import loop
from tests.train import spread

DEVICES, STEPS, EVAL_BATCH = 8, 3, 90  # neither 90 nor the 359 test images divide by 8
EACH = {'run.steps': STEPS, 'run.eval_batch': EVAL_BATCH, 'run.eval_every': 1, 'run.save_every': 1, 'run.keep': 9}
WIDE = {'network.widths': [8, 16, 64]}  # its last stage has arrays that are worth cutting

# The settings of each run, and those that it has on several devices alone.
CASES = {
    'as it comes': ({}, {}),
    'parameters cut over four': (WIDE, {'run.fsdp': 4}),
    'LAMB and its state cut over eight, an average, clipped': (
        {**WIDE, 'train.optimizer': 'lamb', 'train.ema': 0.5, 'train.clip_norm': 0.5, 'train.undecayed': ['bias']},
        {'run.fsdp': 8},
    ),
    'two microbatches': ({'train.microbatches': 2}, {'run.fsdp': 2}),
    "BN in groups of a device's share": ({'network.norm_examples': 16}, {}),
}
RUNS = ('parameters cut over four', 'LAMB and its state cut over eight, an average, clipped')  # that the loop trains

if jax.default_backend() != 'cpu' or jax.device_count() != 1:
    pytest.skip('compares one processor with several', allow_module_level=True)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Directories by case, of the runs of eight devices (`several`) and of one (`one`), and `apart`, by case: how far
    steps in float64 are from each other."""
    folder = tmp_path_factory.mktemp('runs')
    several, one = ({case: folder / f'{kind} {case}' for case in RUNS} for kind in ('several', 'one'))
    settings = {case: {**EACH, **both, **own} for case, (both, own) in CASES.items()}
    wanted = {'runs': [(str(several[case]), settings[case]) for case in RUNS], 'float64': [*settings.values()]}
    (folder / 'wanted.json').write_text(json.dumps(wanted))
    root = Path(__file__).parents[2]
    environment = {'JAX_NUM_CPU_DEVICES': str(DEVICES), 'PYTHONPATH': str(root)}
    child = subprocess.Popen([sys.executable, spread.__file__, folder / 'wanted.json'], env=os.environ | environment,
                             cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    with jax.numpy_dtype_promotion('standard'):  # optax's Adam raises a float to the power of a whole number
        for case in RUNS:
            loop.train(spread.settled({**EACH, **CASES[case][0]}), one[case], lambda record: None)
    out, error = child.communicate(timeout=300)
    assert child.returncode == 0, error
    return SimpleNamespace(several=several, one=one, apart=dict(zip(CASES, json.loads(out), strict=True)))


@pytest.mark.parametrize('case', CASES)
def test_in_float64_steps_on_eight_devices_are_those_on_one(trained, case):
    """Parameters, statistics, optimizer state and average after three steps; LAMB divides by numbers near 0."""
    assert trained.apart[case] <= (1e-7 if 'LAMB' in case else 1e-11)


@pytest.mark.parametrize('case', RUNS)
def test_in_float32_the_first_step_of_a_run_on_eight_devices_is_that_on_one(trained, case):
    """Within 5e-6 of the largest number of each leaf: a float32 has 6e-8, and sums of 128 images are split in eight.
    (Later ReLUs turn whose inputs lie that near 0.) LAMB's directions are quotients of small numbers: 1e-4."""
    tolerance = 1e-4 if 'LAMB' in case else 5e-6
    for step in (0, 1):
        several, one = (runs.load(found[case], step).state for found in (trained.several, trained.one))
        assert int(several.step) == int(one.step) == step and int(several.skipped) == 0
        for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(several), jax.tree.leaves(one), strict=True):
            leaf, other = np.asarray(leaf, np.float64), np.asarray(other, np.float64)
            where = f'step {step}: {jax.tree_util.keystr(path)}'
            assert np.abs(leaf - other).max() <= (tolerance if step else 0) * max(1e-3, np.abs(other).max()), where


def test_control_another_seed_is_further_off_than_that(trained, tmp_path):
    loop.train(spread.settled({**EACH, **WIDE, 'seed': 1}), tmp_path, lambda record: None)
    one, other = (
        runs.load(path).state.params['stem']['conv1']['kernel']
        for path in (trained.one['parameters cut over four'], tmp_path)
    )
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


@pytest.mark.parametrize('case', RUNS)
def test_eight_devices_evaluate_to_the_same_counts(trained, case):
    """Also where neither the batch nor the split divides by them."""
    several, one = (
        [record for record in directory.read_metrics(found[case]) if record['kind'] == 'test']
        for found in (trained.several, trained.one)
    )
    assert [record['step'] for record in several] == [1, 2, 3]
    for record, other in zip(several, one, strict=True):
        assert record['examples'] == 359 and abs(record['correct'] - other['correct']) <= ('LAMB' in case)
        assert record['loss'] == pytest.approx(other['loss'], rel=1e-4 if 'LAMB' in case else 1e-5)
    assert runs.load(trained.several[case]).evaluate().correct == several[-1]['correct']


def test_a_run_of_eight_devices_goes_on_on_one_and_says_that_it_is_not_exact(trained):
    path, notes = trained.several['parameters cut over four'], []
    before = runs.load(path, STEPS).state
    config = spread.settled({**EACH, **WIDE, 'run.steps': STEPS + 2})
    loop.train(config, path, lambda record: notes.append(record.get('text', '')))
    said = [note for note in notes if note]
    assert len(said) == 1
    assert said[0].startswith('resumed within float tolerance (') and said[0].endswith('at step 3')
    assert 'devices 8 -> 1' in said[0]
    assert runs.load(path).step == STEPS + 2
    again = runs.load(path, STEPS).state
    jax.tree.map(np.testing.assert_array_equal, before, again)
