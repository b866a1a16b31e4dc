"""Which checkpoints are kept: the newest, the best, and those for good."""

import pytest

from resnet_jax.runtime.checkpoint import Checkpoints
from tests.runtime.states import bits, save, state

ERRORS = {1: 30.0, 2: 20.0, 3: 20.0, 4: 25.0, 5: 40.0}


def kept(folder, errors, *steps, **settings):
    """The steps on the disk after these were saved, each with its error known before it is saved."""
    checkpoints = Checkpoints(folder, **settings)
    for step in steps:
        checkpoints.errors |= {step: errors[step]} if step in errors else {}
        save(checkpoints, step)
    assert checkpoints.steps == Checkpoints(folder, read_only=True).steps
    return checkpoints.steps


@pytest.mark.parametrize(
    ('settings', 'steps'),
    [
        ({'keep': 1}, [5]),
        ({'keep': 2, 'snapshots': (1,)}, [1, 4, 5]),
        ({'keep': 1, 'keep_best': 1}, [2, 5]),  # of equal ones the earlier
        ({'keep': 1, 'keep_best': 2}, [2, 3, 5]),
        ({'keep': 1, 'keep_best': 3, 'snapshots': (1,)}, [1, 2, 3, 4, 5]),
        ({'keep': 9, 'keep_best': 9}, [1, 2, 3, 4, 5]),
    ],
)
def test_the_newest_the_best_and_the_snapshots_are_kept_and_no_others(tmp_path, settings, steps):
    assert kept(tmp_path, ERRORS, 1, 2, 3, 4, 5, **settings) == steps


def test_a_step_whose_error_is_not_known_is_none_of_the_best(tmp_path):
    assert kept(tmp_path, {2: 90.0}, 1, 2, 3, 4, keep=1, keep_best=3) == [2, 4]


def test_the_best_are_kept_across_a_restart_that_is_told_their_errors(tmp_path):
    assert kept(tmp_path, ERRORS, 1, 2, 3, keep=1, keep_best=1) == [2, 3]
    again = Checkpoints(tmp_path, keep=1, keep_best=1)
    again.errors.update(ERRORS)
    save(again, 4, 5)
    assert again.steps == [2, 5]
    assert bits(again.restore(2, state())) == bits(state(2))


def test_what_a_restart_keeps_less_of_is_removed_at_its_next_save(tmp_path):
    assert kept(tmp_path, {}, 1, 2, 3, keep=3) == [1, 2, 3]
    assert kept(tmp_path, {}, 4, keep=2) == [3, 4]
