"""Evaluation by many views: the mean of the probabilities of views cut by hand, every example once."""

import functools
import io
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import default
from resnet_jax.data.augment import IMAGENET, Normalization
from resnet_jax.data.folder import open_folder
from resnet_jax.errors import UserError
from resnet_jax.progress import silent
from resnet_jax.train.many_views import AT_ONCE, TOGETHER, evaluate_views
from tests.data.folders import contents, encode, noise, settle

SIDE, FRACTION, COUNT = 16, 0.8, 22  # pixels, share, images a class
SCALES = (16, 18, 27, 34, 46)  # 224, 256, 384, 480 and 640 of 224, times 16
WIDE = {16: 24, 18: 26, 27: 39, 34: 50, 46: 68}  # of an image of 60 x 40, cut to a quarter of the shorter side


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """66 test images of three classes, broad, tall and square by turns: more than are taken at once."""
    root = tmp_path_factory.mktemp('images')
    for split, count in (('train', 1), ('test', COUNT)):
        for label, name in enumerate('abc'):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                size = [(60, 40), (40, 60), (44, 44)][number % 3]
                image = noise(*size, seed=100 * label + number)
                (root / split / name / f'{number:02}.png').write_bytes(encode(image, 'PNG'))
    settle(root)
    return root


def opened(root):
    return open_folder(root, 0.5, silent).splits['test']


@pytest.fixture(scope='module')
def network_and_variables(make_network):
    return make_network(
        'float32', placement='original', stage_blocks=(1, 1, 1), image_shape=(SIDE, SIDE, 3), classes=3
    )  # fmt: skip


@pytest.fixture(scope='module')
def evaluated(network_and_variables):
    """`evaluated(source, views, corrupt)`."""

    def call(source, views, corrupt='stop', normalization=IMAGENET, progress=silent):
        data = default.get_config().data
        data.update(crop_fraction=FRACTION, corrupt=corrupt)
        return evaluate_views(*network_and_variables, source, normalization, data=data, views=views, progress=progress)

    return call


def resized(encoded, pixels):
    image = Image.open(io.BytesIO(encoded))
    size = [int(pixels * side / min(image.size)) for side in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def middle(pixels, height, width):
    top, left = (round((side - wanted) / 2) for side, wanted in zip(pixels.shape, (height, width), strict=False))
    return pixels[top : top + height, left : left + width]


def ten_crop(encoded):
    """torchvision's TenCrop, of the image resized to 16 / 0.8 = 20 pixels."""
    pixels = resized(encoded, 20)
    corners = [
        pixels[rows, columns] for rows in (np.s_[:SIDE], np.s_[-SIDE:]) for columns in (np.s_[:SIDE], np.s_[-SIDE:])
    ]
    crops = [*corners, middle(pixels, SIDE, SIDE)]
    return [*crops, *(crop[:, ::-1] for crop in crops)]


def multi_scale(encoded):
    views = []
    for scale in SCALES:
        pixels = resized(encoded, scale)
        height, width = (scale if side == scale else WIDE[scale] for side in pixels.shape[:2])
        views += [middle(pixels, height, width), middle(pixels, height, width)[:, ::-1]]
    return views


@pytest.fixture(scope='module')
def probabilities(network_and_variables):
    """`probabilities(images)`: of each, float64 (n, classes); images of one shape at once."""
    network, variables = network_and_variables
    apply = jax.jit(functools.partial(network.apply, variables, train=False))

    def call(images):
        found = np.zeros((len(images), 3))
        for shape in {image.shape for image in images}:
            chosen = [index for index, image in enumerate(images) if image.shape == shape]
            pixels = np.stack([images[index] for index in chosen]) / np.float32(255)
            logits = np.asarray(apply((pixels - IMAGENET.mean) / IMAGENET.deviation), np.float64)
            found[chosen] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return found

    return call


@pytest.fixture(scope='module', params=[ten_crop, multi_scale], ids=lambda cut: cut.__name__)
def by_hand(request, folder, probabilities):
    """The name of the views, and the mean probabilities of all examples (n, classes)."""
    encoded = [encoded for _, encoded, _ in contents(opened(folder))]
    views = [request.param(each) for each in encoded]
    assert {len(each) for each in views} == {10}
    found = probabilities([view for each in views for view in each])
    return request.param.__name__, found.reshape(len(encoded), 10, 3).mean(axis=1)


def test_loss_and_errors_are_those_of_the_mean_of_views_cut_by_hand(folder, evaluated, by_hand):
    views, mean = by_hand
    source, told = opened(folder), []
    assert len(source) > AT_ONCE and len(source) % TOGETHER
    result = evaluated(source, views, progress=lambda *what: told.append(what))
    assert result.examples == len(source) == 3 * COUNT
    assert result.loss == pytest.approx(-np.log(mean[np.arange(len(mean)), source.labels]).mean(), rel=1e-5)
    assert result.correct == (mean.argmax(axis=1) == source.labels).sum() > 0
    assert told == [(f'evaluating, {views}', 64, 66), (f'evaluating, {views}', 66, 66)]


def test_control_one_view_alone_says_something_else(folder, evaluated, probabilities):
    source = opened(folder)
    centre = [middle(resized(encoded, 20), SIDE, SIDE) for _, encoded, _ in contents(source)]
    loss = -np.log(probabilities(centre)[np.arange(len(centre)), source.labels]).mean()
    assert abs(evaluated(source, 'ten_crop').loss - loss) > 1e-3


@pytest.fixture
def broken(folder, tmp_path):
    """The same images, of which one is cut off."""
    for path in folder.rglob('*.png'):
        (tmp_path / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.relative_to(folder)).write_bytes(path.read_bytes())
    path = tmp_path / 'test' / 'b' / '03.png'
    path.write_bytes(path.read_bytes()[:200])
    settle(tmp_path)
    return tmp_path


def test_an_image_that_cannot_be_read_stops_it_or_is_left_out(broken, evaluated, probabilities):
    source = opened(broken)
    with pytest.raises(UserError) as error:
        evaluated(source, 'ten_crop')
    assert str(broken / 'test' / 'b' / '03.png') in str(error.value) and '\n' not in str(error.value)
    assert 'data.corrupt=skip' in str(error.value)
    result = evaluated(source, 'ten_crop', corrupt='skip')
    rest = [index for index in range(len(source)) if index != COUNT + 3]
    encoded = [(broken / os.fsdecode(source.name(index))).read_bytes() for index in rest]
    found = probabilities([view for each in encoded for view in ten_crop(each)])
    mean, labels = found.reshape(len(rest), 10, 3).mean(axis=1), source.labels[rest]
    assert result.examples == len(rest) and result.correct == (mean.argmax(axis=1) == labels).sum()
    assert result.loss == pytest.approx(-np.log(mean[np.arange(len(rest)), labels]).mean(), rel=1e-5)


def test_where_no_image_can_be_read_it_is_said(tmp_path, evaluated):
    for name in ('train/a/1', 'train/b/1', 'test/a/1', 'test/b/1'):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f'{name}.png').write_bytes(b'not an image')
    with pytest.raises(UserError, match='none of the 2 images can be read'):
        evaluated(opened(tmp_path), 'ten_crop', corrupt='skip')


def test_many_sizes_are_refused_where_the_network_takes_one_alone(folder, evaluated, make_network):
    pixel_mean = Normalization(jnp.zeros((SIDE, SIDE, 3)), jnp.ones((1, 1, 1)))
    flat = make_network(
        'float32', placement='original', stage_blocks=(1, 1, 1), image_shape=(SIDE, SIDE, 3), classes=3, pool='flatten'
    )  # fmt: skip
    for refused in (
        lambda: evaluated(opened(folder), 'multi_scale', normalization=pixel_mean),
        lambda: evaluate_views(*flat, opened(folder), IMAGENET, data=default.get_config().data, views='multi_scale',
                               progress=silent),
    ):  # fmt: skip
        with pytest.raises(UserError, match=r'takes one alone .*; use ten_crop') as error:
            refused()
        assert '\n' not in str(error.value)
