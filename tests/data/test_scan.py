"""Which files of a folder are images of which class: what is refused, and where links lead."""

import os
import shutil

import pytest

from resnet_jax.data.source import Unreadable
from tests.data.folders import SPLIT, bound_by_permissions, contents, names, read, write

pytestmark = pytest.mark.usefixtures('cache')


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
        f'{tmp_path}/test/dog/a.png is the same file as {tmp_path}/train/dog/1.png, but of another split or class; '
        'remove one of them'
    )


@pytest.mark.parametrize('link', [os.symlink, os.link])
def test_a_file_in_two_classes_is_refused_and_twice_in_one_is_not(tmp_path, link, refused):
    write(tmp_path, *SPLIT)
    link(tmp_path / 'train/dog/1.png', tmp_path / 'train/dog/again.png')
    assert len(read(tmp_path).splits['train']) == 4
    link(tmp_path / 'train/dog/1.png', tmp_path / 'train/cat/z.png')
    assert f'is the same file as {tmp_path}/train/cat/z.png, but of another split or class' in refused(read, tmp_path)


def test_a_test_folder_that_is_the_train_folder_is_refused(tmp_path, refused):
    write(tmp_path, *SPLIT[:3])
    (tmp_path / 'test').symlink_to('train')
    assert 'is the same file as' in refused(read, tmp_path)
