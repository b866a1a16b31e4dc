"""The fingerprint of what a run computes in, and the devices it computes on."""

import importlib.metadata
import os
from types import SimpleNamespace

import jax
import pytest

from resnet_jax.cores import cores
from resnet_jax.data.batches import Share
from resnet_jax.runtime import environment, mesh


def test_the_fingerprint_names_what_decides_the_bits(monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_enable_fast_math=false')
    found = environment.fingerprint()
    assert found['jax'] == importlib.metadata.version('jax')
    assert 'XLA_FLAGS=--xla_cpu_enable_fast_math=false' in str(found['flags'])
    assert (found['devices'], found['platform']) == (jax.device_count(), jax.default_backend())


def test_where_programs_are_kept_decides_nothing(monkeypatch):
    before = environment.fingerprint()
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'elsewhere')
    assert environment.fingerprint() == before


def test_a_gpu_repeats_itself_only_where_it_is_told_to():
    there = environment.fingerprint() | {'platform': 'gpu'}
    (said,) = environment.differences(there, there)
    assert 'a GPU adds in any order' in said
    told = there | {'flags': f'XLA_FLAGS={environment.DETERMINISTIC}'}
    assert environment.differences(told, told) == []


def test_an_environment_does_not_differ_from_itself():
    assert environment.differences(environment.environment(), environment.environment()) == []


@pytest.mark.parametrize('key', environment.fingerprint())
def test_every_entry_of_the_fingerprint_is_compared(key):
    present = environment.fingerprint()
    stored = present | {key: 'other'}
    assert environment.differences(stored, present) == [f'{key} other -> {present[key]}']
    assert environment.differences({}, {key: 'new'}) == [f'{key} None -> new']


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity') or len(cores()) == 1, reason='needs two processors')
def test_fewer_processors_are_a_difference():
    allowed = os.sched_getaffinity(0)
    before = environment.fingerprint()
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert environment.differences(before, environment.fingerprint()) == [f'cpus {len(allowed)} -> 1']
    finally:
        os.sched_setaffinity(0, allowed)


def test_all_devices_stand_along_the_axis_of_the_data():
    devices = mesh.all_devices()
    assert devices.axis_names == ('data', 'fsdp') and devices.size == devices.shape['data'] == jax.device_count()
    assert mesh.whole(devices).is_fully_replicated


def test_each_process_has_one_part_of_a_batch_the_one_that_it_makes():
    """On a TPU v5e of 4x4 chips, which are numbered row by row, and of which each process has a square."""
    chips = [
        SimpleNamespace(id=4 * row + column, process_index=row // 2 * 2 + column // 2)
        for row in range(4)
        for column in range(4)
    ]
    assert [chip.process_index for chip in chips][:8] == [0, 0, 1, 1, 0, 0, 1, 1]
    along = mesh.in_order(reversed(chips))
    for process in range(4):
        own = Share(process, 4).of(along)
        assert [chip.id for chip in own] == [chip.id for chip in chips if chip.process_index == process]


def test_the_commit_is_this_checkouts():
    commit = environment.environment()['commit']
    assert isinstance(commit, str) and (not commit or len(commit.rstrip('+')) >= 7)
