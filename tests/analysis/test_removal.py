"""Blocks taken away one after the other."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import removal
from resnet_jax.analysis.lesion import deletable, delete
from tests.analysis.test_depth import scaled

PLAIN = {'placement': 'original', 'shortcut': 'none', 'stage_blocks': (2, 3, 2)}


@partial(jax.jit, static_argnames='network')
def logits(network, variables, x, gates=None):
    return network.apply(variables, x, gates, train=False)


def parts(network, variables, sizes):
    """Images with the labels that the intact network gives them."""
    rng = np.random.default_rng(6)
    for size in sizes:
        x = jnp.asarray(rng.normal(size=(size, 8, 8, 1)), jnp.float32)
        yield x, jnp.argmax(logits(network, variables, x), axis=-1).astype(jnp.int32)


@pytest.mark.parametrize(('fields', 'removed'), [({}, [4, 6]), (PLAIN, [1])], ids=str)
def test_costs_are_those_of_whole_networks_without_these_blocks(make_network, fields, removed):
    network, variables = make_network('float32', **fields)
    chunks, gone = list(parts(network, variables, (30, 30))), np.isin(np.arange(network.arch.blocks), removed)
    found = removal.costs(network, variables, chunks, gone)
    candidates = deletable(network.arch) & ~gone
    assert np.isinf(found[~candidates]).all()
    for block in np.flatnonzero(candidates):
        gates = delete(network.intact_gates(), gone | (np.arange(len(gone)) == block))
        whole = np.concatenate([logits(network, variables, x, gates) for x, _ in chunks])
        labels = np.concatenate([labels for _, labels in chunks])
        losses = -np.asarray(jax.nn.log_softmax(whole))[np.arange(60), labels]
        np.testing.assert_allclose(found[block], [100 * (whole.argmax(1) != labels).mean(), losses.mean()], rtol=1e-5)


@pytest.mark.parametrize('zeroed', [[1, 5, 7], [0, 2, 8]])
def test_blocks_that_do_nothing_are_removed_first(tiny, zeroed):
    """Shortcut A of a stage's first block passes too: without its branch, that block costs nothing either."""
    network, variables = tiny
    others, told = [block for block in range(9) if block not in zeroed], []
    variables = scaled(scaled(variables, zeroed, 0.0), others, 3.0)  # none of these goes unnoticed
    order, _ = removal.greedy(
        network, variables, parts(network, variables, (30,)), progress=lambda *what: told.append(what)
    )
    assert sorted(order[:3]) == zeroed and sorted(order) == list(range(9))
    assert told == [('removing blocks', step, 9) for step in range(1, 10)]


def test_greedy_takes_at_each_step_what_then_costs_least(tiny):
    network, variables = tiny
    chunks = list(parts(network, variables, (30,)))
    (order, found), removed = removal.greedy(network, variables, chunks), np.zeros(9, bool)
    for block, its in zip(order, found, strict=True):
        left = removal.costs(network, variables, chunks, removed)
        assert tuple(its) == tuple(left[block]) == min(map(tuple, left))
        removed[block] = True


def test_a_network_without_shortcuts_keeps_what_cannot_be_deleted(make_network):
    network, variables = make_network('float32', **PLAIN)
    order, _ = removal.greedy(network, variables, parts(network, variables, (30,)))
    np.testing.assert_array_equal(sorted(order), np.flatnonzero(deletable(network.arch)))


def test_a_sequence_of_removals_compiles_once(tiny, caplog):
    network, variables = tiny
    chunks = list(parts(network, variables, (30,)))
    removal.costs(network, variables, chunks, np.zeros(9, bool))
    with jax.log_compiles():
        removal.greedy(network, scaled(variables, [1], 3.0), chunks)
        compiled = r'compilation of jit\((_cost|_inputs)\)'
        assert not re.search(compiled, caplog.text)
        all_but_one = np.arange(9) > 0
        removal.costs(network, variables, [(x[:2], labels[:2]) for x, labels in chunks], all_but_one)
        assert re.search(compiled, caplog.text)  # the negative control: another batch is another program


def test_the_cheapest_has_fewest_errors_then_least_loss_and_what_cannot_be_deleted_is_left_out():
    left = np.array([[2.0, 0.1], [1.0, 0.9], [np.inf, np.inf], [1.0, 0.8], [0.0, 5.0]])
    np.testing.assert_array_equal(removal.cheapest(left), [4, 3, 1, 0])


def test_the_smallest_are_those_that_add_least(make_arch):
    sizes = np.array([0.3, 0.1, 0.2, 0.2, 0.0, 0.5, 0.4])
    np.testing.assert_array_equal(removal.smallest(make_arch(stage_blocks=(2, 3, 2)), sizes), [4, 1, 2, 3, 0, 6, 5])
    np.testing.assert_array_equal(removal.smallest(make_arch(**PLAIN), sizes), [4, 1, 3, 0, 6])  # not 2 and 5


def test_a_cut_leaves_the_first_blocks_of_each_stage(make_arch):
    lesions = removal.cuts(make_arch(stage_blocks=(1, 3, 2)))
    np.testing.assert_array_equal(
        ~lesions, np.array([[1, 1, 0, 0, 1, 0], [1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1]], bool)
    )
