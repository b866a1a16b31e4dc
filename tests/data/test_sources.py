"""The datasets as training takes them: what comes out, what is held out, what is imported for it."""

import hashlib
import io
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from resnet_jax import spec
from resnet_jax.data import sources, stored
from resnet_jax.data.source import Source
from resnet_jax.data.views import views


def test_the_digits_are_scikit_learns_split_once_and_for_all(data_config):
    from sklearn.datasets import load_digits

    dataset = sources.load(data_config('digits'))
    original: Any = load_digits()
    shape, classes, examples = spec.DATASETS['digits']
    assert dataset.train.images.shape == (examples, *shape) and dataset.test.images.shape == (359, *shape)
    assert dataset.train.images.dtype == np.uint8 and dataset.train.labels.dtype == np.int32
    assert dataset.train.images.max() == 16 and len(dataset.selection) == 0
    assert dataset.classes == tuple('0123456789') and len(dataset.classes) == classes
    together = np.concatenate([dataset.train.images, dataset.test.images]).reshape(1797, 64)
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    ours, theirs = (
        sorted(map(tuple, np.column_stack([pixels, names]).astype(int).tolist()))
        for pixels, names in ((together, labels), (original.data, original.target))
    )
    assert ours == theirs
    # Findings of other days are compared with today's: the test split may never change.
    digest = hashlib.sha256(dataset.test.images.tobytes() + dataset.test.labels.astype('<i4').tobytes())
    assert digest.hexdigest()[:16] == '3da5d6647d0f6db0'


def test_the_selection_comes_from_the_training_examples_alone_and_is_the_same_each_time(data_config):
    plain, dataset, again = (sources.load(data_config('digits', selection=count)) for count in (0, 144, 144))
    np.testing.assert_array_equal(dataset.test.images, plain.test.images)
    np.testing.assert_array_equal(dataset.selection.images, again.selection.images)
    assert len(dataset.selection) == 144 and len(dataset.train) == 1438 - 144
    rows = {split.tobytes() for split in plain.train.images}
    assert all(image.tobytes() in rows for image in dataset.selection.images)


@pytest.mark.parametrize('selection', [1438, 5000, -1])
def test_a_selection_that_leaves_nothing_is_refused(selection, data_config, refused):
    for action in (sources.check, sources.load):
        said = refused(action, data_config('digits', selection=selection))
        assert f'data.selection is {selection}' in said and '1438' in said


def test_the_first_classes_are_those_examples_of_every_split_in_their_order(data_config):
    data = data_config('digits', selection=790)
    whole = sources.load(data)
    data.classes = 3
    some = sources.load(data)
    for split in ('train', 'selection', 'test'):
        ours, all_of_them = getattr(some, split), getattr(whole, split)
        np.testing.assert_array_equal(ours.labels, all_of_them.labels[all_of_them.labels < 3])
        np.testing.assert_array_equal(ours.images, all_of_them.images[all_of_them.labels < 3])
        assert 0 < len(ours) < len(all_of_them)
    assert some.classes == whole.classes and len(some.classes) == 10  # the head has an output for each


def test_the_first_training_examples_are_the_first_of_what_is_left_and_no_other_split_is_cut(data_config):
    data = data_config('digits', selection=158)
    data.classes = 2
    whole = sources.load(data)
    data.examples = 50
    some = sources.load(data)
    np.testing.assert_array_equal(some.train.images, whole.train.images[:50])
    np.testing.assert_array_equal(some.train.labels, whole.train.labels[:50])
    for split in ('selection', 'test'):
        np.testing.assert_array_equal(getattr(some, split).images, getattr(whole, split).images)


def test_more_examples_than_the_classes_have_are_refused(data_config, refused):
    data = data_config('digits', selection=158)
    data.update(classes=2, examples=257)
    said = refused(lambda: sources.load(data).train)
    assert said == (
        'data.examples is 257, but data.classes 2 and data.selection 158 leave 256 training examples; '
        'ask for as many at most'
    )


def test_an_unknown_dataset_is_told_the_nearest_name_and_how_to_make_it(tmp_path, data_config, refused):
    said = refused(sources.load, data_config('cifar11', tmp_path))
    assert 'holds no cifar11 (the nearest name is cifar10)' in said and 'tfds build cifar11' in said


def test_a_missing_directory_or_dataset_is_answered_by_the_command_that_makes_it(tmp_path, data_config, refused):
    root = tmp_path / 'my data'
    command = f"resnet-jax data prepare cifar10 --data-dir '{root}'"
    said = refused(sources.check, data_config('cifar10', root))
    assert f'{root} does not exist' in said and command in said
    root.mkdir()
    said = refused(sources.check, data_config('cifar10', root))
    assert f'{root} holds no cifar10' in said and command in said


def test_what_is_found_is_described(copy, tmp_path):
    found = sources.describe('cifar10', str(tmp_path))
    assert found['path'] == str(copy) and found['splits'] == {'train': 40, 'test': 10}
    assert found['classes'] == 10 and found['image_shape'] == (32, 32, 3)
    assert found['bytes'] == sum((copy / name).stat().st_size for name in found['files']) and len(found['files']) == 2
    digits = sources.describe('digits', str(tmp_path / 'absent'))
    assert digits['splits'] == {'train': 1438, 'test': 359} and digits['bytes'] == 0


def test_cifar10_is_whole(tfds_dir, data_config):
    dataset = sources.load(data_config('cifar10', tfds_dir, selection=5000))
    assert dataset.train.images.shape == (45_000, 32, 32, 3) and dataset.test.images.shape == (10_000, 32, 32, 3)
    assert len(dataset.selection) == 5000
    for split, share in ((dataset.train, 4500), (dataset.selection, 500), (dataset.test, 1000)):
        assert np.bincount(split.labels).tolist() == [share] * 10
    assert dataset.classes[:4] == ('airplane', 'automobile', 'bird', 'cat')
    mean = np.concatenate([dataset.train.images, dataset.selection.images]).mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=5e-4)


def test_a_split_is_read_without_the_other(copy, tmp_path, data_config, refused):
    (copy / 'cifar10-train.array_record-00000-of-00001').write_bytes(b'')
    dataset = sources.load(data_config('cifar10', tmp_path))
    assert len(dataset.test) == 10 and dataset.test is dataset.test and len(dataset.classes) == 10
    assert 'is damaged' in refused(lambda: dataset.train)


def test_a_test_split_needs_no_file_of_the_training_split_and_training_needs_both(copy, tmp_path, data_config, refused):
    file = copy / 'cifar10-train.array_record-00000-of-00001'
    file.unlink()
    data = data_config('cifar10', tmp_path)
    dataset = sources.load(data)
    assert len(dataset.test) == 10 and len(dataset.classes) == 10
    for action in (
        lambda: dataset.train,
        lambda: sources.check(data),
        lambda: sources.describe('cifar10', str(tmp_path)),
    ):
        assert f'{file} is missing; remove its directory, then: resnet-jax data prepare cifar10' in refused(action)


def test_a_split_is_opened_once_so_that_its_labels_are_read_once(copy, tmp_path, data_config):
    dataset = sources.load(data_config('cifar10', tmp_path))
    assert dataset.source('train') is dataset.source('train') and dataset.source('train') is not dataset.source('test')


def test_outputs_beyond_the_classes_have_names_too(copy, tmp_path, data_config):
    data = data_config('cifar10', tmp_path)
    data.labels = 12
    assert sources.load(data).classes == (*(f'class{label}' for label in range(10)), 'output 10', 'output 11')


def test_images_are_counted_as_they_are_decoded(copy, tmp_path, data_config):
    told = []
    dataset = sources.load(data_config('cifar10', tmp_path), lambda *what: told.append(what))
    assert told == [] and len(dataset.train) == 40
    assert told == [('decoding train', 40, 40)]


class Endless(Source):
    """More examples than any memory holds, none of which may be read."""

    shape = None

    def __len__(self):
        return 10**12

    def read(self, indices):
        raise AssertionError

    def place(self, index):
        return f'example {index}'


def test_a_split_beyond_the_memory_is_refused_before_a_record_is_read(refused):
    said = refused(views, Endless(), 'test', (32, 32, 3), 1.0, 'stop', lambda *_: None)
    assert 'the 1,000,000,000,000 images of the test split' in said and '3,072,000.0 GB' in said


def test_the_imagenet_sample_is_as_torchvision_would_show_it(tfds_dir, data_config):
    if not (tfds_dir / 'imagenet2012').is_dir():
        pytest.skip('needs imagenet2012 as ArrayRecord beside cifar10')
    data = data_config('imagenet2012', tfds_dir)
    data.crop_fraction = 0.875
    dataset = sources.load(data)
    assert sources.describe('imagenet2012', str(tfds_dir))['splits']['test'] == len(dataset.test)
    assert dataset.test.images.shape[1:] == (224, 224, 3) and dataset.test.images.dtype == np.uint8
    assert len(dataset.classes) == 1000 and dataset.classes[0] == 'n01440764'
    builder: Any = tfds.builder_from_directory(stored.find('imagenet2012', tfds_dir).path)
    raw = {'image': tfds.decode.SkipDecoding()}
    records = builder.as_data_source('validation', decoders=raw, file_format='array_record')
    for index in range(0, 160, 7):
        image = Image.open(io.BytesIO(records[index]['image'])).convert('RGB')
        short = min(image.size)
        image = image.resize([256 * side // short for side in image.size], Image.Resampling.BILINEAR)
        left, top = (round((side - 224) / 2.0) for side in image.size)
        view = np.asarray(image.crop((left, top, left + 224, top + 224)))
        np.testing.assert_array_equal(dataset.test.images[index], view)
        assert dataset.test.labels[index] == records[index]['label']


def test_a_check_of_the_real_data_is_quick_and_imports_nothing_heavy(tfds_dir, data_config):
    script = f"""
import sys
from configs import default
from resnet_jax.data import sources
data = default.get_config().data
data.data_dir = {str(tfds_dir)!r}
sources.check(data)
heavy = {{'tensorflow_datasets', 'array_record', 'sklearn', 'PIL', 'jax', 'tensorflow'}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, '-c', script], check=True)
    start = time.perf_counter()
    sources.check(data_config('cifar10', tfds_dir))
    assert time.perf_counter() - start < 0.3


def test_nothing_imports_tensorflow_even_where_it_is_installed(tmp_path, write_copy):
    stand_in = tmp_path / 'site' / 'tensorflow'
    stand_in.mkdir(parents=True)
    (stand_in / '__init__.py').write_text(f'open({str(tmp_path / "imported")!r}, "w").close()\n')
    write_copy(tmp_path / 'tfds')
    script = f"""
import pathlib, sys
from configs import default
from resnet_jax.data import archive, prepare, sources, stored
data = default.get_config().data
data.data_dir = {str(tmp_path / 'tfds')!r}
dataset = sources.load(data)
data.dataset = 'digits'
sources.load(data)
splits = {{'train': (dataset.train.images, {{'label': dataset.train.labels}})}}
path = pathlib.Path({str(tmp_path / 'again')!r})
path.mkdir()
content = archive.Content(splits, {{'label': list(dataset.classes)}})
prepare.write('cifar10', path, content, lambda *_: None)
assert 'tensorflow' not in sys.modules
"""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(stand_in.parent), *sys.path])}
    subprocess.run([sys.executable, '-c', script], check=True, env=environment)
    assert not (tmp_path / 'imported').exists()
    subprocess.run([sys.executable, '-c', 'import tensorflow'], check=True, env=environment)
    assert (tmp_path / 'imported').exists()  # or the test above it could not fail
