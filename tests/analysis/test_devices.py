"""Several devices: each analyses a share of the examples, and what is found is what one device finds."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from resnet_jax import config as configuration
from resnet_jax.analysis.shares import dealt, filled, spread
from resnet_jax.train import loop
from tests.analysis import on_devices

ROOT = Path(__file__).parents[2]
DEVICES, EVAL_BATCH = 8, 180  # of 359 test images: 184, 168 and 7

if jax.default_backend() != 'cpu' or jax.device_count() != 1:
    pytest.skip('compares one processor with several', allow_module_level=True)


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    """A run of one step, on one device, with examples held out."""
    config = configuration.load(str(ROOT / 'tests' / 'tiny.py') + ':preact_resnet14')
    config.network.stage_blocks = (1, 3)
    config.network.widths = (4, 8)
    config.data.selection = 41
    config.run.update(steps=12, eval_batch=EVAL_BATCH, eval_every=0)
    path = tmp_path_factory.mktemp('runs') / 'run'
    loop.train(config, path, lambda record: None)
    return path


@pytest.fixture(scope='module')
def both(run_dir, tmp_path_factory):
    """What several devices find, and what one does."""
    file = tmp_path_factory.mktemp('found') / 'several.npz'
    done = subprocess.run(
        [sys.executable, '-m', 'tests.analysis.on_devices', run_dir, file],
        env=os.environ | {'JAX_NUM_CPU_DEVICES': str(DEVICES)},
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(np.load(file)), on_devices.found(run_dir)


def test_the_same_is_found(both):
    """Counts and errors to the last example; other numbers within 1e-4 of the largest: float32, in another order."""
    several, one = both
    assert several.keys() == one.keys()
    exact = {name for name, values in one.items() if values.dtype.kind in 'biu' or 'error' in name} - {'shares', 'sent'}
    assert {'single_right', 'twice_right', 'pair_right', 'fresh_single_right', 'removal_error'} < exact
    for name in exact:
        np.testing.assert_array_equal(several[name], one[name], err_msg=name)
    for name in one.keys() - exact - {'shares', 'sent', 'flops', 'missed'}:
        largest = np.nanmax(np.abs(one[name]))
        np.testing.assert_allclose(several[name], one[name], rtol=0, atol=1e-4 * largest, err_msg=name)
    assert (np.abs([several['missed'], one['missed']]) < 1e-4).all()  # of the gradient: rounding itself


def test_lesions_are_felt_so_that_agreeing_is_no_accident(both):
    _, one = both
    assert len({int(right.sum()) for right in one['single_right']}) > 2
    assert one['single_right'].shape == (4, 359)


def test_every_device_had_its_share_of_the_examples(both):
    """Also of what every block is given, which is what the memory must hold; the few left over are on each."""
    several, one = both
    arrays = one['shares'].shape[1] - 1
    expected = [[count] + arrays * [share] for count, share in ((184, 23), (168, 21), (7, 7))]
    assert several['shares'].tolist() == expected
    assert one['shares'].tolist() == [[count] + arrays * [count] for count in (180, 179)]


def test_a_device_computes_its_share_alone_and_waits_for_none(both):
    several, one = both
    added = [float(np.diff(found['flops'])[0]) for found in both]  # by the examples, beside what the gates take
    assert DEVICES * added[0] == added[1] > 1e6
    assert several['sent'] == one['sent'] == 0


def test_one_device_has_all(tiny):
    """Then nothing is dealt, filled up or copied."""
    rows = jax.numpy.arange(7.0).reshape(7, 1, 1, 1)
    labels = jax.numpy.arange(7)
    assert [len(each) for _, each in dealt([(rows, labels)], 3)] == [3, 3, 1]
    assert spread(rows) is rows and filled(rows) is rows
