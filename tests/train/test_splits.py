"""Where a split lives: what fits the device is there, what does not is streamed, whatever else is missing."""

import itertools

import numpy as np
import pytest

from configs import default
from resnet_jax import memory
from resnet_jax.data.augment import IMAGENET, statistics
from resnet_jax.data.resident import Examples
from resnet_jax.data.stream import Streamed
from resnet_jax.errors import UserError
from resnet_jax.runtime import mesh
from resnet_jax.train.evaluate import evaluate
from resnet_jax.train.splits import place_dataset
from tests.data.folders import settle, write

IMAGE = 32 * 32 * 3  # bytes; there are 40 for training and 10 for testing


@pytest.fixture(scope='module')
def copy(write_copy, tmp_path_factory):
    root = tmp_path_factory.mktemp('tfds')
    write_copy(root)
    return root


@pytest.fixture
def splits(copy):
    """`splits(placement, **settings of the data)`."""

    def make(placement='auto', **data):
        config = default.get_config()
        config.data.update({'data_dir': str(copy), **data})
        config.run.placement = placement
        return place_dataset(config, mesh.whole(mesh.all_devices()))

    return make


@pytest.mark.parametrize(
    ('images', 'crop', 'test', 'train', 'training'),
    [
        (50, 'view', False, False, False),
        (49, 'view', False, True, True),
        (10, 'view', False, True, True),
        (9, 'view', True, True, True),
        (50, 'random_resized', False, False, True),
        (49, 'random_resized', False, True, True),
        (9, 'random_resized', True, True, True),
    ],
)
def test_what_does_not_fit_beside_the_test_images_is_streamed(splits, monkeypatch, images, crop, test, train, training):
    """Crops are cut from the originals, so that training on them is always streamed."""
    monkeypatch.setattr(memory, 'room', lambda: images * IMAGE)
    found = splits(crop=crop)
    assert (found.streamed, found.training_streamed) == (test, training)
    for split, streamed in ((found.test, test), (found.train, train)):
        assert isinstance(split, Streamed if streamed else Examples)


@pytest.mark.parametrize('placement', ['device', 'stream'])
def test_what_the_run_says_counts_more_than_what_fits(splits, monkeypatch, placement):
    monkeypatch.setattr(memory, 'room', lambda: 0 if placement == 'device' else 10**12)
    found = splits(placement)
    assert found.streamed == found.training_streamed == (placement == 'stream')


def test_the_test_images_are_placed_without_a_file_of_the_training_images(write_copy, tmp_path, splits):
    path = write_copy(tmp_path)
    next(path.glob('cifar10-train*')).unlink()
    found = splits(data_dir=str(tmp_path))
    assert len(found.test.labels) == 10
    with pytest.raises(UserError, match='is missing'):
        found.train  # noqa: B018


@pytest.mark.parametrize('placement', ['device', 'stream'])
@pytest.mark.parametrize('how', ['pixel_mean', 'channel', 'imagenet'])
def test_the_normalization_is_that_of_the_training_images_wherever_they_are(splits, placement, how):
    images = np.asarray(splits('device').train.images)
    expected = IMAGENET if how == 'imagenet' else statistics([images], how)
    found = splits(placement, normalize=how).normalization
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('placement', ['device', 'stream'])
def test_a_split_of_which_nothing_can_be_read_is_refused_also_where_that_is_skipped(tmp_path, make_network, placement):
    for split, name in itertools.product(('train', 'test'), 'ab'):
        write(tmp_path, f'{split}/{name}/1.png')
    for path in (tmp_path / 'test').rglob('*.png'):
        path.write_bytes(b'not an image')
    settle(tmp_path)
    config = default.get_config()
    config.data.update(dataset='folder', data_dir=str(tmp_path), pixels=8, channels=3, labels=2, corrupt='skip')
    config.data.normalize = 'imagenet'
    config.run.placement = placement
    found = place_dataset(config, mesh.whole(mesh.all_devices()))
    network, variables = make_network('float32', placement='original', stage_blocks=(1, 1, 1), image_shape=(8, 8, 3))
    with pytest.raises(UserError, match='none of the 2 images can be read') as error:
        evaluate(network, variables, found.test, found.normalization, batch=2)
    assert '\n' not in str(error.value)
