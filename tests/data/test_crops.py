"""The boxes that training cuts: torchvision's and He et al.'s distributions, always inside the image."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from configs import default
from resnet_jax.data.crops import DRAWS, TRIES, Box, drawing, random_resized, random_scale

AREA, RATIO, SCALE = (0.08, 1.0), (3 / 4, 4 / 3), (256, 480)
COUNT = 5000


def boxes(draw, width, height, *settings, seed=0, count=COUNT):
    """(count, 4): left, top, right, bottom of boxes for draws of a seed."""
    rows = np.random.default_rng(seed).random((count, DRAWS))
    return np.array([draw(row, width, height, *settings) for row in rows])


def torchvisions(width, height, area, ratio, *, logarithmic=True, seed=1):
    """Width and height of boxes by RandomResizedCrop.get_params, written down in NumPy: all ten tries at once."""
    random = np.random.default_rng(seed)
    sizes = width * height * random.uniform(*area, (COUNT, 10))
    shapes = np.exp(random.uniform(*np.log(ratio), (COUNT, 10)))
    if not logarithmic:
        shapes = random.uniform(*ratio, (COUNT, 10))
    w, h = np.round(np.sqrt(sizes * shapes)), np.round(np.sqrt(sizes / shapes))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first, none = fits.argmax(axis=1), ~fits.any(axis=1)
    w, h = (each[np.arange(COUNT), first] for each in (w, h))
    w[none] = min(width, round(height * ratio[1]))
    h[none] = min(height, round(width / ratio[0]))
    return w, h


def least(one, other):
    """The p-value of two samples of (width, height) having one distribution: of areas or of shapes, the smaller."""
    return min(
        stats.ks_2samp(one[0] * one[1], other[0] * other[1]).pvalue,
        stats.ks_2samp(one[0] / one[1], other[0] / other[1]).pvalue,
    )


def sides(found):
    return found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]


# A box of random area and shape


@pytest.mark.parametrize(('width', 'height'), [(500, 375), (40, 50), (300, 100), (100, 300)])
def test_areas_and_shapes_are_distributed_as_torchvisions(width, height):
    """In the long images most of the large boxes do not fit, and some of all ten tries."""
    ours = sides(boxes(random_resized, width, height, AREA, RATIO))
    assert least(ours, torchvisions(width, height, AREA, RATIO)) > 0.001


@pytest.mark.parametrize('change', [{'area': (0.15, 1.0)}, {'ratio': (0.8, 1.25)}, {'logarithmic': False}], ids=str)
def test_control_another_distribution_is_noticed(change):
    """Shapes drawn evenly between 3/4 and 4/3 would be broad too often: the mean of their logarithms is above 0."""
    ours = sides(boxes(random_resized, 500, 375, AREA, RATIO))
    assert least(ours, torchvisions(500, 375, **({'area': AREA, 'ratio': RATIO} | change))) < 1e-4


@pytest.mark.parametrize('share', [0.1, 0.25, 0.5])
@pytest.mark.parametrize('at', [0.0, 0.5, 0.999999])
def test_area_and_shape_are_where_the_draws_say(share, at):
    """`at` = 1/2 is a square: the shapes are as often broad as tall."""
    row = np.full(DRAWS, at)
    row[0] = (share - AREA[0]) / (AREA[1] - AREA[0])
    left, top, right, bottom = random_resized(row, 1000, 1000, AREA, RATIO)
    shape = math.exp(math.log(3 / 4) + at * math.log(16 / 9))
    assert right - left == round(1000 * math.sqrt(share * shape))
    assert bottom - top == round(1000 * math.sqrt(share / shape))


@pytest.mark.parametrize('tries', range(TRIES + 1))
def test_the_first_of_ten_tries_that_fits_is_taken_or_else_the_largest_central_box(tries):
    """In 100 x 10 pixels: a square of the whole area does not fit, one of 5 pixels does."""
    row = np.full(DRAWS, 0.5)
    row[: 2 * TRIES : 2] = 0.999999
    row[2 * tries : 2 * TRIES : 2] = (0.025 - 0.01) / 0.99
    left, top, right, bottom = random_resized(row, 100, 10, (0.01, 1.0), RATIO)
    assert (right - left, bottom - top) == ((5, 5) if tries < TRIES else (round(10 * 4 / 3), 10))
    assert tries < TRIES or (left, top) == ((100 - 13) // 2, 0)
    assert abs((left + right) / 2 - 50) <= 0.5 and abs((top + bottom) / 2 - 5) <= 0.5


@pytest.mark.parametrize(('width', 'height', 'w', 'h'), [(100, 10, 13, 10), (10, 100, 10, 13), (1, 1, 1, 1)])
def test_where_nothing_fits_the_box_is_central_whatever_the_last_draws(width, height, w, h):
    row = np.full(DRAWS, 0.999999)
    row[1 : 2 * TRIES : 2] = 0.5 if width != height else 0.0
    left, top, right, bottom = random_resized(row, width, height, (1.0, 1.0), RATIO)
    assert (right - left, bottom - top) == (w, h)
    assert (left, top) == ((width - w) // 2, (height - h) // 2)  # torchvision's


# A random square of an image resized at random


def test_every_size_is_drawn_equally_often_and_the_square_is_of_so_many_pixels_there():
    """225 draws, one in the middle of each of the sizes from 256 to 480: enumerated."""
    for number, draw in enumerate((np.arange(225) + 0.5) / 225):
        row = np.full(DRAWS, draw)
        left, top, right, bottom = random_scale(row, 500, 375, SCALE, 224)
        assert right - left == bottom - top == round(224 * 375 / (256 + number))
    assert sides(boxes(random_scale, 500, 375, SCALE, 224))[0].max() == round(224 * 375 / 256)
    first, last = (random_scale(np.full(DRAWS, draw), 375, 500, SCALE, 224) for draw in (0.0, np.nextafter(1, 0)))
    assert (first.right - first.left, last.right - last.left) == (round(224 * 375 / 256), round(224 * 375 / 480))


def test_the_square_lies_in_every_place_equally_often():
    """Of one size: 3 x 4 places, twelve pairs of draws in the middle of each."""
    found = []
    for x, y in itertools.product((np.arange(9) + 0.5) / 9, (np.arange(16) + 0.5) / 16):
        row = np.zeros(DRAWS)
        row[-2:] = x, y
        found.append(random_scale(row, 12, 13, (10, 10), 8)[:2])
    side = round(8 * 12 / 10)
    places, counts = np.unique(found, axis=0, return_counts=True)
    assert places.tolist() == [[x, y] for x in range(12 - side + 1) for y in range(13 - side + 1)]
    assert counts.tolist() == [12] * 12


# Both

NEVER = np.nextafter(1, 0)  # the largest draw
SHAPES = [(1, 1), (1, 2), (2, 1), (1, 400), (400, 1), (3, 2), (17, 16), (500, 375), (4000, 10)]


@pytest.mark.parametrize(('width', 'height'), SHAPES)
@pytest.mark.parametrize(
    ('draw', 'settings'),
    [
        (random_resized, (AREA, RATIO)),
        (random_resized, ((0.0001, 0.0002), RATIO)),
        (random_resized, ((1.0, 1.0), (4.0, 5.0))),
        (random_resized, ((1.0, 1.0), (0.2, 0.25))),
        (random_scale, (SCALE, 224)),
        (random_scale, ((224, 224), 224)),
    ],
)
def test_a_box_is_inside_the_image_and_not_empty(width, height, draw, settings):
    extremes = np.array(list(itertools.product((0.0, NEVER), repeat=4)))
    rows = np.concatenate([np.tile(extremes, (1, DRAWS // 4 + 1))[:, :DRAWS],
                           np.random.default_rng(2).random((1000, DRAWS))])  # fmt: skip
    found = np.array([draw(row, width, height, *settings) for row in rows])
    assert (found[:, :2] >= 0).all() and (found[:, :2] < found[:, 2:]).all()
    assert (found[:, 2] <= width).all() and (found[:, 3] <= height).all()


@pytest.mark.parametrize(('draw', 'settings'), [(random_resized, (AREA, RATIO)), (random_scale, (SCALE, 224))])
def test_the_place_is_uniform_whatever_the_size(draw, settings):
    left, top, right, bottom = boxes(draw, 500, 375, *settings).T
    for start, room in ((left, 500 - (right - left)), (top, 375 - (bottom - top))):
        place = (start + 0.5) / (room + 1)
        assert stats.kstest(place[room > 50], 'uniform').pvalue > 0.001  # of narrow rooms the places are few


@pytest.mark.parametrize('crop', ['random_resized', 'random_scale'])
def test_the_settings_say_what_is_drawn_and_the_same_draws_give_the_same_box(crop):
    data = default.get_config().data
    data.update(crop=crop, crop_area=(0.2, 0.3), crop_ratio=(0.5, 0.6), crop_scale=(40, 50))
    draw = drawing(data, 32)
    for row in np.random.default_rng(3).random((50, DRAWS)):
        box = draw(row, 200, 100)
        assert isinstance(box, Box) and box == draw(row.copy(), 200, 100)
        if crop == 'random_resized':
            assert box == random_resized(row, 200, 100, (0.2, 0.3), (0.5, 0.6))
        else:
            assert box == random_scale(row, 200, 100, (40, 50), 32)
