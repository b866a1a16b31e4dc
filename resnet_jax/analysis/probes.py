"""Probes: what a linear classifier can read off the features behind each block (Alain & Bengio 2016, arXiv 1610.01644).

A place is the stem (0) or a block, by its number. The features are averaged over pixels. A probe is the closed form of
ridge regression on the classes' indicators, and says the class of the largest value.
"""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from resnet_jax.analysis.features import features
from resnet_jax.analysis.shares import Part
from resnet_jax.models.resnet import ResNet


def probe(
    network: ResNet, variables: dict, train: Iterable[Part], test: Iterable[Part], penalty: float
) -> Bool[np.ndarray, 'places n']:
    """Which of the test examples the probe of each place, fitted on the training examples, classifies rightly.

    Args:
      penalty: of the ridge, as a share of the features' mean variance.
    """
    train, test = list(train), list(test)
    size = max(len(labels) for _, labels in train + test)
    moments, examples = None, 0
    for images, labels in train:
        targets = np.eye(network.arch.classes)[np.asarray(labels)]
        added = [_moments(x, targets) for x in _filled(network, variables, images, size)]
        moments = added if moments is None else [old + new for old, new in zip(moments, added, strict=True)]
        examples += len(labels)
    assert moments is not None, 'there are no training examples'
    probes = [ridge(each / examples, network.arch.classes, penalty) for each in moments]
    right = []
    for images, labels in test:
        values = [
            x @ weights + bias
            for x, (weights, bias) in zip(_filled(network, variables, images, size), probes, strict=True)
        ]
        right.append([value.argmax(axis=1) == np.asarray(labels) for value in values])
    return np.concatenate(right, axis=1)


@partial(jax.jit, static_argnames='network')
def pooled(network: ResNet, variables: dict, images: Float[Array, 'n h w c']) -> list[Float[Array, 'n _']]:
    """The features of the stem and of every block, averaged over pixels."""
    names = ('stem', *(f'block:{number}' for number in range(1, network.arch.blocks + 1)))
    found = features(network, variables, images, names=names)
    return [jnp.mean(found[name], axis=(1, 2)) for name in names]


def ridge(moments: Float[np.ndarray, 'k k'], classes: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (features, classes) and bias (classes,) that minimise E‖xW + b - y‖² + λ‖W‖².

    Args:
      moments: E of the products of (x, y, 1) with each other.
      penalty: λ as a share of the mean variance of x.
    """
    mean = moments[-1, :-1]
    covariance = moments[:-1, :-1] - np.outer(mean, mean)
    size = len(mean) - classes
    of_x = covariance[:size, :size]
    penalised = of_x + penalty * np.trace(of_x) / size * np.eye(size)
    weights, *_ = np.linalg.lstsq(penalised, covariance[:size, size:])  # not solve: features may all be constant
    return weights, mean[size:] - mean[:size] @ weights


def _filled(network: ResNet, variables: dict, images: Array, size: int) -> list[np.ndarray]:
    """`pooled`, of images filled up to `size`: one program serves chunks of all sizes."""
    filled = jnp.pad(images, [(0, size - len(images)), *[(0, 0)] * 3])
    return [np.asarray(x, float)[: len(images)] for x in pooled(network, variables, filled)]


def _moments(x: Float[np.ndarray, 'n features'], targets: Float[np.ndarray, 'n classes']) -> Float[np.ndarray, 'k k']:
    """Sums over examples of the products of (x, y, 1) with each other."""
    together = np.concatenate([x, targets, np.ones((len(x), 1))], axis=1)
    return together.T @ together
