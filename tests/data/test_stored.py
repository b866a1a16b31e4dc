"""A copy in a TFDS directory: which is found, what is read of it, and what is said where something is wrong."""

import json

import numpy as np
import pytest

from resnet_jax.data import records, stored
from resnet_jax.data.decode import encode_png
from resnet_jax.data.views import views


def find(root):
    return stored.find('cifar10', root)


def read(root, split='train'):
    copy = find(root)
    source = records.open_split(copy, split, records.features(copy))
    return views(source, split, (32, 32, 3), 1.0, 'stop', lambda *_: None)[:2]


def edit_info(path, change):
    info = json.loads((path / 'dataset_info.json').read_text())
    change(info)
    (path / 'dataset_info.json').write_text(json.dumps(info))


def read_records(file):
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(file))
    records = reader.read_all()
    reader.close()
    return records


def write_records(file, records):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(file), 'group_size:1')
    for record in records:
        writer.write(record)
    writer.close()


def test_where_the_data_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
    assert stored.directory('') == tmp_path / 'home' / 'tensorflow_datasets'
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'shared'))
    assert stored.directory('') == tmp_path / 'shared'
    assert stored.directory('~/mine') == tmp_path / 'home' / 'mine'


def test_the_newest_version_is_read_and_what_is_half_made_is_not(tmp_path, write_copy):
    for seed, version in enumerate(['3.0.2', '3.0.10', '3.1.0.incomplete']):
        write_copy(tmp_path, version, seed)
    (tmp_path / 'cifar10' / '4.0.0').mkdir()  # holds nothing
    assert find(tmp_path).path.name == '3.0.10'
    write_copy(tmp_path / 'alone', '3.0.10', 1)
    np.testing.assert_array_equal(read(tmp_path)[0], read(tmp_path / 'alone')[0])


def test_a_tfrecord_copy_is_refused_but_does_not_hide_another(copy, tmp_path, refused):
    newer = tmp_path / 'cifar10' / '3.1.0'
    newer.mkdir()
    (newer / 'dataset_info.json').write_text('{"fileFormat": "tfrecord"}')
    assert find(tmp_path).path == copy
    edit_info(copy, lambda info: info.pop('fileFormat'))  # as old versions of TFDS left it
    said = refused(find, tmp_path)
    assert 'stored as tfrecord' in said and 'only ArrayRecord' in said and 'resnet-jax data prepare cifar10' in said
    edit_info(copy, lambda info: info.update(fileFormat='tfrecord', alternativeFileFormats=['array_record']))
    assert len(read(tmp_path)[0]) == 40


@pytest.fixture
def in_many_files(copy):
    """The copy with its training examples in four files, one of them empty."""
    (file,) = find(copy.parents[1]).files('train')
    records, lengths = read_records(file), [7, 0, 30, 3]
    file.unlink()
    for shard, length in enumerate(lengths):
        write_records(copy / stored.file_name('cifar10', 'train', shard, 4), records[:length])
        del records[:length]
    edit_info(copy, lambda info: info['splits'][0].update(shardLengths=list(map(str, lengths))))
    return copy


def test_a_copy_of_many_files_is_read_in_their_order(in_many_files, write_copy, tmp_path):
    write_copy(tmp_path / 'whole')
    (images, labels), (parted_images, parted_labels) = read(tmp_path / 'whole'), read(tmp_path)
    np.testing.assert_array_equal(parted_images, images)
    np.testing.assert_array_equal(parted_labels, labels)


def test_a_damaged_record_is_named_by_its_file_and_its_number_there(in_many_files, tmp_path, refused):
    file = in_many_files / stored.file_name('cifar10', 'train', 2, 4)
    data = bytearray(file.read_bytes())
    ends = [at for at in range(len(data)) if data[at : at + 4] == b'IEND']  # of the PNGs, one a record
    assert len(ends) == 30
    data[ends[17] - 100] ^= 1
    file.write_bytes(data)
    said = refused(read, tmp_path)
    assert f'{file}, record 17: cannot be read: ' in said and 'hash mismatch' in said


def test_a_missing_file_is_named(copy, tmp_path, refused):
    file = copy / stored.file_name('cifar10', 'test', 0, 1)
    file.unlink()
    assert f'{file} is missing' in refused(find, tmp_path)


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
def test_an_unreadable_dataset_info_is_named(copy, tmp_path, text, refused):
    (copy / 'dataset_info.json').write_text(text)
    assert 'dataset_info.json' in refused(find, tmp_path)


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
def test_features_that_are_not_the_datasets_are_refused(copy, tmp_path, file, old, new, reason, refused):
    if new is None:
        (copy / file).unlink()
    else:
        text = (copy / file).read_text()
        assert old in text
        (copy / file).write_text(text.replace(old, new))
        if '12' in new:
            (copy / 'label.labels.txt').unlink()
    assert reason in refused(read, tmp_path)


def test_another_number_of_records_than_stated_is_refused(copy, tmp_path, refused):
    for stated in ('39', '41'):
        edit_info(copy, lambda info, stated=stated: info['splits'][0].update(shardLengths=[stated]))
        said = refused(read, tmp_path)
        assert f'holds 40 records, where dataset_info.json states {stated}' in said


@pytest.mark.parametrize('kept', [0, 70_000])
def test_a_truncated_file_is_named(copy, tmp_path, kept, refused):
    file = copy / stored.file_name('cifar10', 'test', 0, 1)
    file.write_bytes(file.read_bytes()[:kept])
    assert f'{file} is damaged' in refused(read, tmp_path, 'test')


@pytest.mark.parametrize(
    ('size', 'cut', 'label', 'reason'),
    [
        (16, 0, 3, 'an image of 16x16 pixels among those of 32x32'),
        (32, 50, 3, 'truncated'),
        (32, 0, 10, 'label 10, where cifar10 has 0 to 9'),
        (32, 0, -1, 'label -1'),
    ],
)
def test_a_record_of_another_kind_is_named(copy, tmp_path, refused, size, cut, label, reason):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {'id': tfds.features.Text(), 'image': tfds.features.Text(), 'label': tfds.features.Scalar(np.int64)}
    )
    encoded = encode_png(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))
    image = encoded[: len(encoded) - cut]
    file = copy / stored.file_name('cifar10', 'train', 0, 1)
    records = read_records(file)
    records[23] = features.serialize_example({'id': 'x', 'image': image, 'label': label})
    write_records(file, records)  # all checksums sound
    said = refused(read, tmp_path)
    assert f'{file}, record 23: ' in said and reason in said
