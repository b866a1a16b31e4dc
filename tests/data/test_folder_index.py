"""The index of a folder: what it says the files are, when it is kept and when it is made anew."""

import re
import shutil

import numpy as np
import pytest

from resnet_jax.data.folder import open_folder
from tests.data.folders import SPLIT, bound_by_permissions, contents, names, read, settle, write

pytestmark = pytest.mark.usefixtures('cache')


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
