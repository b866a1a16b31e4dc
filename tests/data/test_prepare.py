"""An archive in the official binary format -> a prepared copy -> the same pixels and labels; or nothing at all."""

import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from resnet_jax.data import archive as archives
from resnet_jax.data import prepare, sources, stored
from resnet_jax.errors import UserError


def quiet(what, done, total):
    pass


def everything(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob('*') if file.is_file()}


def test_a_prepared_archive_loads_as_the_same_pixels_and_labels(dataset, made, tmp_path, data_config):
    told = []
    path = prepare.prepare(dataset, tmp_path / 'tfds', made.path, lambda *what: told.append(what), sha256=made.sha256)
    assert path == tmp_path / 'tfds' / dataset / '3.0.2'
    loaded = sources.load(data_config(dataset, tmp_path / 'tfds'))
    for split in ('train', 'test'):
        images, labels = made.content.splits[split]
        order = prepare.order(split, len(images))
        np.testing.assert_array_equal(getattr(loaded, split).images, images[order])
        np.testing.assert_array_equal(getattr(loaded, split).labels, labels['label'][order])
        assert (f'writing {split}', len(images), len(images)) in told
    assert loaded.classes == tuple(made.content.names['label'])
    assert sources.describe(dataset, str(tmp_path / 'tfds'))['splits'] == {'train': 35, 'test': 7}


def test_the_order_is_the_one_in_which_tfds_stores_cifar10():
    # As TFDS's own preparation of cifar10 3.0.2 starts: train_16399, train_01680, ...
    assert prepare.order('train', 50_000)[:6] == [16399, 1680, 47917, 17307, 27051, 48736]
    assert sorted(prepare.order('test', 10_000)) == list(range(10_000))


def test_tfds_finds_the_copy_by_its_name_with_its_own_features(dataset, made, tmp_path):
    import tensorflow_datasets as tfds

    prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)
    builder: Any = tfds.builder(dataset, data_dir=str(tmp_path / 'tfds'))
    assert builder.version == '3.0.2'
    assert type(builder).__name__ in ('Cifar10', 'Cifar100')  # TFDS's own class, which states the features itself
    images, labels = made.content.splits['test']
    order = prepare.order('test', len(images))
    for record, index in zip(builder.as_data_source('test'), order, strict=True):
        assert set(record) == {'id', 'image', *labels}
        assert record['id'] == f'test_{index:05}'.encode()
        np.testing.assert_array_equal(record['image'], images[index])
        assert all(record[label] == numbers[index] for label, numbers in labels.items())
    assert {label: builder.info.features[label].names for label in labels} == made.content.names


def test_imagenet_is_not_downloaded_but_the_way_to_it_is_told(tmp_path, refused):
    said = refused(prepare.prepare, 'imagenet2012', tmp_path / 'tfds', None, quiet)
    assert 'cannot be downloaded freely' in said and 'ILSVRC2012_img_val.tar' in said
    assert f'tfds build imagenet2012 --file_format=array_record --manual_dir DIR --data_dir {tmp_path}/tfds' in said
    assert not (tmp_path / 'tfds').exists()


def test_each_record_is_stored_in_a_group_of_its_own(dataset, made, tmp_path):
    from array_record.python.array_record_module import ArrayRecordReader

    path = prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)
    reader = ArrayRecordReader(str(path / f'{dataset}-train.array_record-00000-of-00001'))
    assert 'group_size:1,' in reader.writer_options_string()
    reader.close()


def test_a_copy_already_there_is_left_alone(dataset, made, tmp_path):
    path = prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    told = []
    again = prepare.prepare(dataset, tmp_path / 'tfds', None, lambda *what: told.append(what))
    assert again == path and told == [('already prepared', 1, 1)]
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before


def test_the_same_archive_gives_the_same_bytes(dataset, made, tmp_path):
    one, two = (
        prepare.prepare(dataset, tmp_path / name, made.path, quiet, sha256=made.sha256) for name in ('one', 'two')
    )
    assert everything(one) == everything(two) and len(everything(one)) == 5 + (dataset == 'cifar100')


def test_any_archive_but_the_official_one_is_refused(made, dataset, tmp_path):
    with pytest.raises(UserError, match=archives.ARCHIVES[dataset].sha256):
        prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet)
    assert not (tmp_path / 'tfds').exists()


def test_an_archive_that_is_refused_leaves_nothing(made, dataset, tmp_path, refused):
    data = made.path.read_bytes()
    made.path.write_bytes(data[: len(data) // 2])
    said = refused(prepare.prepare, dataset, tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)
    assert 'not a whole tar.gz archive' in said and list((tmp_path / 'tfds').iterdir()) == []


def test_members_that_are_not_asked_for_are_never_written(made, dataset, tmp_path):
    made.pack(made.files | {'../outside': b'x', '/tmp/outside': b'x'})
    prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)
    assert {path.name for path in tmp_path.iterdir()} == {'archive.tar.gz', 'tfds'}
    assert not [file for file in tmp_path.rglob('*') if file.name == 'outside']


def test_only_archives_are_prepared(tmp_path):
    with pytest.raises(UserError, match='cifar10 and cifar100 are, and digits needs no preparing'):
        prepare.prepare('digits', tmp_path, None, quiet)


def test_an_interrupted_preparation_leaves_nothing(made, dataset, tmp_path):
    def interrupt(what, done, total):
        if what == 'writing test':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(dataset, tmp_path / 'tfds', made.path, interrupt, sha256=made.sha256)
    assert list((tmp_path / 'tfds').iterdir()) == []


def test_a_killed_preparation_leaves_nothing_that_is_taken_for_a_copy(tmp_path, make_archive, data_config):
    made = make_archive('cifar10', tmp_path / 'archive.tar.gz')
    script = f"""
import os, pathlib, signal
from resnet_jax.data import prepare
def kill(what, done, total):
    if what == 'writing test': os.kill(os.getpid(), signal.SIGKILL)
root, archive = map(pathlib.Path, {[str(tmp_path / 'tfds'), str(made.path)]!r})
prepare.prepare('cifar10', root, archive, kill, sha256={made.sha256!r})
"""
    assert subprocess.run([sys.executable, '-c', script]).returncode == -signal.SIGKILL
    left = list((tmp_path / 'tfds').iterdir())
    assert left and all(entry.name.startswith('.') for entry in left)
    with pytest.raises(UserError, match='holds no cifar10'):
        stored.find('cifar10', tmp_path / 'tfds')
    prepare.prepare('cifar10', tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)
    assert len(sources.load(data_config('cifar10', tmp_path / 'tfds')).test) == 7


def test_a_place_that_cannot_be_written_is_named(made, dataset, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='Not a directory; pass another --data-dir'):
        prepare.prepare(dataset, tmp_path / 'file' / 'tfds', made.path, quiet, sha256=made.sha256)


def test_a_directory_without_permission_is_named(made, dataset, tmp_path):
    (tmp_path / 'tfds').mkdir(mode=0o555)
    if os.access(tmp_path / 'tfds', os.W_OK):
        pytest.skip('needs a user whom permissions bind: root may write anywhere')
    with pytest.raises(UserError, match='Permission denied; pass another --data-dir'):
        prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)


def test_a_copy_in_another_format_is_not_overwritten(made, dataset, tmp_path):
    target = tmp_path / 'tfds' / dataset / '3.0.2'
    target.mkdir(parents=True)
    (target / 'dataset_info.json').write_text('{"fileFormat": "tfrecord"}')
    with pytest.raises(UserError, match='is stored as tfrecord'):
        prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)
    assert [file.name for file in target.iterdir()] == ['dataset_info.json']
