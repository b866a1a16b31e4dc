"""The manifest of a checkpoint: no file of it changes, and no bit of the manifest, without being named."""

import hashlib
import json

import pytest
from etils import epath

from resnet_jax.runtime import manifest

ENVIRONMENT = {'jax': '0.10.2', 'devices': 4, 'flags': ['ünïcode'], 'share': 0.1}
ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'  # FIPS 180-2, B.1
EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of three files, one of them below, one empty."""
    (tmp_path / 'd').mkdir()
    (tmp_path / 'd' / 'numbers').write_bytes(bytes(range(256)))
    (tmp_path / 'abc').write_bytes(b'abc')
    (tmp_path / 'empty').write_bytes(b'')
    found = epath.Path(tmp_path)
    manifest.write(found, ENVIRONMENT)
    return found


def test_what_nobody_touched_is_undamaged_and_its_environment_comes_back(folder):
    assert manifest.damage(folder) == ''
    assert manifest.environment(folder) == ENVIRONMENT


def test_it_has_size_and_hash_of_every_file_and_no_other_file_is_left(folder):
    files = json.loads((folder / manifest.NAME).read_text())['files']
    assert list(files) == ['abc', 'd/numbers', 'empty']
    assert (files['abc'], files['empty']) == (f'3:{ABC}', f'0:{EMPTY}')
    assert sorted(path.name for path in folder.iterdir()) == ['abc', 'd', 'empty', manifest.NAME]


@pytest.mark.parametrize('beyond', [-1, 0, 1])
def test_a_file_is_hashed_whole_however_it_is_cut_to_be_read(folder, beyond):
    data = bytes(range(256)) * (2 * manifest.CHUNK // 256) + b'x'
    data = data[: 2 * manifest.CHUNK + beyond]
    (folder / 'abc').write_bytes(data)
    (folder / manifest.NAME).unlink()
    manifest.write(folder, {})
    stored = json.loads((folder / manifest.NAME).read_text())['files']['abc']
    assert stored == f'{len(data)}:{hashlib.sha256(data).hexdigest()}'
    (folder / 'abc').write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert manifest.damage(folder) == 'abc has changed'


def test_every_bit_of_every_file_counts(folder):
    for name in ('abc', 'd/numbers'):
        sound = (folder / name).read_bytes()
        for place in range(8 * len(sound)):
            (folder / name).write_bytes(flipped(sound, place))
            assert manifest.damage(folder) == f'{name} has changed', place
        (folder / name).write_bytes(sound)
    assert manifest.damage(folder) == ''


def test_every_bit_of_the_manifest_itself_counts(folder):
    """And its own hash is needed for that: many a flipped bit leaves JSON that says the same of the files."""
    path, unseen = folder / manifest.NAME, 0
    sound = path.read_bytes()
    for place in range(8 * len(sound)):
        broken = flipped(sound, place)
        path.write_bytes(broken)
        found = manifest.damage(folder)
        assert found.startswith(manifest.NAME) and '\n' not in found, place
        unseen += says_the_same(broken, sound)
    assert unseen > 100


def flipped(data, place):
    """`data` with the bit of that number turned."""
    return data[: place // 8] + bytes([data[place // 8] ^ 1 << place % 8]) + data[place // 8 + 1 :]


def says_the_same(one, other):
    try:
        return json.loads(one)['files'] == json.loads(other)['files'] and 'environment' in json.loads(one)
    except (ValueError, KeyError):
        return False


def cut(path):
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])


@pytest.mark.parametrize('harm', [cut, lambda path: path.write_bytes(b''), lambda path: path.unlink()])
def test_a_manifest_that_is_cut_empty_or_gone_vouches_for_nothing(folder, harm):
    harm(folder / manifest.NAME)
    assert manifest.damage(folder).startswith(f'{manifest.NAME} cannot be read')


@pytest.mark.parametrize(
    ('harm', 'said'),
    [
        (cut, 'd/numbers has changed'),
        (lambda path: path.write_bytes(b''), 'd/numbers has changed'),
        (lambda path: path.write_bytes(path.read_bytes() + b'\0'), 'd/numbers has changed'),
        (lambda path: path.unlink(), 'd/numbers is missing'),
        (lambda path: path.parent.rmtree(), 'd/numbers is missing'),
    ],
    ids=['cut', 'emptied', 'a byte more', 'deleted', 'its folder deleted'],
)
def test_a_file_that_is_not_as_it_was_is_named(folder, harm, said):
    harm(folder / 'd' / 'numbers')
    assert manifest.damage(folder) == said


def test_a_folder_in_a_files_place_is_damage(folder):
    (folder / 'abc').unlink()
    (folder / 'abc').mkdir()
    assert 'abc' in manifest.damage(folder)


def test_the_same_manifest_in_another_form_is_not_it(folder):
    path = folder / manifest.NAME
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert manifest.damage(folder) == f'{manifest.NAME} is not as it was written'


def test_one_that_was_being_written_when_the_process_was_killed_is_none(folder):
    (folder / manifest.NAME).rename(folder / f'.{manifest.NAME}.1.partial')
    assert manifest.damage(folder).startswith(f'{manifest.NAME} cannot be read')
