"""What is held out: a function of the labels alone, the same for good."""

import hashlib

import numpy as np

from resnet_jax.data.hold_out import held_out


def test_as_many_are_held_out_as_are_asked_for_and_not_the_first():
    held = held_out(np.random.default_rng(0).integers(0, 3, 100).astype(np.int32), 30)
    assert held.shape == (100,) and held.dtype == bool and held.sum() == 30
    assert not held[:30].all()


def test_every_class_gives_its_share_to_within_one_example_and_draws_are_nested():
    labels = np.repeat(np.arange(11), [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
    labels = labels[np.random.default_rng(0).permutation(551)].astype(np.int32)
    share, before = np.bincount(labels) / 551, np.zeros(551, bool)
    for count in range(552):
        held = held_out(labels, count)
        assert held.sum() == count
        assert np.abs(np.bincount(labels[held], minlength=11) - count * share).max() <= 1
        assert not (before & ~held).any()
        before = held


def test_the_same_examples_are_held_out_for_good():
    labels = (np.arange(50_000) % 10).astype(np.int32)
    held = held_out(labels, 5003)
    assert np.bincount(labels[held]).max() == 501
    assert hashlib.sha256(np.flatnonzero(held).astype('<i4').tobytes()).hexdigest()[:16] == 'a4752ebfa9801afd'


def test_of_no_examples_none_are_held_out():
    assert len(held_out(np.zeros(0, int), 0)) == 0
