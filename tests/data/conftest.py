"""Small datasets of random pixels: copies as they are stored, and the archives they are made of."""

import dataclasses
import hashlib
import io
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest

from configs import default
from resnet_jax.data import archive as archives
from resnet_jax.errors import UserError

ARCHIVE = {'train': 35, 'test': 7}


@pytest.fixture(scope='session')
def data_config():
    """`data_config(dataset, data_dir, selection)`: the data's part of a config."""

    def make(dataset, data_dir='', selection=0):
        data = default.get_config().data
        data.update(dataset=dataset, data_dir=str(data_dir), selection=selection)
        return data

    return make


@pytest.fixture(scope='session')
def refused():
    """`refused(action, *arguments, **more)` -> the one line with which it is refused."""

    def call(action, *arguments, **more):
        with pytest.raises(UserError) as error:
            action(*arguments, **more)
        assert '\n' not in str(error.value)
        return str(error.value)

    return call


@pytest.fixture
def copy(write_copy, tmp_path):
    return write_copy(tmp_path)


@dataclasses.dataclass(frozen=True)
class Made:
    """An archive: where it is, what it holds, and as which files."""

    path: Path
    content: archives.Content
    files: dict[str, bytes]

    @property
    def sha256(self):
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def pack(self, files, extra=()):
        """Makes it anew, of these files and these members without content."""
        with tarfile.open(self.path, 'w:gz') as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            for member in extra:
                tar.addfile(member)


@pytest.fixture(scope='session')
def make_archive():
    """`make_archive(dataset, path)` -> Made."""

    def make(dataset, path):
        official, content = archives.ARCHIVES[dataset], _content(dataset)
        made = Made(path, content, _files(official, content))
        made.pack(made.files)
        return made

    return make


@pytest.fixture(params=['cifar10', 'cifar100'])
def dataset(request):
    return request.param


@pytest.fixture
def made(make_archive, dataset, tmp_path):
    return make_archive(dataset, tmp_path / 'archive.tar.gz')


def _content(dataset):
    random = np.random.default_rng(0)
    classes = archives.ARCHIVES[dataset].classes
    splits = {}
    for split, examples in ARCHIVE.items():
        labels = {label: random.integers(0, count, examples, dtype=np.uint8) for label, count in classes.items()}
        splits[split] = (random.integers(0, 256, (examples, 32, 32, 3), dtype=np.uint8), labels)
    names = {label: [f'{label}_{number}' for number in range(count)] for label, count in classes.items()}
    return archives.Content(splits, names)


def _files(official, content):
    """Written from the format's description, not from the code that reads it."""
    files = {member: ('\n'.join(content.names[label]) + '\n\n').encode() for label, member in official.names.items()}
    for split, parts in (('train', official.train), ('test', official.test)):
        images, labels = content.splits[split]
        rows = []
        for index, image in enumerate(images):
            head = [labels['coarse_label'][index]] if 'coarse_label' in labels else []
            red, green, blue = (image[:, :, channel].tobytes() for channel in range(3))
            rows.append(bytes([*head, labels['label'][index]]) + red + green + blue)
        each = len(rows) // len(parts)
        files |= {part: b''.join(rows[at * each : (at + 1) * each]) for at, part in enumerate(parts)}
    return files


@pytest.fixture
def cache(monkeypatch, tmp_path_factory):
    """Where the indices of folders are kept, within the test."""
    path = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(path))
    return path


@pytest.fixture
def public():
    """A folder that everyone may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
