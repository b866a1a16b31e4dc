"""A folder of images as a dataset: what becomes of each layout, what is refused, and when the index is made anew."""

import hashlib
import multiprocessing
import os
import pickle
import re
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from resnet_jax.data.folder import open_folder
from resnet_jax.data.hold_out import held_out
from resnet_jax.data.source import Unreadable
from resnet_jax.progress import silent
from tests.data.folders import bound_by_permissions, contents, settle, write

SPLIT = ('train/dog/2.jpg', 'train/dog/1.png', 'train/cat/1.jpg', 'test/cat/1.jpg', 'test/dog/9.jpg')


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """Where indices are kept."""
    path = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(path))
    return path


def read(root, share=0.5):
    return open_folder(root, share, silent)


def names(files):
    return [name for name, _, _ in contents(files)]


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


# What is refused

REFUSED = {
    'no images': ((), ' holds no images; give a folder that holds a folder of images for each class'),
    'no images in folders': (('a/x.txt', 'b/y.txt'), ' holds no images; give a folder of files called *.jpg *.jpeg'),
    'empty class': (('a/1.jpg', 'b/x.txt'), '/b holds no image; remove it, or fill it'),
    'empty test class': ((*SPLIT, 'test/dog/9.jpg', 'train/c/1.jpg', 'test/c/x.txt'), '/test/c holds no image; remove'),
    'one class': (('a/1.jpg', 'a/2.jpg'), " holds one class alone, 'a'; add the others, or give the folder inside it"),
    'one class in train': (('train/a/1.jpg', 'test/a/2.jpg'), "/train holds one class alone, 'a'"),
    'mixed': ((*SPLIT, 'bird/1.jpg'), '/bird of images lies mixed with the splits train/ and test/; move it'),
    'two trains': ((*SPLIT, 'Train/a/1.jpg'), 'rain of images lies mixed with'),
    'unknown test class': ((*SPLIT, 'test/bird/1.jpg'), "/test has a class 'bird' that "),
    'no train': (('test/a/1.jpg', 'test/b/1.jpg', 'c/1.jpg'), ' has test/ but no train/; add that, or rename test/'),
    'two tests': ((*SPLIT, 'val/cat/1.jpg'), ' has test/ and val/; leave the one to test on, and move the rest away'),
    'in root': (('a/1.jpg', 'b/1.jpg', 'z.png', 'y.png'), '/y.png lies in no class folder, so it has no label; move'),
    'in root alone': (('1.jpg', '2.jpg'), '/1.jpg lies in no class folder'),
    'in train': ((*SPLIT, 'train/1.jpg'), '/train/1.jpg lies in no class folder, so it has no label; move it into one'),
    'in test': ((*SPLIT, 'test/1.jpg'), '/test/1.jpg lies in no class folder'),
    'class called train': (('train/1.jpg', 'bus/1.jpg'), 'away, or rename train/ if that is its class'),
    'one image': (('a/1.jpg', 'a/2.jpg', 'b/1.jpg'), "the class 'b' of "),
    'one image in train': (('train/a/1.jpg', 'train/a/2.jpg', 'train/b/1.jpg'), 'a test folder beside train/'),
    'line break': (('a\nb/1.jpg', 'c/1.jpg'), r'/a\nb has a line break; rename it'),
    'other line break': (('a\u2028b/1.jpg', 'c/1.jpg'), r'/a\u2028b has a line break; rename it'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_leaves_a_question_open_is_refused_in_one_line_that_says_what_to_do(tmp_path, case, refused):
    files, expected = REFUSED[case]
    said = refused(read, write(tmp_path, *files))
    assert expected in said and str(tmp_path) in said


def test_a_class_whose_name_is_no_text_is_refused(tmp_path, refused):
    write(tmp_path, 'a/1.jpg')
    os.mkdir(os.fsencode(tmp_path) + b'/caf\xe9')
    assert f'the class folder {tmp_path}/caf\\xe9 is not UTF-8; rename it' in refused(read, tmp_path)


def test_where_there_is_no_folder_that_is_said(tmp_path, refused):
    (tmp_path / 'file').touch()
    (tmp_path / 'round').symlink_to('round')
    for name, expected in (
        ('absent', f'the folder of images {tmp_path}/absent cannot be entered: No such file or directory'),
        ('file', f'{tmp_path}/file is no folder; give the one'),
        ('round', 'Too many levels of symbolic links'),
    ):
        assert expected in refused(read, tmp_path / name)


@pytest.fixture
def public():
    """A folder that everyone may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize('closed', ['', 'train', 'train/cat', 'train/cat/deep'])
def test_a_folder_without_permission_is_named(public, closed, refused):
    write(public, *SPLIT, 'train/cat/deep/1.jpg')
    os.chmod(public / closed, 0)
    try:
        with bound_by_permissions():
            said = refused(read, public)
        assert str(public / closed) in said and 'Permission denied' in said
    finally:
        os.chmod(public / closed, 0o755)


# Links


def test_links_to_files_and_folders_are_followed(tmp_path):
    write(tmp_path / 'elsewhere', 'cats/1.jpg', 'cats/deep/2.jpg', 'dog.jpg')
    write(tmp_path / 'root', 'test/cat/1.jpg', 'test/dog/1.jpg', 'train/dog/1.jpg')
    (tmp_path / 'root/train/cat').symlink_to(tmp_path / 'elsewhere/cats')
    (tmp_path / 'root/train/dog/2.jpg').symlink_to('../../../elsewhere/dog.jpg')
    files = read(tmp_path / 'root').splits['train']
    assert names(files) == ['train/cat/1.jpg', 'train/cat/deep/2.jpg', 'train/dog/1.jpg', 'train/dog/2.jpg']
    assert contents(files)[3][1] == (tmp_path / 'elsewhere/dog.jpg').read_bytes()


def test_a_loop_of_links_ends_and_no_folder_is_entered_twice_for_a_class(tmp_path):
    write(tmp_path, *SPLIT, 'train/cat/z/7.jpg')
    for name, target in {
        'itself': '.', 'class': '../cat', 'train': '..', 'root': '../..', 'above': '../../..', 'top': '/', 'a': 'z',
        'nowhere': 'absent', 'round': 'round', 'z/back': '../a',
    }.items():  # fmt: skip
        (tmp_path / 'train/cat' / name).symlink_to(target)
    folder = read(tmp_path)
    assert names(folder.splits['train'])[:2] == ['train/cat/1.jpg', 'train/cat/a/7.jpg']
    assert len(folder.splits['train']) == 4 and folder.ignored == 2  # nowhere and round


def test_a_link_to_nothing_and_an_empty_file_cannot_be_read_and_a_pipe_is_no_image(tmp_path):
    write(tmp_path, *SPLIT)
    (tmp_path / 'train/cat/2.jpg').symlink_to('absent.jpg')
    (tmp_path / 'train/cat/3.jpg').symlink_to('3.jpg')
    (tmp_path / 'train/cat/4.jpg').touch()
    os.mkfifo(tmp_path / 'train/cat/5.jpg')
    folder = read(tmp_path)
    files = folder.splits['train']
    assert names_of(files) == ['1.jpg', '2.jpg', '3.jpg', '4.jpg', '1.png', '2.jpg'] and folder.ignored == 1
    found = files.read(range(6))
    assert [str(each) for each in found if isinstance(each, Unreadable)] == [
        'No such file or directory', 'Too many levels of symbolic links', 'an empty file',
    ]  # fmt: skip
    assert found[0] == ((tmp_path / 'train/cat/1.jpg').read_bytes(), 0)


def names_of(files):
    return [os.fsdecode(files.name(index)).rpartition('/')[2] for index in range(len(files))]


@pytest.mark.parametrize('link', [os.symlink, os.link])
def test_a_file_in_both_splits_is_refused_and_a_copy_is_not(tmp_path, link, refused):
    write(tmp_path, *SPLIT)
    shutil.copyfile(tmp_path / 'train/dog/1.png', tmp_path / 'test/dog/copy.png')
    assert len(read(tmp_path).splits['test']) == 3
    link(tmp_path / 'train/dog/1.png', tmp_path / 'test/dog/a.png')
    assert refused(read, tmp_path) == (
        f'{tmp_path}/test/dog/a.png is the same file as {tmp_path}/train/dog/1.png, but one is in test and one in '
        'train; remove one of them'
    )


def test_a_test_folder_that_is_the_train_folder_is_refused(tmp_path, refused):
    write(tmp_path, *SPLIT[:3])
    (tmp_path / 'test').symlink_to('train')
    assert 'is the same file as' in refused(read, tmp_path)


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


# What says which files they are


def test_the_fingerprint_is_that_of_names_sizes_labels_and_splits(tmp_path):
    write(tmp_path / 'one', *SPLIT, 'train/cat/2.jpg')
    shutil.copytree(tmp_path / 'one', tmp_path / 'two')
    settle(tmp_path / 'two')
    first = read(tmp_path / 'one').fingerprint
    assert re.fullmatch('[0-9a-f]{16}', first)
    two = tmp_path / 'two'
    write(two, 'notes.txt', '.hidden.jpg')
    assert read(two).fingerprint == first == read(two, 0.9).fingerprint  # the share is of no matter here
    found = {first}
    for change in (
        lambda: (two / 'train/cat/2.jpg').rename(two / 'train/cat/3.jpg'),
        lambda: (two / 'train/cat/3.jpg').rename(two / 'train/dog/3.jpg'),
        lambda: (two / 'train/dog/3.jpg').rename(two / 'test/dog/3.jpg'),
        lambda: (two / 'train/cat/1.jpg').write_bytes(b'x'),
        lambda: (two / 'train/cat').rename(two / 'train/c') and (two / 'test/cat').rename(two / 'test/c'),
        lambda: (two / 'test').rename(two / 'val'),
    ):
        change()
        found.add(read(two).fingerprint)
    assert len(found) == 7


def test_the_fingerprint_of_a_folder_without_a_test_folder_is_of_its_share_too(tmp_path):
    write(tmp_path, *(f'{label}/{number}.png' for label in 'ab' for number in range(10)))
    found = {share: read(tmp_path, share).fingerprint for share in (0.2, 0.21, 0.3)}
    assert found[0.2] == found[0.21] != found[0.3]


# The index


@pytest.fixture
def kept(tmp_path, cache):
    """A folder whose index is kept, and that index."""
    root = tmp_path / 'root'
    write(root, *SPLIT, 'train/cat/deep/1.jpg', 'notes/n.md')
    settle(root)
    read(root)
    (index,) = (cache / 'resnet_jax' / 'folders').iterdir()
    assert index.suffix == '.npz'
    return root, index


def seen(root, share=0.5):
    """The size of one file, as the index says."""
    return int(read(root, share).splits['train'].sizes[0])


def grow(root):
    """Makes that file longer, which no folder shows: so that an index made anew can be told from the one kept."""
    with (root / 'train/cat/1.jpg').open('ab') as file:
        file.write(b'more')


def test_an_index_is_kept_and_holds_the_same(kept):
    root, _ = kept
    again, size = read(root), (root / 'train/cat/1.jpg').stat().st_size
    grow(root)
    assert seen(root) == size  # as it was kept
    write(root, 'train/cat/.x')  # now the folder has changed
    assert seen(root) == size + 4
    anew = read(root)
    assert anew.classes == again.classes and anew.ignored == again.ignored
    assert names(anew.splits['test']) == names(again.splits['test'])
    assert anew.fingerprint != again.fingerprint


def test_an_index_that_is_kept_equals_the_one_made(tmp_path, cache):
    write(tmp_path, *SPLIT, 'x.txt')
    made = read(tmp_path)
    assert not list(cache.iterdir())  # so young a folder may change again within a tick of its clock
    settle(tmp_path)
    read(tmp_path)
    told = []
    kept = open_folder(tmp_path, 0.5, lambda *what: told.append(what))
    assert told == [] and list(cache.rglob('*.npz'))
    assert (kept.classes, kept.fingerprint, kept.ignored) == (made.classes, made.fingerprint, made.ignored)
    for split, files in made.splits.items():
        assert contents(kept.splits[split]) == contents(files)
        assert kept.splits[split].labels.dtype == np.int32 and kept.splits[split].place(0) == files.place(0)


@pytest.mark.parametrize('where', ['', 'train', 'test', 'train/cat', 'train/cat/deep', 'notes'])
def test_a_change_in_any_folder_makes_it_anew(kept, where):
    root, _ = kept
    before = seen(root)
    grow(root)
    assert seen(root) == before
    (root / where / 'new').touch()
    assert seen(root) == before + 4


def test_a_change_behind_a_link_makes_it_anew(tmp_path):
    root = write(tmp_path / 'root', *SPLIT)
    write(tmp_path / 'elsewhere', 'deep/1.jpg')
    (root / 'train/cat/link').symlink_to(tmp_path / 'elsewhere')
    settle(tmp_path)
    assert len(read(root).splits['train']) == 4
    write(tmp_path / 'elsewhere', 'deep/2.jpg')
    assert len(read(root).splits['train']) == 5


def test_a_folder_that_went_or_came_makes_it_anew(kept):
    root, _ = kept
    shutil.rmtree(root / 'train/cat/deep')
    assert len(read(root).splits['train']) == 3
    settle(root)
    assert len(read(root).splits['train']) == 3
    write(root, 'train/bird/1.jpg', 'test/bird/1.jpg')
    assert read(root).classes == ('bird', 'cat', 'dog')


def test_another_share_makes_it_anew(kept):
    root, _ = kept
    before = seen(root)
    grow(root)
    assert seen(root) == before and seen(root, 0.25) == before + 4


def test_another_way_to_the_same_folder_shares_its_index_and_has_its_own_places(kept, tmp_path, cache):
    root, _ = kept
    before = seen(root)
    grow(root)
    (tmp_path / 'link').symlink_to('root')
    assert seen(tmp_path / 'link') == before and len(list(cache.rglob('*.npz'))) == 1
    assert read(tmp_path / 'link').splits['train'].place(0) == f'{tmp_path}/link/train/cat/1.jpg'


def test_the_index_holds_no_pickle_and_is_replaced_whole(kept):
    root, index = kept
    with np.load(index, allow_pickle=False) as arrays:
        assert all(array.dtype != object for array in arrays.values())
    inode = index.stat().st_ino
    settle(root)
    read(root, 0.3)
    assert index.stat().st_ino != inode and [path.name for path in index.parent.iterdir()] == [index.name]


def test_an_index_that_is_damaged_or_of_something_else_is_made_anew(kept, tmp_path):
    root, index = kept
    before, sound = seen(root), index.read_bytes()
    with np.load(index) as arrays:
        whole = dict(arrays)
    grow(root)
    assert seen(root) == before
    about = whole['about'].tobytes()
    old = {**whole, 'about': np.frombuffer(about.replace(b'[1, ', b'[0, '), np.uint8)}
    foreign = {**whole, 'about': np.frombuffer(about.replace(b'root', b'roof'), np.uint8)}
    nothing = {**whole, 'about': np.frombuffer(b'[]', np.uint8)}
    for number, arrays in enumerate((old, foreign, nothing, {'x': np.zeros(3)}, {'about': np.array([{}], object)})):
        np.savez(tmp_path / f'{number}.npz', allow_pickle=True, **arrays)
    others = [(tmp_path / f'{number}.npz').read_bytes() for number in range(5)]
    flipped = [sound[:at] + bytes([sound[at] ^ 255]) + sound[at + 1 :] for at in range(0, len(sound), 97)]
    cut = [sound[:size] for size in range(0, len(sound), 211)]
    for damaged in (b'not an index', *others, *cut):
        index.write_bytes(damaged)
        assert seen(root) == before + 4
        assert index.read_bytes() != damaged  # and the new one is kept
    for damaged in flipped:  # a flip may be where it does not matter
        index.write_bytes(damaged)
        assert seen(root) in (before, before + 4)


def test_where_an_index_cannot_be_kept_nothing_but_time_is_lost(kept, tmp_path, monkeypatch, public):
    root, _ = kept
    before = seen(root)
    grow(root)
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert seen(root) == before + 4
    shutil.copytree(root, public / 'root')
    settle(public / 'root')
    monkeypatch.setenv('XDG_CACHE_HOME', str(public))
    with bound_by_permissions():
        assert seen(public / 'root') == before + 4
    assert [path.name for path in public.iterdir()] == ['root']


def test_without_xdg_cache_home_it_is_kept_at_home(kept, tmp_path, monkeypatch):
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    read(kept[0])
    assert (tmp_path / 'home/.cache/resnet_jax/folders' / kept[1].name).is_file()


# Holding out


def test_the_examples_held_out_are_the_same_for_good():
    held = held_out((np.arange(50_000) % 10).astype(np.int32), 5003)
    assert held.dtype == bool and held.sum() == 5003
    assert hashlib.sha256(np.flatnonzero(held).astype('<i4').tobytes()).hexdigest()[:16] == 'a4752ebfa9801afd'


def test_every_class_gives_its_share_and_a_smaller_draw_is_part_of_every_larger_one():
    labels = np.repeat(np.arange(5), [1, 10, 20, 30, 40])[np.random.default_rng(0).permutation(101)]
    share, before = np.bincount(labels) / 101, np.zeros(101, bool)
    for count in range(102):
        held = held_out(labels, count)
        assert held.sum() == count and not (before & ~held).any()
        assert np.abs(np.bincount(labels[held], minlength=5) - count * share).max() <= 1
        before = held
    assert len(held_out(np.zeros(0, int), 0)) == 0
