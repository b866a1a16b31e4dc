"""The fingerprint of what a run computes in, and the devices it computes on."""

import importlib.metadata
import os

import jax
import pytest

from resnet_jax.runtime import environment, mesh


def test_the_fingerprint_names_what_decides_the_bits(monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_enable_fast_math=false')
    found = environment.fingerprint()
    assert found['jax'] == importlib.metadata.version('jax')
    assert 'XLA_FLAGS=--xla_cpu_enable_fast_math=false' in str(found['flags'])
    assert (found['devices'], found['platform']) == (jax.device_count(), jax.default_backend())


def test_an_environment_does_not_differ_from_itself():
    assert environment.differences(environment.environment(), environment.environment()) == []


@pytest.mark.parametrize('key', environment.fingerprint())
def test_every_entry_of_the_fingerprint_is_compared(key):
    present = environment.fingerprint()
    stored = present | {key: 'other'}
    assert environment.differences(stored, present) == [f'{key} other -> {present[key]}']
    assert environment.differences({}, {key: 'new'}) == [f'{key} None -> new']


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity') or os.cpu_count() == 1, reason='needs two processors')
def test_fewer_processors_are_a_difference():
    allowed = os.sched_getaffinity(0)
    before = environment.fingerprint()
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert environment.differences(before, environment.fingerprint()) == [f'cpus {len(allowed)} -> 1']
    finally:
        os.sched_setaffinity(0, allowed)


def test_all_devices_stand_along_the_axis_of_the_data():
    devices = mesh.data_mesh(8 * jax.device_count())
    assert devices.axis_names == ('data',) and devices.size == jax.device_count()
    assert mesh.whole(devices).is_fully_replicated


def test_the_commit_is_this_checkouts():
    commit = environment.environment()['commit']
    assert isinstance(commit, str) and (not commit or len(commit.rstrip('+')) >= 7)
