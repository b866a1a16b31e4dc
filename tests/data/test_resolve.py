"""What is filled in when a run begins: epochs become steps, and what only the data know is written down."""

import pytest

from configs import default
from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.data import sources
from resnet_jax.data.resolve import resolve
from resnet_jax.errors import UserError
from tests.data.folders import write

# Epochs


@pytest.fixture
def epochs(write_copy, tmp_path):
    """Settings in epochs on 40 training examples: in batches of 10, four steps each."""
    write_copy(tmp_path)
    config = default.get_config()
    config.unit = 'epoch'
    config.data.data_dir = str(tmp_path)
    config.train.batch_size = 10
    config.train.schedule.update(boundaries=(2, 3), steps=5, warmup='linear', warmup_steps=1)
    config.run.update(steps=4, log_every=7, eval_every=1, save_every=2, snapshots=(0, 3))
    return config


def steps(config):
    """(boundaries, where a cosine ends, warm-up), (how long, evaluation, checkpoint, snapshots), all of it counted."""
    schedule, run = config.train.schedule, config.run
    return (
        (schedule.boundaries, schedule.steps, schedule.warmup_steps),
        (run.steps, run.eval_every, run.save_every, run.snapshots),
    )


def test_what_counts_epochs_counts_steps_when_a_run_begins(epochs):
    resolve(epochs)
    assert epochs.unit == 'step' and epochs.run.log_every == 7
    assert steps(epochs) == (((8, 12), 20, 4), (16, 4, 8, (0, 12)))
    once = epochs.to_dict()
    resolve(epochs)
    assert epochs.to_dict() == once


def test_what_counts_steps_is_left_as_it_is(epochs):
    epochs.unit = 'step'
    resolve(epochs)
    assert steps(epochs) == (((2, 3), 5, 1), (4, 1, 2, (0, 3)))


@pytest.mark.parametrize(
    ('settings', 'an_epoch'),
    [({'selection': 10}, 3), ({'classes': 5}, 2), ({'examples': 19}, 1), ({'repeats': 2}, 4)],
    ids=str,
)
def test_an_epoch_has_as_many_whole_batches_as_the_settings_leave(epochs, settings, an_epoch):
    """Repeats show fewer examples an epoch, not more."""
    epochs.data.update(settings)
    resolve(epochs)
    assert epochs.run.steps == 4 * an_epoch and epochs.train.schedule.boundaries == (2 * an_epoch, 3 * an_epoch)


def test_through_phases_each_epoch_counts_the_steps_of_its_own_batch(epochs):
    """Epoch 0 in batches of 20, epochs 1 and 2 of 8, all after that of 5: 2, 5, 5, 8, 8 steps. What is done every so
    many epochs is done every so many steps: an epoch of the run's four has 5 on average."""
    epochs.train.phases.update(epochs=(1, 2, 1), pixels=(16, 24, 32), batch_sizes=(20, 8, 5))
    resolve(epochs)
    assert steps(epochs) == (((7, 12), 28, 2), (20, 5, 10, (0, 12)))


def test_a_batch_that_is_larger_than_the_data_is_left_to_be_refused(epochs):
    epochs.train.batch_size = 41
    resolve(epochs)
    assert epochs.unit == 'epoch' and steps(epochs) == (((2, 3), 5, 1), (4, 1, 2, (0, 3)))


def test_the_recipes_of_imagenet_are_resolved_on_whatever_set_there_is(write_copy, tmp_path):
    write_copy(tmp_path)
    config = configuration.from_arguments(
        ['--config', 'configs/imagenet.py:goyal2017', '--config.data.dataset=cifar10', '--config.train.batch_size=8',
         f'--config.data.data_dir={tmp_path}'], resolve,
    )  # fmt: skip
    assert config is not None
    assert steps(config) == (((150, 300, 400), 450, 25), (450, 5, 5, (0,)))
    assert spec.image_shape(config.data) == (224, 224, 3) and spec.outputs(config.data) == 10


# What only the data know


@pytest.fixture
def folder(tmp_path):
    """Twelve training images of three classes, and a config for them."""
    write(tmp_path / 'images', *(f'train/{name}/{number}.png' for name in 'abc' for number in range(4)),
          *(f'test/{name}/0.png' for name in 'abc'))  # fmt: skip
    config = configuration.load('configs/folder.py:scratch,resnet18')
    config.data.data_dir = str(tmp_path / 'images')
    config.train.batch_size = 4
    return config


def test_a_folder_fills_in_its_shape_its_classes_its_fingerprint_and_its_steps(folder):
    resolve(folder)
    assert (folder.data.pixels, folder.data.channels, folder.data.labels) == (224, 3, 3)
    assert len(folder.data.fingerprint) == 16 and folder.unit == 'step'
    assert steps(folder) == (((96_000, 144_000), 300, 3), (300, 3, 3, (0,)))


def test_what_is_set_stays_and_fewer_labels_than_classes_are_refused(folder):
    folder.data.update(pixels=32, channels=1, labels=5)
    resolve(folder)
    assert (folder.data.pixels, folder.data.channels, folder.data.labels) == (32, 1, 5)
    folder.data.labels = 2
    with pytest.raises(UserError) as error:
        resolve(folder)
    assert str(error.value) == (
        'config.data.labels is 2, but folder has 3 classes; set it to 0 for as many outputs as classes'
    )


def test_a_set_of_the_tfds_directory_fills_in_the_size_its_images_have(write_copy, tmp_path):
    path = write_copy(tmp_path)
    path.parent.rename(tmp_path / 'small')
    for file in (tmp_path / 'small' / path.name).glob('cifar10-*'):
        file.rename(file.with_name(file.name.replace('cifar10', 'small')))
    config = default.get_config()
    config.data.update(dataset='small', data_dir=str(tmp_path))
    resolve(config)
    assert (config.data.pixels, config.data.channels, config.data.labels) == (32, 3, 10)
    assert len(sources.load(config.data).test) == 10
