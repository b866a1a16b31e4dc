"""The official archives: where they come from, that they are the ones meant, and what is read of them."""

import dataclasses
import hashlib
import http.server
import socket
import tarfile
import threading
from pathlib import Path

import pytest

from resnet_jax.data import archive as archives
from resnet_jax.data import prepare, stored
from resnet_jax.errors import UserError


def quiet(what, done, total):
    pass


def read(made, dataset):
    return archives.read(archives.ARCHIVES[dataset], made.path)


def test_the_official_archives_are_those_that_tfds_states(dataset):
    import tensorflow_datasets

    official = archives.ARCHIVES[dataset]
    listed = Path(str(tensorflow_datasets.__file__)).parent / 'url_checksums' / f'{dataset}.txt'
    assert listed.read_text().split()[:3] == [official.url, str(official.size), official.sha256]


def test_an_archive_with_one_flipped_bit_is_refused(made, refused):
    sha256, data = made.sha256, bytearray(made.path.read_bytes())
    data[len(data) // 2] ^= 1
    made.path.write_bytes(data)
    said = refused(archives.verify, made.path, sha256, 'https://origin')
    assert f'SHA-256 {made.sha256}, not the {sha256}' in said and 'get it again: https://origin' in said


def test_an_archive_that_is_not_there_is_said_so(tmp_path, refused):
    assert 'cannot be read: No such file' in refused(archives.verify, tmp_path / 'absent.tar.gz', '', '')


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_no_link_in_an_archive_is_followed(made, dataset, refused, kind):
    name = archives.ARCHIVES[dataset].test[0]
    link = tarfile.TarInfo(name)
    link.type, link.linkname = kind, archives.ARCHIVES[dataset].train[0]  # a plain member, and of whole examples
    made.pack({member: data for member, data in made.files.items() if member != name}, [link])
    assert f'{name} in archive.tar.gz is not one plain file' in refused(read, made, dataset)


def test_a_member_that_comes_twice_is_refused(made, dataset, refused):
    name = archives.ARCHIVES[dataset].test[0]
    made.pack(made.files, [tarfile.TarInfo(name)])
    assert f'{name} in archive.tar.gz is not one plain file' in refused(read, made, dataset)


def test_what_is_missing_cut_or_out_of_range_is_named(made, dataset, refused):
    official = archives.ARCHIVES[dataset]
    part, names = official.train[0], official.names['label']

    def said(changes):
        files = made.files | changes
        made.pack({name: data for name, data in files.items() if data is not None})
        return refused(read, made, dataset)

    whole, label = made.files[part], len(official.names) - 1  # the last byte before the pixels
    assert f'has no {part}' in said({part: None})
    assert 'not whole examples' in said({part: whole[:-1]})
    assert 'is 0 bytes' in said({part: b''})
    assert 'a label in archive.tar.gz is 255' in said({part: whole[:label] + b'\xff' + whole[label + 1 :]})
    assert f'{names} in archive.tar.gz names 2 classes' in said({names: b'cat\ndog\n'})


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves `tmp_path / 'served'`; its address."""
    monkeypatch.setenv('no_proxy', '*')
    (tmp_path / 'served').mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / 'served'))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def elsewhere(monkeypatch, url, path):
    """The archive at `path` stands at `url` in place of the official one."""
    data = path.read_bytes()
    official = dataclasses.replace(
        archives.ARCHIVES['cifar10'], url=url, size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    monkeypatch.setitem(archives.ARCHIVES, 'cifar10', official)
    return official


def test_an_archive_is_downloaded_checked_and_not_kept(server, tmp_path, monkeypatch, make_archive):
    path = tmp_path / 'served' / 'archive.tar.gz'
    make_archive('cifar10', path)
    official = elsewhere(monkeypatch, f'{server}/archive.tar.gz', path)
    told = []
    prepare.prepare('cifar10', tmp_path / 'tfds', None, lambda *what: told.append(what))
    assert ('downloading', official.size, official.size) in told
    assert [entry.name for entry in (tmp_path / 'tfds').iterdir()] == ['cifar10']
    assert stored.find('cifar10', tmp_path / 'tfds').examples('train') == 35


@pytest.mark.parametrize('damage', [lambda data: data[:-7], lambda data: data + b'more', lambda data: b'<html>'])
def test_a_download_that_is_not_the_archive_is_refused_and_removed(server, tmp_path, monkeypatch, make_archive, damage):
    path = tmp_path / 'served' / 'archive.tar.gz'
    make_archive('cifar10', path)
    official = elsewhere(monkeypatch, f'{server}/archive.tar.gz', path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f'not the {official.sha256}'):
        prepare.prepare('cifar10', tmp_path / 'tfds', None, quiet)
    assert list((tmp_path / 'tfds').iterdir()) == []


def test_without_a_network_the_way_around_is_told(server, tmp_path, monkeypatch):
    path = tmp_path / 'archive.tar.gz'
    path.touch()
    with socket.create_server(('127.0.0.1', 0)) as closed:
        unused = closed.getsockname()[1]
    for url, reason in ((f'{server}/absent', '404'), (f'http://127.0.0.1:{unused}/x', 'refused')):
        elsewhere(monkeypatch, url, path)
        with pytest.raises(UserError, match=f'cannot be downloaded.*{reason}.*--archive FILE'):
            prepare.prepare('cifar10', tmp_path / 'tfds', None, quiet)
        assert list((tmp_path / 'tfds').iterdir()) == []
