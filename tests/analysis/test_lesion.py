import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import lesion
from tests.mistakes import refused

PLAIN = {'placement': 'original', 'shortcut': 'none', 'stage_blocks': (2, 3, 2)}


# Which blocks


def test_blocks_are_numbered_from_1(make_arch):
    arch = make_arch()
    np.testing.assert_array_equal(np.flatnonzero(lesion.deletion(arch, [1, 4, 9])), [0, 3, 8])
    np.testing.assert_array_equal(lesion.deletion(arch, [4, 4]), lesion.deletion(arch, [4]))
    assert not lesion.deletion(arch, []).any()


@pytest.mark.parametrize('number', [0, -1, 10, 1000])
def test_a_block_that_does_not_exist_is_refused(make_arch, number):
    expected = f'block {number} does not exist; this network has blocks 1 to 9'
    assert refused(lesion.deletion, make_arch(), [3, number]) == expected


@pytest.mark.parametrize(
    ('stage_blocks', 'number', 'ranges'),
    [
        ((2, 3, 2), 3, '1-2, 4-5, 7'),
        ((2, 3, 2), 6, '1-2, 4-5, 7'),
        ((1, 1, 1), 2, '1'),
        ((18,) * 3, 37, '1-18, 20-36, 38-54'),
    ],
)
def test_a_block_that_nothing_could_pass_beside_is_refused_and_the_others_are_named(
    make_arch, stage_blocks, number, ranges
):
    said = refused(lesion.deletion, make_arch(**PLAIN | {'stage_blocks': stage_blocks}), [number])
    assert said == (
        f'block {number} cannot be deleted: it changes the shape and has no shortcut, so nothing would pass; '
        f'blocks that can be: {ranges}'
    )


@pytest.mark.parametrize('shortcut', ['A', 'B', 'C'])
def test_every_block_beside_a_shortcut_can_be_deleted(make_arch, shortcut):
    arch = make_arch(shortcut=shortcut)
    assert lesion.deletable(arch).all()
    np.testing.assert_array_equal(lesion.single_deletions(arch), np.eye(9, dtype=bool))
    np.testing.assert_array_equal(np.flatnonzero(lesion.is_entry(arch)), [0, 3, 6])


def test_single_deletions_of_a_plain_network_leave_out_what_changes_the_shape(make_arch):
    lesions = lesion.single_deletions(make_arch(**PLAIN))
    assert [list(np.flatnonzero(each)) for each in lesions] == [[0], [1], [3], [4], [6]]


def test_pair_deletions_are_every_two_of_them_once(make_arch):
    pairs = lesion.pair_deletions(make_arch(**PLAIN))  # blocks 1, 2, 4, 5 and 7 can be deleted
    expected = [[0, 1], [0, 3], [0, 4], [0, 6], [1, 3], [1, 4], [1, 6], [3, 4], [3, 6], [4, 6]]
    assert [list(np.flatnonzero(each)) for each in pairs] == expected
    assert lesion.pair_deletions(make_arch(**PLAIN | {'stage_blocks': (1, 1, 1)})).shape == (0, 3)


def test_random_deletions_are_that_many_candidates_and_every_candidate_as_often():
    candidates = np.array([True, False, True, True, True, False, True])
    lesions = lesion.random_deletions(np.random.default_rng(0), candidates, 2, 4000)
    assert lesions.shape == (4000, 7) and lesions.dtype == bool
    assert (lesions.sum(axis=1) == 2).all() and not lesions[:, ~candidates].any()
    pairs = collections.Counter(tuple(np.flatnonzero(each)) for each in lesions)
    assert len(pairs) == 10 and max(abs(count - 400) for count in pairs.values()) < 4 * np.sqrt(400 * 0.9)
    again = lesion.random_deletions(np.random.default_rng(0), candidates, 2, 4000)
    np.testing.assert_array_equal(lesions, again)


def test_random_deletions_of_all_and_of_none():
    candidates, rng = np.array([True, False, True]), np.random.default_rng(0)
    np.testing.assert_array_equal(lesion.random_deletions(rng, candidates, 2, 3), [candidates] * 3)
    assert not lesion.random_deletions(rng, candidates, 0, 3).any()
    said = refused(lesion.random_deletions, rng, candidates, 3, 1)
    assert said == '3 blocks cannot be deleted of 2 candidates; delete fewer'


# Gates


@pytest.mark.parametrize('shortcut', ['A', 'none'])
def test_deleting_puts_the_residual_gate_to_0_and_the_shortcut_gate_to_1(make_network, shortcut):
    network, _ = make_network('float32', shortcut=shortcut, placement='original')
    passing = 0 if shortcut == 'none' else 1
    gates = lesion.delete(network.intact_gates(), lesion.deletion(network.arch, [2, 5]))
    np.testing.assert_array_equal(gates.residual, [1, 0, 1, 1, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(gates.shortcut, [passing, 1, passing, passing, 1] + [passing] * 4)
    np.testing.assert_array_equal([gates.shortcut_grad, gates.residual_grad], np.ones((2, 9)))
    both = lesion.delete(
        network.intact_gates(), np.stack([lesion.deletion(network.arch, each) for each in ([2, 5], [], [9])])
    )
    assert {gate.shape for gate in both} == {(9, 3)}
    for ours, alone in zip(both, gates, strict=True):
        np.testing.assert_array_equal(ours[:, 0], alone)
    np.testing.assert_array_equal(both.residual[:, 1], np.ones(9))
    np.testing.assert_array_equal(both.shortcut[:, 2], [passing] * 8 + [1])


@pytest.mark.usefixtures('float64')
def test_deleting_a_block_of_a_plain_network_passes_its_input(make_network):
    network, variables = make_network(**PLAIN)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 1)))

    @jax.jit
    def inputs(variables, gates):
        _, kept = network.apply(variables, x, gates, train=False, mutable=['intermediates'])
        return kept['intermediates']['stage2']['body']['input']  # of the fourth block and the fifth

    intact = inputs(variables, network.intact_gates())
    deleted = inputs(variables, lesion.delete(network.intact_gates(), lesion.deletion(network.arch, [4])))
    np.testing.assert_array_equal(deleted[0], intact[0])
    np.testing.assert_array_equal(deleted[1], deleted[0])  # it is not negative: the last ReLU leaves it
    assert np.abs(intact[1] - intact[0]).max() > 0.01
