"""Linear probes on the features behind each block."""

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import probes
from resnet_jax.analysis.features import features


def moments(x, targets):
    together = np.concatenate([x, targets, np.ones((len(x), 1))], axis=1)
    return together.T @ together / len(x)


@pytest.mark.parametrize('penalty', [0.0, 0.1])
def test_the_ridge_is_least_squares_with_a_row_more_for_each_penalised_weight(penalty):
    rng = np.random.default_rng(0)
    x, targets = rng.normal((5, 0, 0), size=(40, 3)), rng.normal(size=(40, 2))
    weights, bias = probes.ridge(moments(x, targets), 2, penalty)
    strength = np.sqrt(penalty * x.var(axis=0).mean() * 40)
    rows = np.concatenate([np.column_stack([x, np.ones(40)]), np.column_stack([strength * np.eye(3), np.zeros(3)])])
    expected, *_ = np.linalg.lstsq(rows, np.concatenate([targets, np.zeros((3, 2))]))
    np.testing.assert_allclose(np.vstack([weights, bias]), expected, rtol=1e-8, atol=1e-10)


def test_features_that_never_change_tell_the_share_of_each_class():
    targets = np.eye(3)[[0, 0, 1, 2]]
    weights, bias = probes.ridge(moments(np.full((4, 2), 7.0), targets), 3, 1e-3)
    np.testing.assert_allclose(np.full(2, 7.0) @ weights + bias, [0.5, 0.25, 0.25])


def test_pooled_are_the_means_over_pixels_of_the_stem_and_every_block(tiny):
    network, variables = tiny
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 1)), jnp.float32)
    found = probes.pooled(network, variables, x)
    assert [each.shape[1] for each in found] == [4, 4, 4, 4, 8, 8, 8, 16, 16, 16]
    for place, name in ((0, 'stem'), (2, 'block:2'), (9, 'block:9')):
        given = features(network, variables, x, names=(name,))[name]
        np.testing.assert_allclose(found[place], given.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_classes_that_the_features_of_a_place_separate_are_told_there_and_noise_nowhere(tiny):
    network, variables = tiny
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1200, 8, 8, 1)) * rng.uniform(0.5, 2, (1200, 1, 1, 1)), jnp.float32)
    place = 4
    feature = np.asarray(probes.pooled(network, variables, x)[place])[:, 2]
    separable = np.where(feature > np.median(feature), 7, 1).astype(np.int32)
    noise = rng.choice([1, 7], 1200).astype(np.int32)
    for labels, expected in ((separable, 0.9), (noise, None)):
        chunks = [(x[start : start + 300], jnp.asarray(labels[start : start + 300])) for start in range(0, 1200, 300)]
        right = probes.probe(network, variables, chunks[:3], chunks[3:], 1e-3).mean(axis=1)
        assert right.shape == (10,)
        if expected:
            assert right[place] > expected
        else:
            assert np.abs(right - 0.5).max() < 4 * 0.5 / np.sqrt(300)
