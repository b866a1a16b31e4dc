"""Batches of a split on the device: every example where it should be, as often as it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.data import resident
from resnet_jax.data.order import order
from resnet_jax.data.resident import Examples

COUNT = 143


@pytest.fixture(scope='module')
def examples():
    """Every image carries its own number, and so does its label."""
    numbers = np.arange(COUNT)
    images = np.broadcast_to(numbers[:, None, None, None], (COUNT, 2, 2, 1)).astype(np.uint8)
    return Examples(jnp.asarray(images), jnp.asarray(numbers, jnp.int32))


def test_the_batches_of_an_epoch_are_the_permutation_cut_in_pieces(examples):
    permutation, size = jnp.asarray(order(0, 0, COUNT)), 20
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
