import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import paths
from resnet_jax.errors import UserError

# What a block may be made of: something behind the sum or before the split, gains, gates, one block a stage.
KINDS = {
    'pre-activation, A, eight blocks': {'placement': 'full_preactivation', 'stage_blocks': (5, 3)},
    'pre-activation, C': {'placement': 'full_preactivation', 'shortcut': 'C'},
    'BN after the addition, kernels shared': {'placement': 'bn_after_addition', 'share': 'kernels'},
    'gated, all shared, scaled by survival': {'shortcut': 'exclusive_gating', 'gate_bias': 0.0, 'share': 'all',
                                              'survival': 0.3, 'placement': 'original'},
}  # fmt: skip

SMALL = {'placement': 'full_preactivation', 'stage_blocks': (3, 1), 'widths': (4, 8)}


def examples(count, channels=1):
    rng = np.random.default_rng(5)
    return jnp.asarray(rng.normal(size=(count, 8, 8, channels))), jnp.asarray(rng.integers(0, 10, count))


def enumerated(blocks):
    """Every path: (2 ** blocks, blocks), True where it goes through the branch."""
    return (np.arange(2**blocks)[:, None] >> np.arange(blocks)) % 2 == 1


@functools.cache
def programs(network):
    return jax.jit(functools.partial(paths.sums, network)), jax.jit(functools.partial(paths.gradients, network))


# The exact sums


@pytest.mark.parametrize('fields', KINDS.values(), ids=KINDS)
@pytest.mark.usefixtures('float64')
def test_the_sums_are_those_of_all_paths_one_by_one(make_network, fields):
    network, variables = make_network(**{'stage_blocks': (6, 1), 'widths': (4, 8)} | fields)
    images, labels = examples(2)
    every = enumerated(network.arch.blocks)
    assert len(every) in (128, 256)
    sums, gradients = programs(network)
    found = sums(variables, images, labels)
    for example in range(2):
        repeated = [jnp.repeat(each[example : example + 1], len(every), axis=0) for each in (images, labels)]
        one_by_one = gradients(variables, *repeated, paths.along(network.intact_gates(), jnp.asarray(every.T)))
        for ours, alone in zip(found, one_by_one, strict=True):
            for length in range(network.arch.blocks + 1):
                expected = np.sum(alone[every.sum(axis=1) == length], axis=0)
                np.testing.assert_allclose(ours[length, example], expected, rtol=1e-11, atol=1e-13 * _size(alone))


@pytest.mark.parametrize('fields', KINDS.values(), ids=KINDS)
@pytest.mark.usefixtures('float64')
def test_over_all_lengths_they_add_up_to_the_gradient(make_network, fields):
    network, variables = make_network(**{'stage_blocks': (6, 1), 'widths': (4, 8)} | fields)
    images, labels = examples(2)
    found = programs(network)[0](variables, images, labels)

    def loss(images):
        logits = network.apply(variables, images, train=False)
        return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(2), labels])

    gradient = paths.LIFT * jax.jit(jax.grad(loss))(images)
    np.testing.assert_allclose(found.image.sum(axis=0), gradient, rtol=1e-11, atol=1e-13 * _size(gradient))
    assert _size(found.image.sum(axis=0) - gradient) < 1e-13 * _size(found.image[1])
    assert _size(found.image[:-1].sum(axis=0) - gradient) > 1e-6 * _size(gradient)  # the negative control


def _size(x):
    return float(np.abs(x).max())


@pytest.mark.usefixtures('float64')
def test_where_every_branch_multiplies_by_a_the_sum_of_length_k_is_binomial_times_a_to_the_k(make_network):
    """Kernels of 1 at the centre, on positive values: a branch is α x, and J = (1 + α) a block, worked by hand."""
    blocks, alpha = 6, 0.3
    network, variables = make_network(
        stage_blocks=(blocks,), widths=(4,), norm='none', gain='skipinit', placement='full_preactivation'
    )

    def by_hand(path, leaf):
        names = [each.key for each in path]
        if names[0] != 'stage1':
            return jnp.abs(leaf)
        if names[-1] == 'kernel':
            return jnp.zeros_like(leaf).at[..., 1, 1, :, :].set(jnp.eye(4))
        return jnp.full_like(leaf, alpha if names[-2] == 'gain' else 0.0)

    params = jax.tree_util.tree_map_with_path(by_hand, variables['params'])
    images, labels = examples(2)
    found = programs(network)[0]({'params': params, 'batch_stats': {}}, 1 + jnp.abs(images), labels)
    for sums in found:
        assert _size(sums[0]) > 0
        for length in range(blocks + 1):
            np.testing.assert_allclose(sums[length], math.comb(blocks, length) * alpha**length * sums[0], rtol=1e-12)


def test_in_float32_norms_and_the_distance_to_the_gradient_are_those_of_the_sums(make_network):
    network, variables = make_network('float32', **SMALL)
    images, labels = examples(3)
    images = images.astype(jnp.float32)
    norms, miss = paths.sum_norms(network, variables, images, labels)
    sums = programs(network)[0](variables, images, labels)
    for ours, each in zip(norms, sums, strict=True):
        expected = np.sqrt(np.square(each, dtype=np.float64).sum(axis=(-3, -2, -1)))
        np.testing.assert_allclose(ours, expected / paths.LIFT, rtol=1e-4)
        assert ours.shape == (5, 3)
    assert miss.shape == (3,) and 0 < miss.max() < 1e-5


# One path


def test_random_paths_go_through_that_many_branches_each_as_often():
    drawn = paths.random_paths(np.random.default_rng(0), 5, 2, 4000)
    assert drawn.shape == (5, 4000) and drawn.dtype == bool and (drawn.sum(axis=0) == 2).all()
    _, counts = np.unique(drawn, axis=1, return_counts=True)
    assert len(counts) == 10 and np.abs(counts - 400).max() < 4 * np.sqrt(400 * 0.9)
    assert not paths.random_paths(np.random.default_rng(0), 5, 0, 3).any()
    assert paths.random_paths(np.random.default_rng(0), 5, 5, 3).all()


def test_letting_the_gradient_along_a_path_leaves_every_value(tiny):
    network, variables = tiny
    images = examples(3)[0].astype(jnp.float32)
    gates = paths.along(network.intact_gates(), jnp.asarray(enumerated(9)[[0, 37, 511]].T))
    apply = jax.jit(functools.partial(network.apply, train=False))
    np.testing.assert_array_equal(apply(variables, images, gates), apply(variables, images, network.intact_gates()))


def test_paths_are_data(make_network, caplog):
    network, variables = make_network('float32', **SMALL)
    images, labels = examples(4)
    images, rng = images.astype(jnp.float32), np.random.default_rng(0)
    measure = functools.partial(paths.path_norms, network, variables, images, labels)
    measure(paths.random_paths(rng, 4, 3, 4))
    with jax.log_compiles():
        norms = [measure(paths.random_paths(rng, 4, length, 4)).image for length in range(5)]
        assert _compiled(caplog) == []
        paths.path_norms(network, variables, images[:2], labels[:2], np.zeros((4, 2), bool))
        assert '_path_norms' in _compiled(caplog)  # the negative control: another batch is another program
    assert len(np.unique(norms)) == 20


def _compiled(caplog):
    return re.findall(r'Finished XLA compilation of jit\((\w+)\)', caplog.text)


# Numbers


def test_a_norm_is_right_where_its_squares_are_nothing():
    x = jnp.full((2, 3, 1, 3, 4), 1e-30, jnp.float32).at[1].set(0)
    np.testing.assert_allclose(paths.norm(x), [[math.sqrt(12) * 1e-30] * 3, [0] * 3], rtol=1e-6)
    assert float(jnp.sum(x**2)) == 0  # the negative control


def test_the_shares_of_54_blocks_are_the_papers():
    shares = paths.shares(54)
    assert shares.shape == (55,) and shares.sum() == pytest.approx(1)
    assert shares[19:36].sum() == pytest.approx(0.980, abs=5e-4)
    assert shares[5:18].sum() == pytest.approx(0.0045, abs=5e-5)
    assert paths.mean_length(shares) == pytest.approx(27)
    np.testing.assert_allclose(paths.shares(3), [1 / 8, 3 / 8, 3 / 8, 1 / 8])


def test_a_mean_length_weighs_lengths_whatever_the_weights_add_up_to():
    assert paths.mean_length(np.array([2.0, 0, 6])) == pytest.approx(1.5)
    assert paths.mean_length(1e-30 * np.array([2.0, 0, 6])) == pytest.approx(1.5)


@pytest.mark.parametrize('fields', [{'shortcut': 'none', 'placement': 'original'}, {'join': 'concatenate'}])
def test_a_network_without_paths_is_refused(make_arch, fields):
    arch = make_arch(**fields)
    with pytest.raises(UserError, match=f"has shortcut '{arch.shortcut}' and join '{arch.join}'") as error:
        paths.check(arch)
    assert '\n' not in str(error.value) and not paths.there(arch)
    paths.check(make_arch())
