"""Augmentation, mixed targets and losses against torchvision's and timm's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from resnet_jax.data import augment, colour, mix
from resnet_jax.data.rand_augment import OPERATIONS, operate

pytestmark = pytest.mark.torch

# Their names, in our order.
NAMES = (
    'ShearX', 'ShearY', 'TranslateX', 'TranslateY', 'Rotate', 'Brightness', 'Color', 'Contrast', 'Sharpness',
    'Posterize', 'Solarize', 'AutoContrast', 'Equalize', 'Identity',
)  # fmt: skip


@pytest.fixture(scope='module')
def torch():
    return pytest.importorskip('torch')


@pytest.fixture(scope='module')
def transforms(torch):
    from benchmarks import peers

    peers.torchvision()
    from torchvision.transforms import v2  # pyright: ignore[reportMissingImports]

    return v2


@pytest.fixture(scope='module')
def pictures():
    random = np.random.default_rng(0)
    row, column = np.mgrid[:48, :64]
    smooth = np.stack([3 * column, 5 * row, row + column], axis=-1).astype(np.uint8)
    return [smooth, random.integers(0, 256, (48, 64, 3), dtype=np.uint8)]


@pytest.mark.parametrize(('name', 'theirs'), list(zip(OPERATIONS, NAMES, strict=True)))
def test_an_operation_is_torchvisions(transforms, pictures, name, theirs):
    peer = transforms.RandAugment()
    assert set(peer._AUGMENTATION_SPACE) == set(NAMES)
    magnitudes, signed = peer._AUGMENTATION_SPACE[theirs]
    table = magnitudes(31, 48, 64)
    ours = jax.jit(operate)
    for picture in pictures:
        for step in (0, 3, 9, 17, 30):
            for sign in (1, -1) if signed else (1,):
                magnitude = 0.0 if table is None else sign * float(table[step])
                image = Image.fromarray(picture)
                expected = peer._apply_image_or_video_transform(image, theirs, magnitude, 'nearest', peer._fill)
                which, share = jnp.int32(OPERATIONS.index(name)), jnp.float32(step / 30)
                out = np.asarray(ours(jnp.asarray(picture), which, share, jnp.float32(sign)))
                off = np.abs(out.astype(int) - np.asarray(expected))
                if name == 'rotate':
                    assert (off > 0).any(axis=-1).mean() < 0.005  # matrices of float32 and of doubles
                else:
                    assert off.max() <= 1 and (off > 0).mean() < 0.05, (step, sign)


def test_turning_the_hue_is_torchvisions(transforms, pictures):
    for picture in pictures:
        for turns in (-0.4, -0.1, 0.0, 0.25, 0.5):
            expected = np.asarray(transforms.functional.adjust_hue(Image.fromarray(picture), turns)).astype(int)
            off = np.abs(np.asarray(colour.hue(jnp.asarray(picture), jnp.float32(turns))) - expected)
            assert off.max() <= 6 and (off > 0).mean() < 0.01  # see test_colour


def test_the_factors_of_jitter_are_distributed_as_torchvisions(torch, transforms):
    torch.manual_seed(0)
    white = jnp.full((800, 1, 1, 1), 100, jnp.uint8)
    for strength in (0.4, 1.3):
        peer = transforms.ColorJitter(brightness=strength)
        theirs = [peer.make_params([])['brightness_factor'] for _ in range(800)]
        out = colour.jitter(jax.random.key(0), white, (strength, 0.0, 0.0, 0.0))
        ours = (np.asarray(out).ravel() + 0.5) / 100  # a level is 100 times the factor, cut
        assert stats.ks_2samp(ours, theirs).pvalue > 0.001
        assert stats.ks_2samp(ours, 0.9 * np.array(theirs)).pvalue < 0.001  # the control: it can tell


def test_the_erased_boxes_are_distributed_as_torchvisions(torch, transforms):
    torch.manual_seed(0)

    def boxes(**settings):
        peer = transforms.RandomErasing(p=1.0, **settings)
        return [peer.make_params([torch.zeros(1, 40, 60)]) for _ in range(1500)]

    zeros = np.asarray(augment.erase(jax.random.key(0), jnp.ones((1500, 40, 60, 1)), 1.0))[..., 0] == 0
    rows, columns = zeros.any(axis=2), zeros.any(axis=1)
    ours = {'i': rows.argmax(axis=1), 'j': columns.argmax(axis=1), 'h': rows.sum(axis=1), 'w': columns.sum(axis=1)}
    theirs, smaller = boxes(), boxes(scale=(0.02, 0.25))
    for side, values in ours.items():
        assert stats.ks_2samp(values, [each[side] for each in theirs]).pvalue > 0.001, side
    for side in ('h', 'w'):  # the control: it can tell
        assert stats.ks_2samp(ours[side], [each[side] for each in smaller]).pvalue < 0.001


def test_mixed_targets_and_their_loss_are_timms(torch):
    loss = pytest.importorskip('timm.loss')
    mixup = pytest.importorskip('timm.data.mixup')
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 9, 8), random.normal(size=(8, 9)).astype(np.float32)
    images = jnp.asarray(random.normal(size=(8, 6, 6, 3)), jnp.float32)
    for alphas in ((0.5, 0.0), (0.0, 1.0)):
        for smoothing in (0.0, 0.1):
            targets = mix.targets(jnp.asarray(labels, jnp.int32), 9, smoothing)
            _, targets = mix.mix(jax.random.key(3), images, targets, *alphas)
            pure = mix.mix(jax.random.key(3), images, jnp.eye(8), *alphas)[1]
            theirs = mixup.mixup_target(torch.tensor(labels), 9, float(pure[0, 0]), smoothing)
            np.testing.assert_allclose(targets, theirs.numpy(), atol=1e-6)
            expected = loss.SoftTargetCrossEntropy()(torch.tensor(logits), theirs)
            np.testing.assert_allclose(mix.loss(jnp.asarray(logits), targets, 'softmax'), expected, rtol=1e-5)
            expected = loss.BinaryCrossEntropy(target_threshold=0.2)(torch.tensor(logits), theirs)
            np.testing.assert_allclose(mix.loss(jnp.asarray(logits), targets, 'sigmoid'), expected, rtol=1e-5)


def test_the_boxes_of_cutmix_are_distributed_as_timms():
    mixup = pytest.importorskip('timm.data.mixup')
    random = np.random.RandomState(0)
    np.random.seed(0)  # noqa: NPY002  timm draws from it
    theirs = [mixup.cutmix_bbox_and_lam((1, 3, 24, 30), random.beta(1, 1))[1] for _ in range(1500)]
    images, targets = jnp.zeros((2, 24, 30, 1)), jnp.eye(2)
    keys = jax.random.split(jax.random.key(0), 1500)
    ours = jax.jit(jax.vmap(lambda key: mix.mix(key, images, targets, 0.0, 1.0)[1][0, 0]))(keys)
    assert stats.ks_2samp(np.asarray(ours), theirs).pvalue > 0.001
