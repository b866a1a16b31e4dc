"""A folder of images as a dataset: what becomes of each layout, and how its files are read."""

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from resnet_jax.data.folder import open_folder
from resnet_jax.data.source import Unreadable
from tests.data.folders import SPLIT, contents, names, read, write

pytestmark = pytest.mark.usefixtures('cache')


# Layouts


@pytest.mark.parametrize('test', ['test', 'val', 'validation', 'Test'])
def test_a_folder_of_train_and_test_gives_both_as_they_are(tmp_path, test):
    write(tmp_path, *(name.replace('test/', f'{test}/') for name in SPLIT))
    folder = read(tmp_path)
    assert folder.classes == ('cat', 'dog') and folder.ignored == 0
    assert names(folder.splits['train']) == ['train/cat/1.jpg', 'train/dog/1.png', 'train/dog/2.jpg']
    assert names(folder.splits['test']) == [f'{test}/cat/1.jpg', f'{test}/dog/9.jpg']
    for split, labels in (('train', [0, 1, 1]), ('test', [0, 1])):
        files = folder.splits[split]
        assert files.labels.dtype == np.int32 and files.labels.tolist() == labels and len(files) == len(labels)
        assert files.shape is None
        for index, (name, encoded, label) in enumerate(contents(files)):
            assert encoded == (tmp_path / name).read_bytes() and label == labels[index]
            assert files.place(index) == str(tmp_path / name)


def test_files_are_in_the_order_of_classes_and_names_however_they_were_made(tmp_path):
    made = [f'{label}/{name}.png' for label in ('b', 'a', 'é', 'B') for name in ('2', '10', 'x/1', 'x.y', '1')]
    write(tmp_path / 'one', *made)
    write(tmp_path / 'two', *reversed(made))
    one, two = read(tmp_path / 'one'), read(tmp_path / 'two')
    assert one.classes == two.classes == ('B', 'a', 'b', 'é')
    for split in ('train', 'test'):
        assert contents(one.splits[split]) == contents(two.splits[split])
        inside = names(one.splits[split])
        assert inside == sorted(inside, key=os.fsencode)


def test_images_below_a_class_folder_are_of_that_class(tmp_path):
    write(tmp_path, 'train/cat/young/small/1.jpg', 'train/cat/2.jpg', 'train/dog/a/3.jpg', *SPLIT[3:])
    files = read(tmp_path).splits['train']
    assert names(files) == ['train/cat/2.jpg', 'train/cat/young/small/1.jpg', 'train/dog/a/3.jpg']
    assert files.labels.tolist() == [0, 0, 1]


def test_images_are_known_by_their_extension_and_what_else_lies_there_is_counted(tmp_path):
    kinds = [f'{case}' for kind in ('jpg', 'jpeg', 'png', 'webp', 'bmp', 'gif') for case in (kind, kind.upper())]
    write(tmp_path, *SPLIT, *(f'train/cat/image.{kind}' for kind in kinds), 'train/cat/.hidden.jpg')
    write(tmp_path, 'train/.thumbnails/1.jpg', '.git/x/1.jpg', 'train/dog/.cache/1.jpg', '.DS_Store')
    assert read(tmp_path).ignored == 0 and len(read(tmp_path).splits['train']) == 3 + 12
    write(
        tmp_path, 'README.md', 'train/labels.csv', 'test/a.txt', 'train/cat/1.xml', 'train/dog/deep/jpg', 'notes/n.md'
    )
    folder = read(tmp_path)
    assert folder.ignored == 6 and len(folder.splits['train']) == 3 + 12


@pytest.mark.parametrize('inside', ['', 'train/'])
def test_without_a_test_folder_each_class_gives_its_share(tmp_path, inside):
    sizes = {'a': 2, 'b': 5, 'c': 10, 'd': 30}
    write(tmp_path, *(f'{inside}{label}/{number}.png' for label, size in sizes.items() for number in range(size)))
    for share, expected in ((0.2, [1, 1, 2, 6]), (0.5, [1, 2, 5, 15]), (0.001, [1, 1, 1, 1]), (0.999, [1, 4, 9, 29])):
        train, test = (read(tmp_path, share).splits[split] for split in ('train', 'test'))
        assert np.bincount(test.labels).tolist() == expected
        assert (np.bincount(train.labels) + np.bincount(test.labels)).tolist() == list(sizes.values())
        assert len({*names(train), *names(test)}) == sum(sizes.values())
        for files in (train, test):
            assert names(files) == sorted(names(files)) and (np.diff(files.labels) >= 0).all()


def test_the_same_files_are_held_out_for_good_and_another_class_changes_nothing(tmp_path):
    write(tmp_path, *(f'{label}/{number:02}.png' for label in 'bd' for number in range(20)))
    before = names(read(tmp_path, 0.2).splits['test'])
    drawn = sorted(np.random.RandomState(1512).permutation(20)[:4])
    assert before == [f'{label}/{number:02}.png' for label in 'bd' for number in drawn]
    write(tmp_path, *(f'{label}/{number:02}.png' for label in 'ac' for number in range(7)))
    after = names(read(tmp_path, 0.2).splits['test'])
    assert [name for name in after if name[0] in 'bd'] == before


@pytest.mark.parametrize('share', [0.0, 1.0, -0.2, 20.0, float('nan')])
def test_a_share_that_is_none_is_refused(tmp_path, share, refused):
    said = refused(read, write(tmp_path, *SPLIT), share)
    assert said == f'data.test_share is {share}; it is above 0 and below 1'


def test_files_are_counted_as_they_are_found(tmp_path):
    told = []
    open_folder(write(tmp_path, *SPLIT), 0.5, lambda *what: told.append(what))
    assert told[-1] == ('indexing', 5, 5) and told[:-1] == [('indexing', done, 0) for done in (1, 3, 4, 5)]


# Reading


def test_a_file_that_changed_or_went_since_it_was_indexed_cannot_be_read(tmp_path):
    files = read(write(tmp_path, *SPLIT)).splits['train']
    whole = (tmp_path / 'train/cat/1.jpg').read_bytes()
    (tmp_path / 'train/cat/1.jpg').write_bytes(whole[:-1])
    (tmp_path / 'train/dog/1.png').unlink()
    changed, gone, sound = files.read([0, 1, 2])
    assert isinstance(changed, Unreadable) and isinstance(gone, Unreadable)
    assert str(changed).startswith(
        f'changed since it was indexed: {len(whole) - 1} bytes, where there were {len(whole)} (touch its folder '
    )
    assert str(gone) == 'No such file or directory'
    assert sound == ((tmp_path / 'train/dog/2.jpg').read_bytes(), 1)


def test_a_file_whose_name_is_no_text_is_read_and_named_in_one_line(tmp_path):
    write(tmp_path, *SPLIT)
    sound = (tmp_path / 'train/cat/1.jpg').read_bytes()
    for name in (b'\xff.jpg', b'a\nb\x1b.jpg'):
        Path(os.fsdecode(os.fsencode(tmp_path) + b'/train/cat/' + name)).write_bytes(sound)
    files = read(tmp_path).splits['train']
    assert [files.name(index) for index in range(3)] == [
        b'train/cat/1.jpg', b'train/cat/a\nb\x1b.jpg', b'train/cat/\xff.jpg',
    ]  # fmt: skip
    assert files.read([0, 1, 2]) == [(sound, 0)] * 3
    assert files.place(1) == rf'{tmp_path}/train/cat/a\nb\x1b.jpg' and files.place(2).endswith(r'cat/\xff.jpg')


def test_a_split_is_small_and_reads_in_another_process(tmp_path):
    write(tmp_path, *(f'{label}/{number}.bmp' for label in 'ab' for number in range(500)))
    files = read(tmp_path, 0.1).splits['train']
    pickled = pickle.dumps(files)
    assert len(pickled) < 900 * (len('a/123.bmp') + 24) + 2000
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        assert pool.submit(files.read, [0, 899]).result() == files.read([0, 899])
