"""Compiled programs are kept for whoever runs them, and for nobody else."""

import os
import subprocess
import sys

import pytest

from resnet_jax.cores import cores
from resnet_jax.runtime import compiled
from tests.slurm import ROOT


@pytest.fixture
def untold(monkeypatch, tmp_path):
    """The folder where programs are kept, of an environment that says nothing of them."""
    for name in (compiled.FOLDER, 'JAX_ENABLE_COMPILATION_CACHE', 'JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS'):
        monkeypatch.setenv(name, '')  # and back, when the test has ended, whatever was set in it
        monkeypatch.delenv(name)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path / 'resnet_jax' / 'compiled'


# Whose compilation takes longer than what is not worth keeping.
PROGRAM = """
from resnet_jax.cores import cores
from resnet_jax.runtime import compiled
assert compiled.keep() == ''
import jax
jax.jit(lambda x: sum(jax.numpy.sort(x * number) for number in range(40)))(jax.numpy.ones(99)).block_until_ready()
"""


def test_a_program_is_kept_in_the_cache_folder_and_the_next_process_has_it(untold):
    def run():
        subprocess.run([sys.executable, '-c', PROGRAM], cwd=ROOT, env=os.environ, check=True)
        return {path.name for path in untold.glob('*/*-cache')}

    first = run()
    assert first and untold.stat().st_mode & 0o777 == 0o700
    assert run() == first


def test_what_was_told_holds(untold, monkeypatch):
    monkeypatch.setenv('JAX_ENABLE_COMPILATION_CACHE', 'false')
    assert compiled.keep() == '' and compiled.FOLDER not in os.environ and not untold.exists()
    monkeypatch.delenv('JAX_ENABLE_COMPILATION_CACHE')
    monkeypatch.setenv(compiled.FOLDER, '/elsewhere')
    assert compiled.keep() == '' and os.environ[compiled.FOLDER] == '/elsewhere' and not untold.exists()


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity') or len(cores()) == 1, reason='needs two processors')
def test_a_process_of_fewer_cores_has_programs_of_its_own_though_it_was_told_of_others(untold):
    """XLA cuts a program's loops for so many cores, and JAX would take it for any."""
    assert compiled.keep() == ''
    allowed, before = os.sched_getaffinity(0), os.environ[compiled.FOLDER]
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert compiled.keep() == ''
    finally:
        os.sched_setaffinity(0, allowed)
    one, all_of_them = (os.path.basename(folder) for folder in (os.environ[compiled.FOLDER], before))
    assert one.startswith('1-') and all_of_them.startswith(f'{len(allowed)}-')
    assert one.partition('-')[2] == all_of_them.partition('-')[2]


def test_nothing_is_kept_where_others_can_write(untold):
    untold.mkdir(parents=True)
    untold.chmod(0o770)
    assert 'others can write there' in compiled.keep() and compiled.FOLDER not in os.environ


def test_nothing_is_kept_where_there_is_no_folder_to_be(untold, monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert 'Not a directory' in compiled.keep()
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    assert 'there is no home' in compiled.keep() and compiled.FOLDER not in os.environ


def test_beyond_the_limit_those_go_that_were_not_used_for_the_longest_time(untold, monkeypatch):
    for used, name in enumerate(('of two cores/c', 'of two cores/a', 'of one/b')):
        (untold / name).parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        (untold / name).write_bytes(bytes(100))
        os.utime(untold / name, (used, 9 - used))
    untold.chmod(0o700)
    monkeypatch.setattr(compiled, 'LIMIT', 250)
    assert compiled.keep() == '' and {path.name for path in untold.glob('*/*')} == {'a', 'b'}
