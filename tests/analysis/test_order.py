import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import order as ordering
from resnet_jax.analysis.lesion import delete, deletion
from tests.analysis.chunks import parts

KINDS = {
    'pre-activation, A': {},
    'original, B': {'placement': 'original', 'shortcut': 'B', 'stage_blocks': (3, 2, 1)},
    'plain': {'placement': 'original', 'shortcut': 'none'},
    'kernels shared': {'placement': 'original', 'share': 'kernels', 'shortcut': 'C'},
    'stochastic depth': {'placement': 'original', 'survival': 0.3},
}
kinds = pytest.mark.parametrize('fields', KINDS.values(), ids=KINDS)


@functools.cache
def program(network):
    return jax.jit(functools.partial(ordering.ordered_logits, network))


def images():
    return jnp.asarray(np.random.default_rng(4).normal(size=(3, 8, 8, 1)))


# Which order


def test_the_trained_order_has_room_for_one_block_more(make_arch):
    expected = [[1, 2, -1, -1], [4, 5, 6, -1], [-1, -1, -1, -1]]
    np.testing.assert_array_equal(ordering.trained_order(make_arch(stage_blocks=(3, 4, 1))), expected)


def test_a_repeated_block_stands_twice_in_a_row(make_arch):
    arch = make_arch(stage_blocks=(3, 4, 1))
    np.testing.assert_array_equal(ordering.repeated(arch, 5)[1], [4, 5, 5, 6])
    np.testing.assert_array_equal(ordering.repeated(arch, 6)[1], [4, 5, 6, 6])
    np.testing.assert_array_equal(ordering.repeated(arch, 1)[0], [1, 1, 2, -1])
    np.testing.assert_array_equal(ordering.repeated(arch, 5)[[0, 2]], ordering.trained_order(arch)[[0, 2]])


def test_swaps_stay_within_a_stage_and_are_drawn_from_all_its_pairs(make_arch):
    arch, rng = make_arch(stage_blocks=(3, 4, 2)), np.random.default_rng(0)
    trained, seen = ordering.trained_order(arch), {}
    for _ in range(2000):
        order, distance = ordering.random_swaps(rng, arch, 1)
        np.testing.assert_array_equal(np.sort(order), np.sort(trained))
        a, b = order[order != trained]
        assert distance == abs(a - b)  # one swap: the blocks' indices are their places
        seen[a, b] = seen.get((a, b), 0) + 1
    assert set(map(frozenset, seen)) == set(map(frozenset, [(1, 2), (4, 5), (4, 6), (5, 6)]))  # 3 of 4 pairs in stage 2
    assert max(abs(count - 500) for count in seen.values()) < 4 * np.sqrt(500 * 0.75)
    order, distance = ordering.random_swaps(rng, arch, 0)
    assert distance == 0 and (order == trained).all()


def test_kendall_tau_by_hand(make_arch):
    """Nine blocks have 36 pairs; a swap at a distance of d puts 2d - 1 of them the other way round."""
    arch = make_arch(stage_blocks=(4, 4, 1))
    order = ordering.trained_order(arch)
    assert ordering.kendall_tau(arch, order) == 1
    order[0, [0, 2]] = order[0, [2, 0]]
    assert ordering.kendall_tau(arch, order) == pytest.approx(1 - 2 * 3 / 36)
    order[1, [0, 1]] = order[1, [1, 0]]
    assert ordering.kendall_tau(arch, order) == pytest.approx(1 - 2 * 4 / 36)


# What the network says then


@kinds
@pytest.mark.usefixtures('float64')
def test_the_trained_order_is_the_network(make_network, fields):
    network, variables = make_network(**fields)
    found = program(network)(variables, images(), ordering.trained_order(network.arch))
    np.testing.assert_allclose(found, network.apply(variables, images(), train=False), rtol=1e-11)


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('fields', [KINDS['pre-activation, A'], KINDS['original, B'], KINDS['plain']])
def test_an_order_is_the_network_with_its_stacked_variables_in_that_order(make_network, fields):
    network, variables = make_network(**fields)
    order = ordering.trained_order(network.arch)
    order[0, [0, 1]], permuted = order[0, [1, 0]], jax.tree.map(lambda leaf: leaf, variables)
    for kind in ('params', 'batch_stats'):
        stage = permuted[kind]['stage1']
        stage['body'] = jax.tree.map(lambda leaf: leaf[::-1], stage['body'])
    found = program(network)(variables, images(), order)
    np.testing.assert_allclose(found, network.apply(permuted, images(), train=False), rtol=1e-11)
    assert np.abs(found - network.apply(variables, images(), train=False)).max() > 1e-3


@pytest.mark.usefixtures('float64')
def test_a_shorter_order_is_a_deletion_and_a_repeat_adds_the_branch_again(make_network):
    network, variables = make_network(placement='original', stage_blocks=(3, 3, 1))
    arch, run = network.arch, program(network)
    shorter = ordering.trained_order(arch)
    shorter[1] = [5, -1, -1]  # without the fifth block, whose index is 4: its shortcut is the identity
    deleted = network.apply(variables, images(), delete(network.intact_gates(), deletion(arch, [5])), train=False)
    np.testing.assert_allclose(run(variables, images(), shorter), deleted, rtol=1e-11)
    # Where its branch is 0 a block may be applied as often as one likes; elsewhere not.
    zero = jax.tree.map(lambda leaf: leaf, variables)
    for name in ('scale', 'bias'):
        leaf = zero['params']['stage2']['body']['bn2'][name]
        zero['params']['stage2']['body']['bn2'][name] = leaf.at[0].set(0)
    for number, same in ((4, True), (5, False)):
        twice, once = (run(zero, images(), each) for each in (ordering.repeated(arch, number), shorter * 0 - 1))
        once = run(zero, images(), ordering.trained_order(arch))
        assert (np.abs(twice - once).max() < 1e-12) == same


def test_a_sweep_compiles_one_program_for_all_orders(make_network, caplog):
    network, variables = make_network('float32', stage_blocks=(4, 3), widths=(4, 8))
    chunks, rng = list(parts(network, variables, (10, 10))), np.random.default_rng(0)
    orders = np.array([ordering.random_swaps(rng, network.arch, count)[0] for count in range(3)])
    told = []
    found = ordering.order_sweep(network, variables, chunks, orders, progress=lambda *what: told.append(what))
    assert found.shape == (3, 20) and told == [('reordering blocks', 6, 6)]
    for order, right in zip(orders, found, strict=True):
        expected = [np.argmax(program(network)(variables, x, order), axis=-1) == labels for x, labels in chunks]
        np.testing.assert_array_equal(right, np.concatenate(expected))
    more = np.array([ordering.random_swaps(rng, network.arch, 5)[0] for _ in range(100)])
    more[:5] = ordering.repeated(network.arch, 2)
    with jax.log_compiles():
        ordering.order_sweep(network, variables, chunks, more)
        assert 'Finished XLA compilation' not in caplog.text
