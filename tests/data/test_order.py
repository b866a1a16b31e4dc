"""Which examples a step trains on: a pure function of seed and step, through phases and repeats."""

import hashlib

import numpy as np
import pytest

from configs import default
from resnet_jax.data.order import order, plan

COUNT = 143


def test_an_epoch_is_a_permutation():
    for epoch in range(5):
        np.testing.assert_array_equal(np.sort(order(0, epoch, COUNT)), np.arange(COUNT))


def test_no_two_epochs_and_no_two_seeds_share_an_order():
    assert len({tuple(order(seed, epoch, COUNT)) for seed in range(4) for epoch in range(5)}) == 20


def test_the_order_is_the_same_for_good():
    digest = hashlib.sha256(order(7, 3, 50_000).astype('<i4').tobytes()).hexdigest()
    assert digest[:16] == '5d67cbeacb5599f7'


def test_every_place_of_an_epoch_holds_every_example_equally_often():
    first = np.array([order(0, epoch, COUNT)[0] for epoch in range(300)])
    assert abs(first.mean() - (COUNT - 1) / 2) < 4 * COUNT / np.sqrt(12 * len(first))
    assert len(set(first)) > 100  # 125 of 143 expected


def made(examples=COUNT, batch=20, repeats=1, **phases):
    config = default.get_config()
    config.train.batch_size, config.data.repeats = batch, repeats
    config.train.phases.update(phases)
    return plan(config, examples, 32)


def test_the_steps_of_an_epoch_are_its_order_cut_in_pieces():
    schedule = made()
    for epoch in range(3):
        steps = [schedule.batch(step) for step in range(7 * epoch, 7 * epoch + 7)]
        np.testing.assert_array_equal(np.concatenate(steps), order(0, epoch, COUNT)[:140])
    assert [schedule.epoch_end(step) for step in (0, 6, 7, 13)] == [7, 7, 14, 14]


def test_with_repeats_each_example_of_a_batch_is_in_it_so_many_times():
    schedule = made(batch=24, repeats=3)
    epoch = np.concatenate([schedule.batch(step) for step in range(5)])
    np.testing.assert_array_equal(epoch, np.repeat(order(0, 0, COUNT)[:40], 3))
    assert schedule.steps(1) == 5  # as many steps as without: fewer examples are seen


def test_phases_follow_one_another_with_their_sizes_and_batches():
    schedule = made(epochs=(2, 1, 1), pixels=(96, 128, 224), batch_sizes=(40, 20, 13))
    moments = [schedule.at(step) for step in range(6 + 7 + 11 * 3)]
    sizes = [(moment.phase.pixels, moment.phase.batch) for moment in moments]
    assert sizes == [(96, 40)] * 6 + [(128, 20)] * 7 + [(224, 13)] * 33  # the last one goes on to the end
    assert [moment.epoch for moment in moments] == [0] * 3 + [1] * 3 + [2] * 7 + [3] * 11 + [4] * 11 + [5] * 11
    for step, moment in enumerate(moments):
        start = moment.index * moment.phase.batch
        expected = order(0, moment.epoch, COUNT)[start : start + moment.phase.batch]
        np.testing.assert_array_equal(schedule.batch(step), expected)


@pytest.mark.parametrize(('epochs', 'steps'), [(0, 0), (1, 3), (2, 6), (3, 13), (4, 24), (6, 46)])
def test_epochs_are_counted_in_the_steps_of_their_phases(epochs, steps):
    schedule = made(epochs=(2, 1, 1), pixels=(96, 128, 224), batch_sizes=(40, 20, 13))
    assert schedule.steps(epochs) == steps
    assert epochs == 0 or schedule.at(steps - 1).epoch == epochs - 1
