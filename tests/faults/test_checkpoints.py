"""Checkpoints that are damaged, or whose process is killed: an error or the one before, never a wrong state."""

import contextlib
import random
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.runtime import manifest
from resnet_jax.runtime.checkpoint import Checkpoints
from tests.faults.conftest import ROOT
from tests.mistakes import refused


def state(step, size=4_000):
    """Arrays that cannot be compressed and that say which step they are of."""
    numbers = np.random.default_rng(0).integers(0, 2**31 - 99_999, (3, size), dtype=np.int32)
    return {f'leaf{number}': jnp.asarray(row + np.int32(step)) for number, row in enumerate(numbers)}


def bits(tree):
    return [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


@pytest.fixture
def saved(tmp_path):
    """A run with checkpoints of steps 4 and 8."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (4, 8):
        checkpoints.save(step, state(step))
        checkpoints.wait()
    return tmp_path


@pytest.fixture
def newest(saved):
    return saved / 'checkpoints' / '8'


def files(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file())


def falls_back(saved, name):
    """Restoring step 8 is refused with the file's name; who takes the newest gets step 4, and is told; undone after."""
    said = refused(Checkpoints(saved, read_only=True).restore, 8, state(0))
    assert f'{saved}/checkpoints/8 is damaged' in said and name in said
    notes = []
    restored, _ = Checkpoints(saved, keep=2).restore_newest(state(0), notes.append)
    assert bits(restored) == bits(state(4))
    (aside,) = (saved / 'checkpoints').glob('.8.damaged-*')
    assert len(notes) == 1 and 'step 8 is damaged' in notes[0] and name in notes[0] and aside.name in notes[0]
    assert Checkpoints(saved).steps == [4]
    aside.rename(saved / 'checkpoints' / '8')


# Damaged files


def flips(folder, number):
    """(file, byte, bit): one in every file, the others uniform over the bytes of all."""
    draw, found = random.Random(0), files(folder)
    sizes = [path.stat().st_size for path in found]
    chosen = found + draw.choices(found, sizes, k=number - len(found))
    return [(path, draw.randrange(path.stat().st_size), draw.randrange(8)) for path in chosen]


def flip(path, byte, bit):
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def test_a_flipped_bit_is_refused_wherever_it_is_and_the_checkpoint_before_is_used(saved, newest, faults_full, figure):
    drawn = flips(newest, 500 if faults_full else 40)
    assert {path for path, _, _ in drawn} == set(files(newest))
    for path, byte, bit in drawn:
        flip(path, byte, bit)
        falls_back(saved, str(path.relative_to(newest)))
        flip(path, byte, bit)
    assert bits(Checkpoints(saved).restore(8, state(0))) == bits(state(8))
    figure('bits flipped in a checkpoint', f'{len(drawn)} of {len(drawn)} refused, 0 restored in silence')


def test_control_without_the_manifest_flipped_bits_are_restored_in_silence(saved, newest, faults_full, figure):
    drawn, wrong, checkpoints = flips(newest, 200 if faults_full else 40), 0, Checkpoints(saved)
    for path, byte, bit in drawn:
        flip(path, byte, bit)
        with contextlib.suppress(Exception):  # whatever Orbax says of it, it says something
            wrong += bits(checkpoints._read(8, state(0))) != bits(state(8))
        flip(path, byte, bit)
    assert wrong > 0
    figure('the same without the manifest', f'{wrong} of {len(drawn)} restored wrong in silence')


def test_a_file_cut_emptied_or_deleted_is_named_and_the_checkpoint_before_is_used(saved, newest):
    for path in files(newest):
        sound, name = path.read_bytes(), str(path.relative_to(newest))
        for harm in (
            lambda path, data: path.write_bytes(data[: len(data) // 2]),
            lambda path, _: path.write_bytes(b''),
        ):
            harm(path, sound)
            falls_back(saved, name)
        if name != manifest.NAME:  # a folder without one is no checkpoint
            path.unlink()
            falls_back(saved, name)
        path.write_bytes(sound)
    assert bits(Checkpoints(saved).restore(8, state(0))) == bits(state(8))


# What else may lie there


def strays(folder):
    """Beside a checkpoint of step 8: what is none, whole copies of it among them."""
    for name in ('.7.damaged-1', '12.orbax-checkpoint-tmp-1', 'abc', '012', '-3', '٩'):
        shutil.copytree(folder / '8', folder / name)
    (folder / '7').mkdir()
    (folder / '9').write_text('')
    return Checkpoints(folder.parent, keep=2, read_only=True), Checkpoints(folder.parent, keep=2)


def test_what_only_looks_like_a_checkpoint_is_neither_listed_nor_restored_nor_in_the_way(saved):
    for opened in strays(saved / 'checkpoints'):
        assert opened.steps == [4, 8]
        for step in (7, 9, 12):
            assert f'no checkpoint of step {step} (it has: 4, 8)' in refused(opened.restore, step, state(0))
        assert bits(opened.restore_newest(state(0), pytest.fail)[0]) == bits(state(8))
    for step in (9, 12):
        opened.save(step, state(step))
        opened.wait()
    assert Checkpoints(saved, read_only=True).steps == opened.steps == [9, 12]
    for step in opened.steps:
        assert bits(opened.restore(step, state(0))) == bits(state(step))


# Killed


CHILD = """
import sys
from pathlib import Path
from resnet_jax.runtime.checkpoint import Checkpoints
from tests.faults.test_checkpoints import SIZE, state

checkpoints, step = Checkpoints(Path(sys.argv[1]), keep=2), int(sys.argv[2])
state(0, SIZE)
print(step, flush=True)  # it begins
while True:
    step += 1
    checkpoints.save(step, state(step, SIZE))
    checkpoints.wait()
    print(step, flush=True)
"""
SIZE = 500_000  # 6 MB a checkpoint
PERIOD = 1.5  # seconds in which it is killed: some ten saves


def killed(run_dir, step, seconds):
    """Lets a child save and delete from that step on, and kills it: the last step that it has waited for."""
    command = [sys.executable, '-c', CHILD, str(run_dir), str(step)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        first = child.stdout.readline()
        time.sleep(seconds)  # the moment that is drawn
        child.kill()
        lines = (first + child.stdout.read()).splitlines(keepends=True)
    assert child.returncode == -9 and lines[0] == f'{step}\n'
    return int([line for line in lines if line.endswith('\n')][-1])


def test_after_a_kill_at_any_moment_all_that_is_listed_is_right(tmp_path, faults_full, figure):
    kills, draw, folder = 50 if faults_full else 5, random.Random(0), tmp_path / 'checkpoints'
    step, halves, checked = 0, 0, 0
    for _ in range(kills):
        waited_for = killed(tmp_path, step, draw.uniform(0, PERIOD))
        halves += any(not (path / manifest.NAME).exists() for path in folder.iterdir())
        checkpoints = Checkpoints(tmp_path, keep=2)
        assert waited_for == 0 or checkpoints.steps[-1] >= waited_for
        for each in checkpoints.steps:
            assert manifest.damage(checkpoints.directory / str(each)) == ''
            assert bits(checkpoints.restore(each, state(0, SIZE))) == bits(state(each, SIZE))
        assert {path.name for path in folder.iterdir()} == set(map(str, checkpoints.steps))  # nothing half done
        step, checked = checkpoints.steps[-1] if checkpoints.steps else 0, checked + len(checkpoints.steps)
    assert halves or not faults_full  # the moments were those that matter
    figure('processes killed while saving', f'{kills}, of which {halves} left something half done; '
           f'{step} saves, {checked} checkpoints restored, none wrong')  # fmt: skip
