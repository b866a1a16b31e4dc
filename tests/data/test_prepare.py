"""An archive in the official binary format -> a prepared copy -> the same pixels and labels; the ways to fail."""

import dataclasses
import hashlib
import http.server
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import default
from resnet_jax.data import archive as archives
from resnet_jax.data import prepare, sources, stored
from resnet_jax.errors import UserError

EXAMPLES = {'train': 35, 'test': 7}


@dataclasses.dataclass(frozen=True)
class Made:
    path: Path
    sha256: str
    content: archives.Content


def content(dataset, seed=0):
    random = np.random.default_rng(seed)
    archive = archives.ARCHIVES[dataset]
    splits = {}
    for split, examples in EXAMPLES.items():
        labels = {
            label: random.integers(0, classes, examples, dtype=np.uint8) for label, classes in archive.classes.items()
        }
        splits[split] = (random.integers(0, 256, (examples, 32, 32, 3), dtype=np.uint8), labels)
    names = {label: [f'{label}_{number}' for number in range(count)] for label, count in archive.classes.items()}
    return archives.Content(splits, names)


def members(dataset, made):
    """Written from the format's description, not from the code that reads it."""
    archive = archives.ARCHIVES[dataset]
    files = {member: ('\n'.join(made.names[label]) + '\n\n').encode() for label, member in archive.names.items()}
    for split, parts in (('train', archive.train), ('test', archive.test)):
        images, labels = made.splits[split]
        rows = []
        for index, image in enumerate(images):
            head = [labels['coarse_label'][index]] if dataset == 'cifar100' else []
            red, green, blue = (image[:, :, channel].tobytes() for channel in range(3))
            rows.append(bytes([*head, labels['label'][index]]) + red + green + blue)
        each = len(rows) // len(parts)
        files |= {part: b''.join(rows[at * each : (at + 1) * each]) for at, part in enumerate(parts)}
    return files


def pack(path, files, extra=()):
    with tarfile.open(path, 'w:gz') as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(params=['cifar10', 'cifar100'])
def dataset(request):
    return request.param


@pytest.fixture
def made(dataset, tmp_path):
    path, made = tmp_path / 'archive.tar.gz', content(dataset)
    return Made(path, pack(path, members(dataset, made)), made)


def quiet(what, done, total):
    pass


def data_config(dataset, data_dir, selection=0):
    data = default.get_config().data
    data.update(dataset=dataset, data_dir=str(data_dir), selection=selection)
    return data


def everything(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob('*') if file.is_file()}


def test_a_prepared_archive_loads_as_the_same_pixels_and_labels(dataset, made, tmp_path):
    told = []
    path = prepare.prepare(dataset, tmp_path / 'tfds', made.path, lambda *what: told.append(what), sha256=made.sha256)
    assert path == tmp_path / 'tfds' / dataset / '3.0.2'
    loaded = sources.load(data_config(dataset, tmp_path / 'tfds'))
    for split in ('train', 'test'):
        order = prepare.order(split, EXAMPLES[split])
        images, labels = made.content.splits[split]
        np.testing.assert_array_equal(getattr(loaded, split).images, images[order])
        np.testing.assert_array_equal(getattr(loaded, split).labels, labels['label'][order])
        assert (f'writing {split}', EXAMPLES[split], EXAMPLES[split]) in told
    assert loaded.classes == tuple(made.content.names['label'])
    assert sources.describe(dataset, str(tmp_path / 'tfds'))['splits'] == EXAMPLES


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
    order = prepare.order('test', EXAMPLES['test'])
    for record, index in zip(builder.as_data_source('test'), order, strict=True):
        assert set(record) == {'id', 'image', *labels}
        assert record['id'] == f'test_{index:05}'.encode()
        np.testing.assert_array_equal(record['image'], images[index])
        assert all(record[label] == numbers[index] for label, numbers in labels.items())
    assert {label: builder.info.features[label].names for label in labels} == made.content.names


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


def test_an_archive_with_one_flipped_bit_is_refused_unread(made, dataset, tmp_path):
    data = bytearray(made.path.read_bytes())
    data[len(data) // 2] ^= 1
    made.path.write_bytes(data)
    with pytest.raises(UserError, match='SHA-256') as error:
        prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet, sha256=made.sha256)
    assert made.sha256 in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'tfds').exists()


def test_any_archive_but_the_official_one_is_refused(made, dataset, tmp_path):
    with pytest.raises(UserError, match=archives.ARCHIVES[dataset].sha256):
        prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet)
    assert not (tmp_path / 'tfds').exists()


def test_the_official_archives_are_those_that_tfds_states(dataset):
    import tensorflow_datasets

    official = archives.ARCHIVES[dataset]
    listed = Path(str(tensorflow_datasets.__file__)).parent / 'url_checksums' / f'{dataset}.txt'
    assert listed.read_text().split()[:3] == [official.url, str(official.size), official.sha256]


def refused(dataset, path, tmp_path):
    """What is said where the archive is the one meant (its checksum agrees), but not what it should be."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError) as error:
        prepare.prepare(dataset, tmp_path / 'tfds', path, quiet, sha256=sha256)
    assert list((tmp_path / 'tfds').iterdir()) == []
    assert '\n' not in str(error.value)
    return str(error.value)


def test_a_truncated_archive_is_refused(made, dataset, tmp_path):
    data = made.path.read_bytes()
    made.path.write_bytes(data[: len(data) // 2])
    assert 'not a whole tar.gz archive' in refused(dataset, made.path, tmp_path)


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_no_link_in_an_archive_is_followed(made, dataset, tmp_path, kind):
    files = members(dataset, made.content)
    name = archives.ARCHIVES[dataset].test[0]
    link = tarfile.TarInfo(name)
    link.type, link.linkname = kind, archives.ARCHIVES[dataset].train[0]  # a plain member, and of whole examples
    del files[name]
    pack(made.path, files, [link])
    assert f'{name} in archive.tar.gz is not one plain file' in refused(dataset, made.path, tmp_path)


def test_a_member_that_comes_twice_is_refused(made, dataset, tmp_path):
    name = archives.ARCHIVES[dataset].test[0]
    pack(made.path, members(dataset, made.content), [tarfile.TarInfo(name)])
    assert f'{name} in archive.tar.gz is not one plain file' in refused(dataset, made.path, tmp_path)


def test_members_that_are_not_asked_for_are_never_written(made, dataset, tmp_path):
    files = members(dataset, made.content) | {'../outside': b'x', '/tmp/outside': b'x'}
    sha256 = pack(made.path, files)
    prepare.prepare(dataset, tmp_path / 'tfds', made.path, quiet, sha256=sha256)
    assert {path.name for path in tmp_path.iterdir()} == {'archive.tar.gz', 'tfds'}
    assert not [file for file in tmp_path.rglob('*') if file.name == 'outside']


def test_what_is_missing_cut_or_out_of_range_is_named(dataset, tmp_path):
    official, made, path = archives.ARCHIVES[dataset], content(dataset), tmp_path / 'archive.tar.gz'
    part, names = official.train[0], official.names['label']

    files = members(dataset, made)
    del files[part]
    pack(path, files)
    assert f'has no {part}' in refused(dataset, path, tmp_path)

    files = members(dataset, made)
    pack(path, files | {part: files[part][:-1]})
    assert 'not whole examples' in refused(dataset, path, tmp_path)

    pack(path, files | {part: b''})
    assert 'is 0 bytes' in refused(dataset, path, tmp_path)

    label = len(official.names) - 1  # the last byte before the pixels
    pack(path, files | {part: files[part][:label] + b'\xff' + files[part][label + 1 :]})
    assert 'a label in archive.tar.gz is 255' in refused(dataset, path, tmp_path)

    pack(path, files | {names: b'cat\ndog\n'})
    assert f'{names} in archive.tar.gz names 2 classes' in refused(dataset, path, tmp_path)


def test_an_archive_that_is_not_there_is_said_so(dataset, tmp_path):
    with pytest.raises(UserError, match='cannot be read: No such file'):
        prepare.prepare(dataset, tmp_path / 'tfds', tmp_path / 'absent.tar.gz', quiet)


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


def test_a_killed_preparation_leaves_nothing_that_is_taken_for_a_copy(tmp_path):
    path = tmp_path / 'archive.tar.gz'
    sha256 = pack(path, members('cifar10', content('cifar10')))
    script = f"""
import os, pathlib, signal
from resnet_jax.data import prepare
def kill(what, done, total):
    if what == 'writing test': os.kill(os.getpid(), signal.SIGKILL)
root, archive = map(pathlib.Path, {[str(tmp_path / 'tfds'), str(path)]!r})
prepare.prepare('cifar10', root, archive, kill, sha256={sha256!r})
"""
    assert subprocess.run([sys.executable, '-c', script]).returncode == -signal.SIGKILL
    left = list((tmp_path / 'tfds').iterdir())
    assert left and all(entry.name.startswith('.') for entry in left)
    with pytest.raises(UserError, match='holds no cifar10'):
        stored.find('cifar10', tmp_path / 'tfds')
    prepare.prepare('cifar10', tmp_path / 'tfds', path, quiet, sha256=sha256)
    assert len(sources.load(data_config('cifar10', tmp_path / 'tfds')).test) == EXAMPLES['test']


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


def test_an_archive_is_downloaded_checked_and_not_kept(server, tmp_path, monkeypatch):
    path = tmp_path / 'served' / 'archive.tar.gz'
    pack(path, members('cifar10', content('cifar10')))
    official = elsewhere(monkeypatch, f'{server}/archive.tar.gz', path)
    told = []
    prepare.prepare('cifar10', tmp_path / 'tfds', None, lambda *what: told.append(what))
    assert ('downloading', official.size, official.size) in told
    assert [entry.name for entry in (tmp_path / 'tfds').iterdir()] == ['cifar10']
    assert len(sources.load(data_config('cifar10', tmp_path / 'tfds')).train) == EXAMPLES['train']


@pytest.mark.parametrize('damage', [lambda data: data[:-7], lambda data: data + b'more', lambda data: b'<html>'])
def test_a_download_that_is_not_the_archive_is_refused_and_removed(server, tmp_path, monkeypatch, damage):
    path = tmp_path / 'served' / 'archive.tar.gz'
    pack(path, members('cifar10', content('cifar10')))
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
