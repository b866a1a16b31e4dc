"""A folder of images -> a TFDS dataset -> the same bytes, labels and names; or nothing at all."""

import contextlib
import json
import resource
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import default
from resnet_jax.data import convert as converting
from resnet_jax.data import records, sources, stored
from resnet_jax.data.convert import convert, shards
from resnet_jax.data.folder import open_folder
from resnet_jax.progress import silent
from tests.data.folders import contents, noise, write

IMAGES = [f'{split}/{label}/{name}' for split in ('train', 'val') for label in ('cat', 'Ünit 1')
          for name in ('1.jpg', '2.PNG', 'deep/3.gif', '4.bmp', '5.webp')]  # fmt: skip


pytestmark = pytest.mark.usefixtures('cache')


@pytest.fixture
def folder(tmp_path):
    return open_folder(write(tmp_path / 'root', *IMAGES), 0.5, silent)


def everything(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob('*') if file.is_file()}


def test_the_dataset_holds_the_bytes_labels_and_names_of_the_folder_in_its_order(folder, tmp_path):
    told = []
    path = convert(folder, tmp_path / 'tfds', 'pets', lambda *what: told.append(what))
    assert path == tmp_path / 'tfds' / 'pets' / '1.0.0'
    assert told == [('writing train', 10, 10), ('writing test', 10, 10)]
    builder: Any = tfds.builder_from_directory(path)
    assert builder.info.features['label'].names == ['cat', 'Ünit 1']
    assert builder.info.full_name == 'pets/1.0.0' and builder.info.splits['test'].num_examples == 10
    raw = {'image': tfds.decode.SkipDecoding()}
    for split, files in folder.splits.items():
        examples = list(builder.as_data_source(split, decoders=raw))
        assert [(each['filename'].decode(), each['image'], each['label']) for each in examples] == contents(files)


def test_tfds_decodes_it_without_tensorflow(folder, tmp_path):
    path = convert(folder, tmp_path / 'tfds', 'pets', silent)
    builder: Any = tfds.builder_from_directory(path)
    examples = list(builder.as_data_source('train'))
    assert 'tensorflow' not in sys.modules
    assert [each['image'].shape for each in examples] == [(10, 12, 3)] * 10
    png = next(each for each in examples if each['filename'] == b'train/cat/2.PNG')
    np.testing.assert_array_equal(png['image'], np.asarray(noise(seed=int.from_bytes(b'at/2.PNG', 'big'))))


def test_what_reads_prepared_copies_reads_it(folder, tmp_path):
    convert(folder, tmp_path / 'tfds', 'pets', silent)
    copy = stored.find('pets', tmp_path / 'tfds')
    features = records.features(copy)
    assert features.classes == folder.classes and features.shape is None and features.channels == 3
    for split, files in folder.splits.items():
        read = records.open_split(copy, split, features)
        assert read.read(range(len(read))) == files.read(range(len(files)))
        np.testing.assert_array_equal(read.labels, files.labels)


def test_the_same_folder_gives_the_same_bytes(folder, tmp_path):
    one, two = (everything(convert(folder, tmp_path / name, 'pets', silent)) for name in ('one', 'two'))
    assert one == two and len(one) == 5


def test_a_name_that_is_no_text_keeps_its_bytes(tmp_path):
    root = write(tmp_path / 'root', *IMAGES)
    (root / 'train/cat/1.jpg').rename(root / 'train/cat' / b'\xff.jpg'.decode(errors='surrogateescape'))
    path = convert(open_folder(root, 0.5, silent), tmp_path / 'tfds', 'pets', silent)
    builder: Any = tfds.builder_from_directory(path)
    assert b'train/cat/\xff.jpg' in [each['filename'] for each in builder.as_data_source('train')]


# Shards


def test_a_shard_ends_where_it_would_be_too_large_and_none_is_empty():
    million = 2**20
    assert shards(np.array([1])) == [1]
    assert shards(np.full(1024, million)) == [256, 256, 256, 256]
    assert shards(np.full(1025, million)) == [256, 256, 256, 256, 1]
    assert shards(np.array([600 * million, 5, 1, 600 * million, 7])) == [1, 3, 1]
    assert shards(np.array([0, 0, 0])) == [3]


def test_examples_of_many_shards_come_in_order(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(converting, 'SHARD', 1000)
    path = convert(folder, tmp_path / 'tfds', 'pets', silent)
    builder: Any = tfds.builder_from_directory(path)
    names = sorted(file.name for file in path.glob('pets-train.array_record-*'))
    assert 3 <= len(names) < 10 and names[1] == f'pets-train.array_record-00001-of-{len(names):05}'
    assert min(builder.info.splits['train'].shard_lengths) > 0
    found = [each['filename'].decode() for each in builder.as_data_source('train')]
    assert found == [name for name, _, _ in contents(folder.splits['train'])]


# Whole or not at all


def test_a_dataset_already_there_is_left_alone(folder, tmp_path, refused):
    path = convert(folder, tmp_path / 'tfds', 'pets', silent)
    before = everything(tmp_path / 'tfds')
    said = refused(convert, folder, tmp_path / 'tfds', 'pets', silent)
    assert said == f'{path} exists already; give another name, or remove it'
    assert everything(tmp_path / 'tfds') == before


def test_where_another_process_was_first_its_dataset_stands(folder, tmp_path, refused):
    target = tmp_path / 'tfds' / 'pets' / '1.0.0'

    def meanwhile(what, done, total):
        target.mkdir(parents=True, exist_ok=True)
        (target / 'theirs').touch()

    assert 'exists already' in refused(convert, folder, tmp_path / 'tfds', 'pets', meanwhile)
    assert [path.name for path in target.iterdir()] == ['theirs']
    assert [path.name for path in (tmp_path / 'tfds').iterdir()] == ['pets']


@pytest.mark.parametrize('change', ['unlink', 'grow'])
def test_a_file_that_changed_meanwhile_is_named_and_nothing_is_left(folder, tmp_path, change, refused):
    file = tmp_path / 'root/val/cat/2.PNG'
    if change == 'unlink':
        file.unlink()
    else:
        file.write_bytes(file.read_bytes() + b'more')
    said = refused(convert, folder, tmp_path / 'tfds', 'pets', silent)
    assert said.startswith(f'{file}: ') and ('No such file' in said or 'changed since it was indexed' in said)
    assert list((tmp_path / 'tfds').iterdir()) == []


def test_an_interrupted_conversion_leaves_nothing(folder, tmp_path):
    def interrupt(what, done, total):
        if what == 'writing test':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / 'tfds', 'pets', interrupt)
    assert list((tmp_path / 'tfds').iterdir()) == []


@contextlib.contextmanager
def files_limited_to(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('size', [100, 2000])  # of the features, of the records
def test_a_disk_that_takes_no_more_is_said_in_one_line_and_nothing_is_left(folder, tmp_path, size, refused):
    with files_limited_to(size):
        said = refused(convert, folder, tmp_path / 'tfds', 'pets', silent)
    assert f'{tmp_path}/tfds/pets/1.0.0 cannot be written: ' in said and 'File too large' in said
    assert said.endswith('; give another directory') and list((tmp_path / 'tfds').iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(folder, tmp_path, refused):
    (tmp_path / 'file').touch()
    said = refused(convert, folder, tmp_path / 'file' / 'tfds', 'pets', silent)
    assert 'Not a directory; give another directory' in said


@pytest.mark.parametrize('name', ['', 'my-pets', '1pets', 'a/b', '../pets', 'pets ', 'péts', '.pets', 'Pets'])
def test_a_name_that_tfds_does_not_read_is_refused(folder, tmp_path, name, refused):
    assert f'the name {name!r} is none that TFDS reads' in refused(convert, folder, tmp_path / 'tfds', name, silent)
    assert not (tmp_path / 'tfds').exists()


def test_a_class_that_tfds_would_rename_is_refused(tmp_path, refused):
    folder = open_folder(
        write(tmp_path / 'root', *(f'{label}/{n}.jpg' for label in ('a', 'b ') for n in '12')), 0.5, silent
    )
    said = refused(convert, folder, tmp_path / 'tfds', 'pets', silent)
    assert said == "the class 'b ' has a space at an end, which TFDS would lose; rename its folder"


def test_a_set_without_a_test_split_keeps_a_share_of_each_class_for_testing(folder, tmp_path):
    path = convert(folder, tmp_path / 'tfds', 'mine', silent)
    info = json.loads((path / 'dataset_info.json').read_text())
    info['splits'] = [split for split in info['splits'] if split['name'] == 'train']
    (path / 'dataset_info.json').write_text(json.dumps(info))
    data = default.get_config().data
    data.update(dataset='mine', data_dir=str(tmp_path / 'tfds'), test_share=0.2)
    opened = sources.opened(data)
    train, test = opened.split('train'), opened.split('test')
    assert (len(train), len(test)) == (8, 2) and np.bincount(test.labels).tolist() == [1, 1]
    whole = folder.splits['train']
    parts, all_of_them = (
        sorted(
            example[0] for split in splits for example in split.read(range(len(split))) if isinstance(example, tuple)
        )
        for splits in ((train, test), (whole,))
    )
    assert parts == all_of_them and len(parts) == 10
