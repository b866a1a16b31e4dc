"""What a record says of speed follows from images a second and the network's own cost."""

import jax
import pytest

from resnet_jax.planning import devices
from resnet_jax.planning.devices import Device
from resnet_jax.runtime import directory
from resnet_jax.train import loop
from resnet_jax.train.rates import rates
from tests.records import TIMED


@pytest.fixture
def resnet20(make_arch):
    """0.04081 G multiply-adds an image (He et al. 2015: 41 M)."""
    return make_arch(placement='original', shortcut='A', stem_width=16, widths=(16, 32, 64), stage_blocks=(3, 3, 3),
                     image_shape=(32, 32, 3))  # fmt: skip


def test_operations_are_six_a_multiply_add_of_every_device(resnet20):
    found = rates(resnet20, 10_000.0, 'float32')
    assert found['images_per_second'] == 10_000
    assert found['images_per_second_per_device'] == pytest.approx(10_000 / jax.device_count(), abs=0.1)
    assert found['teraflops_per_device'] * jax.device_count() == pytest.approx(6 * 0.04081 * 10, rel=0.01)


def test_the_share_of_the_peak_is_that_of_the_dtype_that_is_computed_in(resnet20, monkeypatch):
    monkeypatch.setitem(devices.DEVICES, 'this', Device(bfloat16=100e12, float32=50e12))
    monkeypatch.setitem(devices.KINDS, jax.devices()[0].device_kind, 'this')
    one, other = (rates(resnet20, 1e6, dtype) for dtype in ('float32', 'bfloat16'))
    assert one['mfu'] == pytest.approx(100 * one['teraflops_per_device'] / 50, abs=0.01)
    assert other['mfu'] == pytest.approx(one['mfu'] / 2, abs=0.01)


def test_of_a_device_that_nobody_knows_no_share_is_said(resnet20, monkeypatch):
    monkeypatch.delitem(devices.KINDS, jax.devices()[0].device_kind, raising=False)
    assert 'mfu' not in rates(resnet20, 1e6, 'float32')


def test_every_kind_that_is_known_is_a_device_of_the_plan():
    assert set(devices.KINDS.values()) == devices.DEVICES.keys() - {'cpu'}


def test_the_records_of_a_run_have_them(config, tmp_path):
    loop.train(config, tmp_path, lambda record: None)
    trained = [record for record in directory.read_metrics(tmp_path) if record['kind'] == 'train']
    assert all(TIMED - {'mfu'} <= record.keys() for record in trained)
