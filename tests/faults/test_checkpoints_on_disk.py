"""Checkpoints on a disk that is full, read-only or limited: one line, and what was saved before is still there."""

import resource
import threading

import jax.numpy as jnp
import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.runtime.checkpoint import Checkpoints
from tests.faults.disks import empty, leave, read_only, take, writable
from tests.mistakes import refused

LARGE = np.random.default_rng(0).integers(0, 2**31 - 99, 500_000, dtype=np.int32)  # 2 MB that cannot be compressed


def bits(state):
    return np.asarray(state['leaf']).tobytes()


def large(number):
    return {'leaf': jnp.asarray(LARGE + np.int32(number))}


def little(number):
    return {'leaf': jnp.full(3, number)}


def save(checkpoints, step, make=large):
    checkpoints.save(step, make(step))
    checkpoints.wait()


def test_a_full_disk_is_said_in_one_line_and_costs_no_checkpoint_that_was_there(small_disk):
    run_dir = small_disk / 'run'
    checkpoints = Checkpoints(run_dir, keep=9)
    save(checkpoints, 0)
    save(checkpoints, 5)
    take(small_disk, 2_500_000)
    message = refused(save, checkpoints, 10)
    assert 'the checkpoint of step 10 could not be saved' in message and 'No space left on device' in message
    assert 'step 5 is whole' in message
    for opened in (checkpoints, Checkpoints(run_dir, read_only=True), Checkpoints(run_dir, keep=9)):
        assert opened.steps == [0, 5]
        for step in (0, 5):
            assert bits(opened.restore(step, large(1))) == bits(large(step))

    empty(small_disk)
    for opened in (checkpoints, Checkpoints(run_dir, keep=9)):
        save(opened, 10)
        assert bits(opened.restore(10, large(1))) == bits(large(10))


def test_a_full_disk_at_the_first_save_says_that_there_is_nothing_yet(small_disk):
    take(small_disk, 6_000_000)
    message = refused(save, Checkpoints(small_disk / 'run'), 0)
    assert 'No space left on device' in message and 'no checkpoint was saved before' in message


def test_a_file_size_limit_is_said_in_one_line_and_costs_no_checkpoint_that_was_there(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9)
    save(checkpoints, 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        message = refused(save, checkpoints, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 'the checkpoint of step 5 could not be saved' in message and 'File too large' in message
    assert checkpoints.steps == [0]
    assert bits(Checkpoints(tmp_path, read_only=True).restore(0, large(1))) == bits(large(0))
    save(checkpoints, 5)
    assert bits(Checkpoints(tmp_path).restore(5, large(1))) == bits(large(5))


def test_however_little_space_is_left_a_save_is_whole_or_refused_and_leaves_nothing_behind(small_disk, figure):
    """Page by page: at some of them Orbax is done, and there is none for the manifest."""
    checkpoints, refusals = Checkpoints(small_disk / 'run', keep=9), []
    save(checkpoints, 0, little)
    for pages in range(60):
        leave(small_disk, pages)
        try:
            save(checkpoints, 5, little)
            break
        except UserError as error:
            refusals.append(str(error))
        assert Checkpoints(small_disk / 'run', read_only=True).steps == checkpoints.steps == [0]
        assert [path.name for path in (small_disk / 'run' / 'checkpoints').iterdir()] == ['0'], pages
        assert bits(checkpoints.restore(0, little(1))) == bits(little(0))
    assert len(refusals) > 10 and all('No space left on device' in said and '\n' not in said for said in refusals)
    assert bits(Checkpoints(small_disk / 'run').restore(5, little(1))) == bits(little(5))
    figure(
        'saves on a disk all but full', f'{len(refusals)} refused, nothing left behind; the one of {pages} pages whole'
    )


def test_a_read_only_disk_is_said_in_one_line_and_what_is_there_restores(small_disk):
    checkpoints = Checkpoints(small_disk, keep=9)
    save(checkpoints, 0)
    read_only(small_disk)
    threads = set(threading.enumerate())
    message = refused(save, checkpoints, 5)
    assert set(threading.enumerate()) <= threads  # the process would wait for them when it ends
    assert 'the checkpoint of step 5 could not be saved' in message and 'Read-only file system' in message
    for opened in (checkpoints, Checkpoints(small_disk, keep=9)):
        assert opened.steps == [0]
        assert bits(opened.restore(0, large(1))) == bits(large(0))
    writable(small_disk)
    save(checkpoints, 5)
    assert bits(Checkpoints(small_disk).restore(5, large(1))) == bits(large(5))
