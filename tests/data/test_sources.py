"""The digits and the stored datasets: what comes out, what is held out, and what is said where something is wrong."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import default
from resnet_jax import spec
from resnet_jax.data import archive as archives
from resnet_jax.data import decode, prepare, sources, stored
from resnet_jax.errors import UserError

EXAMPLES = {'train': 40, 'test': 10}


def data_config(dataset, data_dir: Path | str = '', selection=0):
    data = default.get_config().data
    data.update(dataset=dataset, data_dir=str(data_dir), selection=selection)
    return data


def write_copy(root, version='3.0.2', seed=0):
    """A small CIFAR-10 of random pixels, four training examples and one test example a class."""
    random = np.random.default_rng(seed)
    splits = {
        split: (
            random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
            {'label': np.arange(count, dtype=np.uint8) % 10},
        )
        for split, count in EXAMPLES.items()
    }
    path = root / 'cifar10' / version
    path.mkdir(parents=True)
    content = archives.Content(splits, {'label': [f'class{number}' for number in range(10)]})
    prepare.write('cifar10', path, content, lambda *_: None)
    return path


@pytest.fixture
def copy(tmp_path):
    return write_copy(tmp_path)


def edit_info(path, change):
    info = json.loads((path / 'dataset_info.json').read_text())
    change(info)
    (path / 'dataset_info.json').write_text(json.dumps(info))


def refused(action, *arguments):
    with pytest.raises(UserError) as error:
        action(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


# The digits


def test_the_digits_are_scikit_learns_split_once_and_for_all():
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


# What is held out


def test_what_is_held_out_is_a_partition_in_stored_order():
    images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    labels = np.random.default_rng(0).integers(0, 3, 100).astype(np.int32)
    rest, held = sources.hold_out(sources.Split(images, labels), 30)
    first, second = rest.images.ravel().tolist(), held.images.ravel().tolist()
    assert sorted(first + second) == list(range(100)) and len(second) == 30
    assert first == sorted(first) and second == sorted(second)
    for split in (rest, held):
        np.testing.assert_array_equal(split.labels, labels[split.images.ravel()])
    assert second != list(range(30))


def test_every_class_gives_its_share_to_within_one_example_and_draws_are_nested():
    labels = np.repeat(np.arange(10), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]).astype(np.int32)
    images = np.arange(550, dtype=np.int32).reshape(550, 1, 1, 1)
    share, before = np.bincount(labels) / 550, set()
    for count in range(551):
        _, held = sources.hold_out(sources.Split(images, labels), count)
        assert len(held) == count
        assert np.abs(np.bincount(held.labels, minlength=10) - count * share).max() <= 1
        drawn = set(held.images.ravel().tolist())
        assert before <= drawn
        before = drawn


def test_the_same_examples_are_held_out_for_good():
    labels = (np.arange(50_000) % 10).astype(np.int32)
    _, held = sources.hold_out(sources.Split(np.arange(50_000).reshape(-1, 1, 1, 1), labels), 5003)
    assert np.bincount(held.labels).max() == 501
    assert hashlib.sha256(held.images.astype('<i4').tobytes()).hexdigest()[:16] == 'a4752ebfa9801afd'


def test_the_selection_comes_from_the_training_examples_alone_and_is_the_same_each_time():
    plain, dataset, again = (sources.load(data_config('digits', selection=count)) for count in (0, 144, 144))
    np.testing.assert_array_equal(dataset.test.images, plain.test.images)
    np.testing.assert_array_equal(dataset.selection.images, again.selection.images)
    assert len(dataset.selection) == 144 and len(dataset.train) == 1438 - 144
    rows = {split.tobytes() for split in plain.train.images}
    assert all(image.tobytes() in rows for image in dataset.selection.images)


@pytest.mark.parametrize('selection', [1438, 5000, -1])
def test_a_selection_that_leaves_nothing_is_refused(selection):
    for action in (sources.check, sources.load):
        said = refused(action, data_config('digits', selection=selection))
        assert f'data.selection is {selection}' in said and '1438' in said


# Stored copies


def test_an_unknown_dataset_is_told_the_nearest_name():
    assert 'the nearest is cifar10' in refused(sources.load, data_config('cifar-10'))
    assert 'the nearest is digits' in refused(sources.describe, 'Digit', '')


def test_where_the_data_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
    assert stored.directory('') == tmp_path / 'home' / 'tensorflow_datasets'
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'shared'))
    assert stored.directory('') == tmp_path / 'shared'
    assert stored.directory('~/mine') == tmp_path / 'home' / 'mine'


def test_a_missing_directory_or_dataset_is_answered_by_the_command_that_makes_it(tmp_path):
    root = tmp_path / 'my data'
    command = f"resnet-jax data prepare cifar10 --data-dir '{root}'"
    said = refused(sources.check, data_config('cifar10', root))
    assert f'{root} does not exist' in said and command in said
    root.mkdir()
    said = refused(sources.check, data_config('cifar10', root))
    assert f'{root} holds no cifar10' in said and command in said


def test_the_newest_version_is_read_and_what_is_half_made_is_not(tmp_path):
    for seed, version in enumerate(['3.0.2', '3.0.10', '3.1.0.incomplete']):
        write_copy(tmp_path, version, seed)
    (tmp_path / 'cifar10' / '4.0.0').mkdir()  # holds nothing
    assert stored.find('cifar10', tmp_path).path.name == '3.0.10'
    write_copy(tmp_path / 'alone', '3.0.10', 1)
    newest, alone = (sources.load(data_config('cifar10', root)) for root in (tmp_path, tmp_path / 'alone'))
    np.testing.assert_array_equal(newest.train.images, alone.train.images)


def test_a_tfrecord_copy_is_refused_but_does_not_hide_another(copy, tmp_path):
    newer = tmp_path / 'cifar10' / '3.1.0'
    newer.mkdir()
    (newer / 'dataset_info.json').write_text('{"fileFormat": "tfrecord"}')
    assert stored.find('cifar10', tmp_path).path == copy
    edit_info(copy, lambda info: info.pop('fileFormat'))  # as old versions of TFDS left it
    said = refused(sources.check, data_config('cifar10', tmp_path))
    assert 'stored as tfrecord' in said and 'only ArrayRecord' in said and 'resnet-jax data prepare cifar10' in said
    edit_info(copy, lambda info: info.update(fileFormat='tfrecord', alternativeFileFormats=['array_record']))
    assert len(sources.load(data_config('cifar10', tmp_path)).train) == EXAMPLES['train']


def test_a_copy_of_many_files_is_read_in_their_order(copy, tmp_path):
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    whole = sources.load(data_config('cifar10', tmp_path))
    file = copy / stored.file_name('cifar10', 'train', 0, 1)
    reader = ArrayRecordReader(str(file))
    records = reader.read_all()
    reader.close()
    lengths = [7, 0, 30, 3]
    for shard, length in enumerate(lengths):
        writer = ArrayRecordWriter(str(copy / stored.file_name('cifar10', 'train', shard, 4)), 'group_size:1')
        for _ in range(length):
            writer.write(records.pop(0))
        writer.close()
    file.unlink()
    edit_info(copy, lambda info: info['splits'][0].update(shardLengths=list(map(str, lengths))))
    parted = sources.load(data_config('cifar10', tmp_path))
    np.testing.assert_array_equal(parted.train.images, whole.train.images)
    np.testing.assert_array_equal(parted.train.labels, whole.train.labels)

    second = copy / stored.file_name('cifar10', 'train', 2, 4)
    data = bytearray(second.read_bytes())
    data[[at for at in range(len(data)) if data[at : at + 4] == b'IEND'][4] - 100] ^= 1
    second.write_bytes(data)
    assert f'{second}, record 4: cannot be read' in refused(sources.load, data_config('cifar10', tmp_path))


def test_a_missing_file_is_named(copy, tmp_path):
    file = copy / stored.file_name('cifar10', 'test', 0, 1)
    file.unlink()
    assert f'{file} is missing' in refused(sources.check, data_config('cifar10', tmp_path))


@pytest.mark.parametrize(
    'text',
    [
        '',
        '[]',
        '{"fileFormat": "array_record"}',
        '{"fileFormat": "array_record", "splits": [{"name": "train"}]}',
        '{"fileFormat": "array_record", "splits": [{"name": "train", "shardLengths": ["1"]}]}',
    ],
)
def test_an_unreadable_dataset_info_is_named(copy, tmp_path, text):
    (copy / 'dataset_info.json').write_text(text)
    assert 'dataset_info.json' in refused(sources.check, data_config('cifar10', tmp_path))


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'reason'),
    [
        ('features.json', '', None, 'is not understood by TFDS: Cannot restore cifar10/3.0.2'),
        ('features.json', '{', '', 'is not understood by TFDS: '),
        ('features.json', '"label"', '"fine_label"', "is not understood by TFDS: 'label'"),
        ('label.labels.txt', 'class9\n', '', 'has 9 classes, where cifar10 has 10'),
        ('features.json', '"10"', '"12"', 'has 12 classes, where cifar10 has 10'),
    ],
)
def test_features_that_are_not_the_datasets_are_refused(copy, tmp_path, file, old, new, reason):
    if new is None:
        (copy / file).unlink()
    else:
        text = (copy / file).read_text()
        assert old in text
        (copy / file).write_text(text.replace(old, new))
        if '12' in new:
            (copy / 'label.labels.txt').unlink()
    assert reason in refused(sources.load, data_config('cifar10', tmp_path))


def test_another_number_of_records_than_stated_is_refused(copy, tmp_path):
    for stated in ('39', '41'):
        edit_info(copy, lambda info, stated=stated: info['splits'][0].update(shardLengths=[stated]))
        said = refused(sources.load, data_config('cifar10', tmp_path))
        assert f'holds 40 records, where dataset_info.json states {stated}' in said


def test_a_damaged_record_is_named_by_file_and_number(copy, tmp_path):
    file = copy / stored.file_name('cifar10', 'train', 0, 1)
    data = bytearray(file.read_bytes())
    ends = [at for at in range(len(data)) if data[at : at + 4] == b'IEND']  # of the PNGs, one a record
    assert len(ends) == EXAMPLES['train']
    data[ends[17] - 100] ^= 1
    file.write_bytes(data)
    said = refused(sources.load, data_config('cifar10', tmp_path))
    assert f'{file}, record 17: cannot be read: ' in said and 'hash mismatch' in said


@pytest.mark.parametrize('kept', [0, 70_000])
def test_a_truncated_file_is_named(copy, tmp_path, kept):
    file = copy / stored.file_name('cifar10', 'test', 0, 1)
    file.write_bytes(file.read_bytes()[:kept])
    assert f'{file} is damaged' in refused(sources.load, data_config('cifar10', tmp_path))


def replace_record(copy, number, image, label):
    """Writes the training file anew with another record in one place, all checksums sound."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    file = str(copy / stored.file_name('cifar10', 'train', 0, 1))
    reader = ArrayRecordReader(file)
    records = reader.read_all()
    reader.close()
    features = tfds.features.FeaturesDict(
        {'id': tfds.features.Text(), 'image': tfds.features.Text(), 'label': tfds.features.Scalar(np.int64)}
    )
    records[number] = features.serialize_example({'id': 'x', 'image': image, 'label': label})
    writer = ArrayRecordWriter(file, 'group_size:1')
    for record in records:
        writer.write(record)
    writer.close()


@pytest.mark.parametrize(
    ('pixels', 'cut', 'label', 'reason'),
    [
        ((16, 16, 3), 0, 3, r'an image of shape (16, 16, 3), where cifar10 has (32, 32, 3)'),
        ((32, 32, 4), 0, 3, 'mode RGBA'),
        ((32, 32, 3), 50, 3, 'truncated'),
        ((32, 32, 3), 10_000, 3, 'neither a PNG nor a JPEG'),
        ((32, 32, 3), 0, 10, 'label 10, where cifar10 has 0 to 9'),
        ((32, 32, 3), 0, -1, 'label -1'),
    ],
)
def test_a_record_of_another_kind_is_named(copy, tmp_path, pixels, cut, label, reason):
    encoded = decode.encode_png(np.random.default_rng(0).integers(0, 256, pixels, dtype=np.uint8))
    replace_record(copy, 23, encoded[: max(0, len(encoded) - cut)], label)
    said = refused(sources.load, data_config('cifar10', tmp_path))
    assert 'cifar10-train.array_record-00000-of-00001, record 23: ' in said and reason in said


def test_what_is_found_is_described(copy, tmp_path):
    found = sources.describe('cifar10', str(tmp_path))
    assert found['path'] == str(copy) and found['splits'] == EXAMPLES
    assert found['classes'] == 10 and found['image_shape'] == (32, 32, 3)
    assert found['bytes'] == sum((copy / name).stat().st_size for name in found['files']) and len(found['files']) == 2
    digits = sources.describe('digits', str(tmp_path / 'absent'))
    assert digits['splits'] == {'train': 1438, 'test': 359} and digits['bytes'] == 0


# Decoding


def test_a_png_comes_back_bit_by_bit_and_a_jpeg_closely():
    import io

    from PIL import Image

    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([4 * rows, 3 * columns, rows + columns], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(decode.decode(decode.encode_png(pixels)), pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'JPEG', quality=95, subsampling=0)
    decoded = decode.decode(file.getvalue())
    assert decoded.shape == (48, 64, 3) and decoded.dtype == np.uint8
    assert 0 < np.abs(decoded.astype(int) - pixels).max() <= 8


def test_grey_becomes_three_equal_channels():
    import io

    from PIL import Image

    grey, file = np.arange(256, dtype=np.uint8).reshape(16, 16), io.BytesIO()
    Image.fromarray(grey).save(file, 'PNG')
    np.testing.assert_array_equal(decode.decode(file.getvalue()), np.repeat(grey[..., None], 3, axis=-1))


# Real data, real processes


@pytest.fixture(scope='module')
def real():
    default_root = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'tfds'
    root = Path(os.environ.get('RESNET_JAX_TEST_TFDS') or default_root)
    if not (root / 'cifar10').is_dir():
        pytest.skip('needs CIFAR-10 as ArrayRecord: set RESNET_JAX_TEST_TFDS to the TFDS directory that holds it')
    return root, sources.load(data_config('cifar10', root, selection=5000))


def test_cifar10_is_whole(real):
    _, dataset = real
    assert dataset.train.images.shape == (45_000, 32, 32, 3) and dataset.test.images.shape == (10_000, 32, 32, 3)
    assert len(dataset.selection) == 5000
    for split, share in ((dataset.train, 4500), (dataset.selection, 500), (dataset.test, 1000)):
        assert np.bincount(split.labels).tolist() == [share] * 10
    assert dataset.classes[:4] == ('airplane', 'automobile', 'bird', 'cat')
    mean = np.concatenate([dataset.train.images, dataset.selection.images]).mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=5e-4)


def test_a_check_of_the_real_data_is_quick_and_imports_nothing_heavy(real):
    root, _ = real
    script = f"""
import sys
from configs import default
from resnet_jax.data import sources
data = default.get_config().data
data.data_dir = {str(root)!r}
sources.check(data)
heavy = {{'tensorflow_datasets', 'array_record', 'sklearn', 'PIL', 'jax', 'tensorflow'}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, '-c', script], check=True)
    start = time.perf_counter()
    sources.check(data_config('cifar10', root))
    assert time.perf_counter() - start < 0.3


def test_nothing_imports_tensorflow_even_where_it_is_installed(tmp_path):
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
