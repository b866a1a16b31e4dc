"""Pictures of what the network will see are what it will see."""

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from resnet_jax import config as configuration
from resnet_jax import sheet
from resnet_jax.data.crops import DRAWS, drawing
from resnet_jax.data.decode import cut
from resnet_jax.data.order import order
from resnet_jax.data.rand_augment import OPERATIONS
from resnet_jax.data.resolve import resolve
from resnet_jax.errors import UserError
from resnet_jax.runtime import mesh
from resnet_jax.train.splits import place_dataset
from tests.data.folders import contents, encode, noise, settle

TINY = Path(__file__).parent / 'tiny.py'
CROPS = 0x63726F70  # what the draws of crops begin with
ROWS, PIXELS = 4, 16


def placed(config):
    return config, place_dataset(config, mesh.whole(mesh.all_devices()))


def digits(data=(), **train):
    """Config and splits of the digits, shifted by a pixel or as the settings say."""
    config = configuration.load(str(TINY))
    config.data.update(dict(data))
    config.train.update(train)
    return placed(config)


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """Config and splits of a folder of nine training images of many sizes."""
    root = tmp_path_factory.mktemp('photographs')
    for number, (split, name) in enumerate(itertools.product(['train'] * 3 + ['test'], 'abc')):
        path = root / split / name / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(40 + 5 * number, 80 - 3 * number, seed=number), 'JPEG'))
    settle(root)
    config = configuration.load('configs/folder.py:scratch,resnet18')
    config.data.update(data_dir=str(root), pixels=PIXELS)
    config.train.batch_size = 3
    resolve(config)
    return placed(config)


def chosen(config, splits):
    return order(config.seed, 0, splits.dataset.count('train'))[:ROWS]


# Evaluation


def test_the_first_column_is_the_evaluation_view_of_the_first_examples_of_training():
    config, splits = digits()
    seen = sheet.plain(config, splits, ROWS)
    first = chosen(config, splits)
    np.testing.assert_array_equal(seen.images, splits.dataset.train.images[first] / 16)
    assert seen.titles == [str(label) for label in splits.dataset.train.labels[first]]


# Training


def test_each_column_of_digits_is_a_crop_of_the_padded_image_in_its_row():
    """No draw is repeated here: of the nine places each image is in one, and 0 after normalisation is the mean."""
    config, splits = digits()
    plain, mean = sheet.plain(config, splits, ROWS), float(splits.normalization.mean.item()) * 255 / 16
    padded = np.pad(plain.images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=mean)
    columns = sheet.augmented(config, splits, ROWS, 3)
    places = []
    for column in columns:
        assert column.titles == plain.titles
        equal = np.array([
            np.isclose(column.images, padded[:, top : top + 8, left : left + 8], atol=1e-5).all(axis=(1, 2, 3))
            for top in range(3) for left in range(3)
        ])  # fmt: skip
        assert (equal.sum(axis=0) == 1).all()
        places.append(equal.argmax(axis=0).tolist())
    assert len({tuple(column) for column in places}) == 3  # each epoch has its own draws
    again = sheet.augmented(config, splits, ROWS, 3)
    np.testing.assert_array_equal([column.images for column in again], [column.images for column in columns])


def test_each_column_of_a_folder_is_the_box_that_the_epoch_cuts_mirrored_or_not(photographs):
    config, splits = photographs
    files = contents(splits.dataset.source('train'))
    mirrored = []
    for epoch, column in enumerate(sheet.augmented(config, splits, ROWS, 2)):
        draws = np.random.RandomState([CROPS, config.seed, epoch]).random_sample((ROWS, DRAWS))
        for place, row in enumerate(order(config.seed, epoch, ROWS)):
            name, encoded, label = files[chosen(config, splits)[row]]
            box = partial(drawing(config.data, PIXELS), draws[place])
            expected = cut(encoded, box, PIXELS, 3, exact=False) / 255
            either = [np.allclose(column.images[row], each, atol=1e-5) for each in (expected, expected[:, ::-1])]
            assert sum(either) == 1, name
            mirrored.append(either[1])
            assert column.titles[row] == 'abc'[label]
    assert len(set(mirrored)) == 2


def test_phases_and_repeats_change_nothing_on_a_sheet(photographs):
    config, splits = photographs
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.data.repeats = 3
        changed.train.phases.update(epochs=(1,), pixels=(8,), batch_sizes=(3,))
    one, other = (sheet.augmented(each, splits, ROWS, 1)[0] for each in (config, changed))
    np.testing.assert_array_equal(one.images, other.images)
    assert one.titles == other.titles


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_a_mixed_image_is_entitled_with_the_shares_of_its_two(smoothing):
    config, splits = digits({'shift': 0}, mixup=1.0, label_smoothing=smoothing)
    plain, names = sheet.plain(config, splits, ROWS), set()
    for epoch, column in enumerate(sheet.augmented(config, splits, ROWS, 3)):
        places = order(config.seed, epoch, ROWS)
        for row, partner in zip(places, places[::-1], strict=True):
            shares = dict(reversed(line.split(' ')) for line in column.titles[row].splitlines() if ' ' in line)
            if plain.titles[row] == plain.titles[partner]:
                assert column.titles[row] == plain.titles[row]
                continue
            assert set(shares) == {plain.titles[row], plain.titles[partner]}
            assert sum(map(float, shares.values())) == pytest.approx(1, abs=0.011 + smoothing)
            own = float(shares[plain.titles[row]]) if not smoothing else _share(column, plain, row, partner)
            mixed = own * plain.images[row] + (1 - own) * plain.images[partner]
            np.testing.assert_allclose(column.images[row], mixed, atol=0.006)
            names |= set(shares)
    assert names


def _share(column, plain, row, partner):
    """λ of a mixed image, by least squares."""
    one, other = plain.images[row] - plain.images[partner], column.images[row] - plain.images[partner]
    return (one * other).sum() / (one * one).sum()


# The whole sheet


def panels(figure, columns):
    """The panels by row and column."""
    return np.array(figure.axes).reshape(-1, columns)


def test_the_sheet_shows_these_columns_side_by_side_with_their_heads(photographs):
    config, splits = photographs
    drawn = panels(sheet.sheet(config, splits, ROWS, 2), 3)
    assert drawn.shape == (ROWS, 3)
    columns = [sheet.plain(config, splits, ROWS), *sheet.augmented(config, splits, ROWS, 2)]
    for at, (seen, head) in enumerate(
        zip(columns, ('evaluation', 'training, epoch 0', 'training, epoch 1'), strict=True)
    ):
        for row in range(ROWS):
            panel = drawn[row, at]
            np.testing.assert_array_equal(panel.images[0].get_array(), seen.images[row])
            assert panel.get_title() == (f'{head}\n{seen.titles[row]}' if row == 0 else seen.titles[row])


@pytest.mark.parametrize('count', [0, 10])
def test_as_many_examples_as_there_are_and_one_at_least(photographs, count):
    with pytest.raises(UserError) as error:
        sheet.sheet(*photographs, count, 1)
    assert str(error.value) == f'--examples is {count}; it must be 1 to 9, the training examples'


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    for split, name in itertools.product(('train', 'test'), 'ab'):
        (tmp_path / split / name).mkdir(parents=True)
        (tmp_path / split / name / 'x.jpg').write_bytes(b'not an image')
    config = configuration.load('configs/folder.py:scratch,resnet18')
    config.data.update(data_dir=str(tmp_path), pixels=PIXELS)
    config.train.batch_size = 1
    resolve(config)
    for drawn in (sheet.plain, partial(sheet.augmented, draws=1)):
        with pytest.raises(UserError, match=r'x\.jpg: ') as error:
            drawn(*placed(config), 1)
        assert '\n' not in str(error.value)


# Operations


def operations(config, splits):
    """Name -> the three images of its row."""
    drawn = panels(sheet.operations(config, splits), 6)
    return {
        drawn[row, block].get_title(): [panel.images[0].get_array() for panel in drawn[row, block : block + 3]]
        for row in range(len(drawn)) for block in (0, 3)
    }  # fmt: skip


def test_every_augmentation_of_photographs_is_drawn(photographs):
    config, splits = photographs
    rows = operations(config, splits)
    assert rows.keys() - {''} == {
        'crop random_resized', 'crop random_scale', 'flip', *OPERATIONS[:-1], 'hue', 'jitter', 'lighting', 'erase',
        'mixup', 'cutmix',
    }  # fmt: skip
    one, other = sheet.plain(config, splits, 2).images
    flipped = rows['flip']
    np.testing.assert_allclose(flipped[0], one, atol=1e-6)
    np.testing.assert_allclose(flipped[1], one[:, ::-1], atol=1e-6)
    for image in rows['cutmix']:
        nearer = np.isclose(image, one, atol=1e-5) | np.isclose(image, other, atol=1e-5)
        assert nearer.all()
    for name, images in rows.items():
        assert all(image.min() >= 0 and image.max() <= 1 for image in images), name
        assert not name or any((image != one).any() for image in images), name


def test_digits_have_no_colours_and_no_crops_and_their_white_is_white():
    rows = operations(*digits())
    assert {'flip', 'rotate', 'erase', 'mixup'} <= {name.lower() for name in rows}
    assert not {'hue', 'lighting', 'crop random_resized'} & rows.keys()
    assert rows['flip'][0].max() == 1
