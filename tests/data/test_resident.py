"""Orders and batches of a split on the device: every example where it should be, as often as it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from resnet_jax.data import resident
from resnet_jax.data.resident import Examples

COUNT = 143


@pytest.fixture(scope='module')
def examples():
    """Every image carries its own number, and so does its label."""
    numbers = np.arange(COUNT)
    images = np.broadcast_to(numbers[:, None, None, None], (COUNT, 2, 2, 1)).astype(np.uint8)
    return resident.place(images, numbers.astype(np.int32), SingleDeviceSharding(jax.devices()[0]))


def order(seed, epoch):
    return np.asarray(resident.order(jnp.asarray(seed), jnp.asarray(epoch), examples=COUNT))


def test_an_epoch_is_a_permutation():
    for epoch in range(5):
        np.testing.assert_array_equal(np.sort(order(0, epoch)), np.arange(COUNT))


def test_no_two_epochs_and_no_two_seeds_share_an_order():
    orders = {tuple(order(seed, epoch)) for seed in range(4) for epoch in range(5)}
    assert len(orders) == 20


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    first = order(7, 3)
    for other in ((7, 4), (8, 3)):  # whatever was asked for in between
        order(*other)
    jax.clear_caches()
    np.testing.assert_array_equal(order(7, 3), first)


def test_every_place_of_an_epoch_holds_every_example_equally_often():
    first = np.array([order(0, epoch)[0] for epoch in range(300)])
    assert abs(first.mean() - (COUNT - 1) / 2) < 4 * COUNT / np.sqrt(12 * len(first))
    assert len(set(first)) > 100  # 125 of 143 expected


def test_the_batches_of_an_epoch_are_the_permutation_cut_in_pieces(examples):
    permutation, size = resident.order(jnp.asarray(0), jnp.asarray(0), examples=COUNT), 20
    batches = [resident.batch(examples, permutation, jnp.asarray(index), size) for index in range(COUNT // size)]
    labels = np.concatenate([batch.labels for batch in batches])
    np.testing.assert_array_equal(labels, permutation[: len(labels)])
    assert len(set(labels.tolist())) == 140  # at most once each; three wait for another epoch
    for batch in batches:
        np.testing.assert_array_equal(batch.images[:, 1, 1, 0], batch.labels)
        assert batch.images.dtype == jnp.uint8 and batch.labels.dtype == jnp.int32


@pytest.mark.parametrize('size', [1, 11, 13, 50, 142, 143, 144, 500])
def test_parts_of_any_size_hold_every_example_once(examples, size):
    seen = []
    for start in range(0, COUNT, size):
        chosen, inside = resident.part(examples, jnp.asarray(start), size)
        assert len(chosen.labels) == len(inside) == size
        np.testing.assert_array_equal(chosen.images[:, 0, 0, 0], chosen.labels)
        seen += np.asarray(chosen.labels)[np.asarray(inside)].tolist()
    assert seen == list(range(COUNT))


def test_a_split_is_whole_on_every_device_it_is_put_on(examples):
    assert isinstance(examples, Examples)
    assert examples.images.is_fully_replicated and examples.images.devices() == {jax.devices()[0]}
