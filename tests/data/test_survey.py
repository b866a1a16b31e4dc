"""What a survey finds in folders whose content is known."""

import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from resnet_jax.cores import cores
from resnet_jax.data.decode import encode_png
from resnet_jax.data.folder import open_folder
from resnet_jax.data.source import Unreadable
from resnet_jax.data.survey import READ, survey
from resnet_jax.data.view import decode_view
from resnet_jax.progress import silent
from tests.data.folders import Given, encode, noise, png, write


def of(*examples, classes=('a', 'b', 'c'), pixels=8):
    """The survey of one split of these; those that are bytes alone are of the first class."""
    given = Given([(each, 0) if isinstance(each, bytes) else each for each in examples])
    return survey({'train': given}, classes, pixels, silent).splits['train']


# What is counted


def test_classes_sizes_bytes_formats_and_modes_are_counted():
    examples = [
        (png(10, 8), 0),
        (png(20, 8), 2),
        (encode(noise(30, 12), 'JPEG'), 2),
        (encode(noise(40, 9).convert('L'), 'JPEG'), 2),
        (encode(noise(50, 10).convert('P'), 'GIF'), 0),
        (encode(Image.new('RGBA', (60, 11), (1, 2, 3, 4)), 'WEBP'), 2),
    ]
    found = of(*examples)
    assert found.counts.tolist() == [2, 0, 4] and found.unreadable == ()
    assert found.size == sum(len(encoded) for encoded, _ in examples)
    assert found.widths == (10, 35.0, 60) and found.heights == (8, 9.5, 12)
    assert found.formats == {'PNG': 2, 'JPEG': 2, 'GIF': 1, 'WEBP': 1}
    assert found.modes == {'RGB': 3, 'L': 1, 'P': 1, 'RGBA': 1}
    assert found.traits == {}


def test_splits_are_surveyed_one_by_one_and_counted_as_they_go():
    told = []
    sources = {'train': Given([(png(8, 8), 1)] * 2000), 'test': Given([(png(9, 9), 0)])}
    found = survey(sources, ['a', 'b'], 8, lambda *what: told.append(what))
    assert found.classes == ('a', 'b') and list(found.splits) == ['train', 'test']
    assert [part.counts.tolist() for part in found.splits.values()] == [[0, 2000], [1, 0]]
    assert told == [('surveying train', 1024, 2000), ('surveying train', 2000, 2000), ('surveying test', 1, 1)]


def test_of_a_split_without_images_nothing_is_said():
    for found in (of(), of(b'no image')):
        assert found.counts.tolist() == [0, 0, 0] and found.size == 0
        assert found.widths is found.heights is found.mean is found.deviation is None


def rotated(orientation, kind='JPEG'):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(noise(16, 8), kind, exif=exif)


def sixteen_bits(colour):
    """A PNG of one row of eight pixels, written by hand: Pillow writes none of 16-bit colours."""

    def chunk(kind, data):
        return len(data).to_bytes(4, 'big') + kind + data + zlib.crc32(kind + data).to_bytes(4, 'big')

    header = (8).to_bytes(4, 'big') + (1).to_bytes(4, 'big') + bytes([16, 2 if colour else 0, 0, 0, 0])
    row = zlib.compress(b'\0' + bytes(8 * (6 if colour else 2)))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', row) + chunk(b'IEND', b'')


FRAMES = [noise(8, 8, seed) for seed in range(3)]

TRAITS = {
    'EXIF-rotated': [*(rotated(turn) for turn in range(2, 9)), rotated(6, 'PNG'), rotated(3, 'WEBP')],
    'animated': [encode(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:]) for kind in ('GIF', 'PNG', 'WEBP')],
    '16-bit': [sixteen_bits(True), sixteen_bits(False), encode(Image.fromarray(np.zeros((8, 8), np.uint16)), 'PNG')],
    'CMYK': [encode(noise().convert('CMYK'), 'JPEG')],
}
NONE = [rotated(1), encode(FRAMES[0], 'GIF'), encode(FRAMES[0], 'WEBP'), png(8, 8), encode(noise().convert('L'), 'PNG'),
        encode(FRAMES[0], 'MPO', save_all=True, append_images=FRAMES[1:])]  # fmt: skip


@pytest.mark.parametrize('trait', TRAITS)
def test_what_is_unusual_is_counted_and_what_is_not_is_not(trait):
    unusual = TRAITS[trait]
    found = of(*unusual, *NONE)
    assert found.unreadable == () and found.traits == {trait: len(unusual)}
    assert of(*NONE).traits == {}


def test_an_image_may_be_unusual_twice():
    exif = Image.Exif()
    exif[0x0112] = 6
    both = encode(noise(20, 10).convert('CMYK'), 'JPEG', exif=exif)
    assert of(both).traits == {'EXIF-rotated': 1, 'CMYK': 1}
    assert of(both).widths == (20, 20.0, 20)  # as it is stored, and not as it is seen


# Moments


def test_mean_and_deviation_are_those_of_the_evaluation_views():
    encoded = [encode(noise(40 + index, 30, index), 'JPEG') for index in range(9)] + [rotated(6)]
    found = of(*encoded, pixels=16)
    views = np.stack([decode_view(each, (16, 16, 3), 0.875, None) for each in encoded]) / 255
    np.testing.assert_allclose(found.mean, views.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, views.std((0, 1, 2)), rtol=1e-12)


def test_moments_are_exact_of_colours_known():
    red, cyan = (encode(Image.new('RGB', (9, 9), colour), 'PNG') for colour in ((255, 0, 0), (0, 255, 255)))
    found = of(red, red, red, cyan)
    assert found.mean == (0.75, 0.25, 0.25)
    np.testing.assert_allclose(found.deviation, np.sqrt(3) / 4, rtol=1e-15)
    # One level in one of 4,000 images: squares in floats of 32 bits would lose it.
    flat, other = (encode_png(np.full((8, 8, 3), level, np.uint8)) for level in (254, 255))
    found = of(*[flat] * 3999, other)
    np.testing.assert_allclose(found.deviation, np.sqrt(3999) / 4000 / 255, rtol=1e-12)


def test_each_split_has_its_own_moments_and_what_is_unreadable_has_no_part_in_them():
    white, black = (encode(Image.new('L', (8, 8), level), 'PNG') for level in (255, 0))
    sources = {'train': Given([(white, 0), (b'', 0)]), 'test': Given([(black, 0)])}
    found = survey(sources, ['a'], 8, silent)
    assert found.splits['train'].mean == (1, 1, 1) and found.splits['train'].deviation == (0, 0, 0)
    assert found.splits['test'].mean == (0, 0, 0)


# What cannot be read


def test_what_cannot_be_read_is_named_with_the_reason_and_counted_nowhere_else():
    whole = encode(noise(64, 64), 'JPEG')
    broken = bytearray(png(64, 64))
    broken[200:260] = bytes(60)
    cases = {
        b'not an image': 'neither a JPEG nor a PNG',
        whole[: len(whole) // 2]: 'truncated',
        png(64, 64)[:500]: 'truncated',
        bytes(broken): '',
        encode(noise(), 'TIFF'): 'neither a JPEG',
        encode(Image.new('RGB', (1010, 10)), 'PNG'): 'one side is over 100 times the other',
    }
    sound = png(8, 8)
    given = [sound, *cases, Unreadable('gone'), (sound, 1)]
    found = of(*given)
    assert found.counts.tolist() == [1, 1, 0] and found.size == 2 * len(sound)
    places, reasons = zip(*found.unreadable, strict=True)
    assert places == tuple(f'place {index}' for index in range(1, 8))
    for reason, expected in zip(reasons, [*cases.values(), 'gone'], strict=True):
        assert expected in reason and reason and '\n' not in reason


@pytest.mark.parametrize('side', [9500, 14_000])  # Pillow warns of the one, and refuses the other
def test_an_image_that_would_fill_the_memory_is_named_and_not_decoded(side):
    header = bytearray(png(8, 8))
    header[16:24] = side.to_bytes(4, 'big') * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, 'big')
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')  # as without the tests' own filter
        found = of(bytes(header), png(8, 8))
    assert said == []
    ((place, reason),) = found.unreadable
    assert place == 'place 0' and '89,478,485 pixels' in reason and found.counts.tolist() == [1, 0, 0]


def test_a_folder_is_surveyed_and_its_bad_files_are_named_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    root = write(
        tmp_path / 'root', *(f'{split}/{label}/{n}.jpg' for split in ('train', 'test') for label in 'ab' for n in '12')
    )
    (root / 'train/a/0.jpg').touch()
    (root / 'train/b/1.jpg').write_bytes((root / 'train/b/1.jpg').read_bytes()[:-100])
    folder = open_folder(root, 0.5, silent)
    (root / 'test/b/2.jpg').unlink()
    found = survey(folder.splits, folder.classes, 8, silent).splits
    assert [part.counts.tolist() for part in found.values()] == [[2, 1], [2, 1]]
    (empty, (place, reason)), gone = found['train'].unreadable, found['test'].unreadable
    assert empty == (f'{root}/train/a/0.jpg', 'an empty file')
    assert place == f'{root}/train/b/1.jpg' and 'truncated' in reason
    assert gone == ((f'{root}/test/b/2.jpg', 'No such file or directory'),)


def test_damaged_metadata_are_no_matter():
    exif = Image.Exif()
    exif[0x010E] = 'x' * 50
    encoded = bytearray(encode(noise(), 'JPEG', exif=exif))
    at = encoded.index(b'Exif\0\0') + 6 + 8
    encoded[at : at + 2] = b'\xff\xff'  # entries that are not there
    found = of(bytes(encoded))
    assert found.unreadable == () and found.counts.tolist() == [1, 0, 0]


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'WEBP', 'BMP'])
def test_no_damage_of_any_kind_stops_a_survey(kind):
    whole, random = encode(noise(24, 24), kind), np.random.default_rng(0)
    damaged = []
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        data[random.integers(0, min(len(data), 200), 4)] = random.integers(0, 256, 4)
        damaged.append(data[: random.integers(len(data) // 2, len(data) + 1)].tobytes())
    found = of(*damaged, whole)
    assert found.counts[0] + len(found.unreadable) == 301 and 0 < len(found.unreadable) < 301


def test_no_more_images_are_in_memory_than_the_threads_work_on():
    class Large(Given):
        """Every image is made when it is read."""

        def read(self, indices):
            return [(encoded + bytes(1_000_000), 0) for _ in indices]

    encoded = png(8, 8)
    tracemalloc.start()
    survey({'train': Large([None] * 400)}, ['a'], 8, silent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (len(cores()) + 1) * READ * 1_100_000  # of 400 MB
