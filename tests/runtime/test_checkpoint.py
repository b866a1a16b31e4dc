"""Checkpoints: what is saved comes back to the bit or not at all, and what crashes leave deceives nobody."""

import contextlib
import os
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.runtime import manifest
from resnet_jax.runtime.checkpoint import Checkpoints
from tests.mistakes import refused
from tests.runtime.states import bits, save, state


@pytest.fixture
def saved(tmp_path):
    """A run with checkpoints of steps 0, 4 and 8."""
    save(Checkpoints(tmp_path, keep=2, snapshots=(0,)), 0, 4, 8)
    return tmp_path


# Round trips


def test_a_state_comes_back_to_the_bit_with_its_structure(saved):
    restored = Checkpoints(saved).restore(8, state(99))
    assert jax.tree.structure(restored) == jax.tree.structure(state(8))
    assert bits(restored) == bits(state(8)) != bits(state(99))


def test_a_state_is_restored_where_only_its_shapes_are_known(saved):
    assert bits(Checkpoints(saved, read_only=True).restore(4, jax.eval_shape(state))) == bits(state(4))


def test_the_newest_are_kept_and_the_snapshots_for_good(saved):
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0, 12))
    save(checkpoints, 12, 16, 20, 24)
    assert checkpoints.steps == Checkpoints(saved, read_only=True).steps == [0, 12, 20, 24]
    assert bits(checkpoints.restore(0, state())) == bits(state(0))


def test_a_step_that_is_there_is_left_as_it_is(saved):
    checkpoints = Checkpoints(saved)
    checkpoints.save(8, state(7))
    checkpoints.wait()
    assert bits(Checkpoints(saved).restore(8, state())) == bits(state(8))


def test_reading_writes_nothing(saved, tmp_path_factory):
    before = {path: path.stat().st_mtime_ns for path in saved.rglob('*')}
    Checkpoints(saved, read_only=True).restore(8, state())
    assert {path: path.stat().st_mtime_ns for path in saved.rglob('*')} == before
    empty = tmp_path_factory.mktemp('empty')
    assert not Checkpoints(empty, read_only=True).steps and not list(empty.iterdir())


def test_all_of_a_checkpoint_is_on_the_disk_before_one_that_it_replaces_goes(saved, monkeypatch):
    folder, synced, sync = saved / 'checkpoints', set(), os.fsync

    def watched(descriptor):
        sync(descriptor)
        if (folder / '8' / manifest.NAME).exists():
            synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, 'fsync', watched)
    save(Checkpoints(saved), 12)
    assert not (folder / '8').exists()
    paths = [folder, folder / '12', *(folder / '12').rglob('*')]
    assert len(paths) > 5 and [path for path in paths if path.stat().st_ino not in synced] == []


# What does not fit


def test_a_step_that_is_not_there_is_refused_with_those_that_are(saved):
    assert 'has no checkpoint of step 5 (it has: 0, 4, 8)' in refused(Checkpoints(saved).restore, 5, state())
    assert '(it has: none)' in refused(Checkpoints(saved / 'new').restore, 5, state())


def without(tree, name):
    return {key: value for key, value in tree.items() if key != name}


@pytest.mark.parametrize(
    ('like', 'leaf', 'there', 'here'),
    [
        (state(width=2), 'opt_state/0/trace/conv/kernel', 'float32[3, 3, 3]', 'float32[3, 3, 2]'),
        (state() | {'half': jnp.zeros(5, jnp.float32)}, 'half', 'bfloat16[5]', 'float32[5]'),
        (state() | {'extra': jnp.zeros(2)}, 'extra', 'absent', 'float32[2]'),
        (without(state(), 'rng'), 'rng', 'uint32[2]', 'absent'),
        (state() | {'step': jnp.zeros((1,), jnp.int32)}, 'step', 'int32[]', 'int32[1]'),
    ],
    ids=['another shape', 'another dtype', 'a leaf more', 'a leaf less', 'another rank'],
)
def test_a_checkpoint_of_another_network_is_refused_at_its_first_leaf_that_differs(saved, like, leaf, there, here):
    message = refused(Checkpoints(saved).restore, 8, like)
    assert f'{leaf} is {there} there, {here} here' in message and 'another network' in message


# What crashes leave


@pytest.mark.parametrize('read_only', [False, True])
def test_an_empty_folder_of_a_steps_name_is_no_checkpoint(saved, read_only):
    (saved / 'checkpoints' / '9').mkdir()
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0,), read_only=read_only)
    assert checkpoints.steps == [0, 4, 8]
    assert 'no checkpoint of step 9' in refused(checkpoints.restore, 9, state())
    assert bits(checkpoints.restore(8, state())) == bits(state(8))


def test_an_empty_folder_takes_no_checkpoints_place(saved):
    """Neither is it counted among the newest that are kept, nor is its step taken for saved."""
    (saved / 'checkpoints' / '9').mkdir()
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0,))
    save(checkpoints, 9)
    assert Checkpoints(saved).steps == [0, 8, 9]
    assert bits(Checkpoints(saved).restore(9, state())) == bits(state(9))


@pytest.mark.parametrize('lost', ['_CHECKPOINT_METADATA', '_METADATA', 'd', 'ocdbt.process_0'])
def test_a_checkpoint_deleted_in_part_is_refused_and_set_aside_and_its_step_can_be_saved_anew(saved, lost):
    path = saved / 'checkpoints' / '8' / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f'8 is damaged ({lost}' in refused(Checkpoints(saved, read_only=True).restore, 8, state())
    checkpoints, notes = Checkpoints(saved, keep=2, snapshots=(0,)), []
    assert bits(checkpoints.restore_newest(state(), notes.append)[0]) == bits(state(4))
    (aside,) = (saved / 'checkpoints').glob('.8.damaged-*')
    assert len(notes) == 1 and notes[0].startswith(f'the checkpoint of step 8 is damaged ({lost}')
    assert aside.name in notes[0] and checkpoints.steps == [0, 4]
    save(checkpoints, 8)
    assert bits(Checkpoints(saved).restore(8, state())) == bits(state(8))


@pytest.mark.parametrize('lost', [(), ('_METADATA', 'd')])
def test_a_folder_without_a_manifest_is_no_checkpoint_and_is_removed_by_whoever_trains(saved, lost):
    """So a save looks that was killed behind Orbax's end, and one half deleted."""
    for name in (manifest.NAME, *lost):
        path = saved / 'checkpoints' / '8' / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert Checkpoints(saved, read_only=True).steps == [0, 4]
    assert (saved / 'checkpoints' / '8').exists()  # whoever reads leaves the files of one who may be writing
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0,))
    assert checkpoints.steps == [0, 4]
    assert sorted(path.name for path in (saved / 'checkpoints').iterdir()) == ['0', '4']
    save(checkpoints, 8)
    assert bits(Checkpoints(saved).restore(8, state())) == bits(state(8))


def test_a_save_that_was_killed_is_no_checkpoint_and_is_cleared_away(saved):
    folder = saved / 'checkpoints'
    shutil.copytree(folder / '8', folder / '12.orbax-checkpoint-tmp')
    assert Checkpoints(saved, read_only=True).steps == [0, 4, 8]
    assert (folder / '12.orbax-checkpoint-tmp').exists()
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0,))
    save(checkpoints, 12)
    assert checkpoints.steps == [0, 8, 12]
    assert sorted(path.name for path in folder.iterdir()) == ['0', '12', '8']


def test_where_none_is_whole_that_is_said_in_one_line_and_the_damaged_ones_are_still_there(saved):
    for path in saved.glob('checkpoints/*/_METADATA'):
        path.write_bytes(b'')
    notes = []
    message = refused(Checkpoints(saved).restore_newest, state(), notes.append)
    assert f'{saved}/checkpoints has no checkpoint that is whole' in message
    assert len(notes) == 3 == len(list(saved.glob('checkpoints/.*.damaged-*')))


# One process at a time


def test_a_place_elsewhere_is_held_by_whoever_saves_there_until_it_is_closed(tmp_path):
    place = str(tmp_path / 'elsewhere')
    one = Checkpoints(tmp_path / 'one', place)
    save(one, 4)
    message = refused(Checkpoints, tmp_path / 'other', place)
    assert f'another process saves in {place}; wait for it' in message
    assert Checkpoints(tmp_path / 'other', place, read_only=True).steps == [4]  # who only reads harms nobody
    one.close()
    other = Checkpoints(tmp_path / 'other', place)
    assert other.steps == [4]
    other.close()


# While a save goes on


def test_what_becomes_of_the_arrays_after_the_call_changes_nothing_that_is_saved(tmp_path):
    """Training gives its arrays away: the next step writes into the same memory."""
    step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    checkpoints, before = Checkpoints(tmp_path), step({'large': jnp.zeros(500_000), 'small': jnp.zeros(3)})
    checkpoints.save(1, before)
    after = before
    for _ in range(5):
        after = step(after)
    checkpoints.wait()
    restored = checkpoints.restore(1, after)
    assert all((np.asarray(leaf) == 1).all() for leaf in jax.tree.leaves(restored))


def test_a_step_is_listed_once_it_is_whole_and_not_before(saved):
    checkpoints = Checkpoints(saved, keep=3)
    checkpoints.save(12, state(12))
    while checkpoints.busy:
        listed = 12 in checkpoints.steps  # asked first: what is listed is whole from then on
        assert manifest.damage(checkpoints.directory / '12') == '' or not listed
    checkpoints.wait()
    assert checkpoints.steps[-1] == 12 and manifest.damage(checkpoints.directory / '12') == ''


def test_closing_waits_for_the_save_that_is_under_way(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1), {'jax': 'here'})
    checkpoints.close()
    restored, environment = Checkpoints(tmp_path, read_only=True).restore_newest(state(), pytest.fail)
    assert bits(restored) == bits(state(1)) and environment == {'jax': 'here'}


class Hanging(dict):
    """Whoever writes it down waits, as for a disk that hangs, until it is told to go on: 10 s at most."""

    def __init__(self):
        super().__init__(jax='here')
        self.go_on = threading.Event()

    def items(self):
        self.go_on.wait(10)
        return super().items()


def interrupt(checkpoints):
    with contextlib.ExitStack() as stack:
        stack.callback(checkpoints.close)
        raise KeyboardInterrupt


def test_a_save_that_hangs_is_told_of_and_an_interruption_does_not_wait_for_it(tmp_path):
    checkpoints, hanging = Checkpoints(tmp_path), Hanging()
    checkpoints.save(1, state(1), hanging)
    assert checkpoints.late(0.1).startswith(
        f'the checkpoint of step 1 is not written yet in {tmp_path}/checkpoints, which was waited for 0.1 s'
    )
    with pytest.raises(KeyboardInterrupt):
        interrupt(checkpoints)
    assert checkpoints.busy and checkpoints.steps == []
    hanging.go_on.set()
    checkpoints.close()
    assert checkpoints.late(0.1) == '' and checkpoints.steps == [1]
