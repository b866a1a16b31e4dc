import re

import jax
import numpy as np
import pytest

from resnet_jax import memory
from resnet_jax.analysis import lesion
from resnet_jax.analysis.sweep import _groups, sweep
from tests.analysis.chunks import one_by_one, parts

SMALL = {'stage_blocks': (2, 3), 'widths': (4, 8)}
PLAIN = {'placement': 'original', 'shortcut': 'none', 'stage_blocks': (2, 3, 2)}


@pytest.mark.parametrize(
    ('fields', 'sizes'),
    [({'shortcut': 'B'} | SMALL, (7, 7)), (PLAIN | {'stage_blocks': (1, 3, 1)}, (7, 4))],
    ids=['preact', 'plain, and a last part that is smaller'],
)
def test_a_sweep_finds_what_the_whole_network_finds_lesion_by_lesion(make_network, fields, sizes):
    network, variables = make_network('float32', **fields)
    arch = network.arch
    several = lesion.random_deletions(np.random.default_rng(0), lesion.deletable(arch), 3, 4)
    none = np.zeros((1, arch.blocks), bool)
    lesions = np.concatenate([lesion.single_deletions(arch), several, lesion.pair_deletions(arch), none])
    chunks = list(parts(network, variables, sizes))
    told = []
    intact, right = sweep(network, variables, iter(chunks), lesions, progress=lambda *what: told.append(what))
    np.testing.assert_array_equal(right, one_by_one(network, variables, chunks, lesions))
    np.testing.assert_array_equal(right[-1], intact)
    assert 0 < intact.sum() < len(intact) and (right[:-1] != intact).any()
    total = len(lesions) * len(chunks)
    assert [done for _, done, _ in told] == [*range(16, total, 16), total]
    assert {of for _, _, of in told} == {total}


def test_a_sweep_of_no_lesion_is_the_intact_network(tiny):
    network, variables = tiny
    chunks = list(parts(network, variables, (7,)))
    intact, right = sweep(network, variables, chunks, np.zeros((0, network.arch.blocks), bool))
    assert right.shape == (0, 7)
    np.testing.assert_array_equal(
        intact, one_by_one(network, variables, chunks, [lesion.deletion(network.arch, [])])[0]
    )


def test_a_hundred_lesions_compile_nothing_that_one_of_each_stage_has_not(tiny, caplog):
    network, variables = tiny
    arch, rng = network.arch, np.random.default_rng(0)
    chunks = list(parts(network, variables, (7,)))
    sweep(network, variables, chunks, lesion.single_deletions(arch)[[0, 1, 3, 4, 6, 7]])
    different = rng.choice(2**arch.blocks, 100, replace=False)
    lesions = np.concatenate([(different[:, None] >> np.arange(arch.blocks)) % 2 == 1, lesion.pair_deletions(arch)])
    with jax.log_compiles():
        sweep(network, variables, chunks, lesions)
        assert compiled(caplog) == []
        sweep(network, variables, [(x[:2], labels[:2]) for x, labels in chunks], lesions[:1])
        assert '_lesioned' in compiled(caplog)  # the negative control: another batch is another program


def compiled(caplog):
    return re.findall(r'Finished XLA compilation of jit\((\w+)\)', caplog.text)


def test_all_pairs_compute_less_than_half_of_the_blocks_of_whole_networks(make_arch):
    """Of 54 blocks: a third, and a network for each first block. Single deletions: half."""
    arch = make_arch(stage_blocks=(18, 18, 18))

    def blocks(lesions):
        groups = _groups(arch, lesions)
        assert sorted(number for _, members in groups for number, _ in members) == list(range(len(lesions)))
        return sum(arch.blocks + sum(arch.blocks - start for _, start in members) for _, members in groups)

    singles, pairs = lesion.single_deletions(arch), lesion.pair_deletions(arch)
    assert blocks(singles) == 54 + 54 * 55 / 2 < 54 * 54 / 1.8
    assert blocks(pairs) < 54 * len(pairs) / 2.5
    random = lesion.random_deletions(np.random.default_rng(0), np.ones(54, bool), 10, 50)
    assert blocks(random) == 54 + (54 - random.argmax(axis=1)).sum()  # nothing to share: entered at the first deleted


def test_a_chunk_whose_inputs_do_not_fit_the_memory_is_split(make_network, monkeypatch):
    network, variables = make_network('float32', **SMALL)
    chunks, lesions = list(parts(network, variables, (7,))), lesion.single_deletions(network.arch)
    whole, told = sweep(network, variables, chunks, lesions), []
    kept = 4 * (2 * 8 * 8 * 4 + 8 * 8 * 4 + 2 * 4 * 4 * 8)  # bytes of an example: what five blocks are given
    for room, pieces in ((7 * kept, 1), (7 * kept - 1, 2), (1, 7)):
        monkeypatch.setattr(memory, 'room', lambda room=room: room)
        told.clear()
        split = sweep(network, variables, chunks, lesions, progress=lambda *what: told.append(what))
        assert told[-1][2] == pieces * len(lesions)
        for ours, theirs in zip(split, whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
