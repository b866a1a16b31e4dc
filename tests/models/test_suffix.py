import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.gates import Gates
from resnet_jax.models.suffix import block_inputs, enter_body, enter_stage

NETWORKS = [
    {'placement': 'original', 'shortcut': 'A', 'stage_blocks': (3, 2, 2)},
    {'placement': 'full_preactivation', 'shortcut': 'B', 'stage_blocks': (2, 1, 4)},  # a stage without a body
    {'placement': 'original', 'shortcut': 'none', 'stage_blocks': (1, 3, 1)},
]
networks = pytest.mark.parametrize('fields', NETWORKS, ids=lambda f: f'{f["placement"]} {f["shortcut"]}')


def images(count):
    return jnp.asarray(np.random.default_rng(4).normal(size=(count, 8, 8, 1)))


@functools.cache
def programs(network):
    """The whole network, and its suffixes by stage."""
    apply = jax.jit(functools.partial(network.apply, train=False))
    entries = [jax.jit(functools.partial(_entry, network, stage)) for stage in range(3)]
    bodies = [jax.jit(functools.partial(_body, network, stage)) for stage in range(3)]
    return apply, entries, bodies


def _entry(network, stage, variables, x, gates):
    return enter_stage(network, variables, stage, x, gates)


def _body(network, stage, variables, x, start, gates):
    return enter_body(network, variables, stage, x, start, gates)


def random_gates(arch, start, *examples):
    """Intact before block `start`, anything from there on."""
    shape = (arch.blocks, *examples)
    gates = np.random.default_rng(start).uniform(size=(2, *shape))
    gates[0, :start], gates[1, :start] = 0 if arch.shortcut == 'none' else 1, 1
    return Gates(*map(jnp.asarray, gates), jnp.ones(shape), jnp.ones(shape))


@pytest.mark.parametrize(('fields', 'examples'), [(NETWORKS[1], (3,))], ids=['each example its own gates'])
@pytest.mark.usefixtures('float64')
def test_entering_at_any_block_gives_the_whole_networks_logits(make_network, fields, examples):
    network, variables = make_network(**fields)
    arch, x = network.arch, images(3)
    apply, entries, bodies = programs(network)
    logits, inputs = jax.jit(functools.partial(block_inputs, network))(variables, x)
    np.testing.assert_allclose(logits, apply(variables, x), rtol=1e-12)
    for start in range(arch.blocks):
        gates = random_gates(arch, start, *examples)
        stage = max(number for number, first in enumerate(arch.entry_blocks) if first <= start)
        position = start - arch.entry_blocks[stage]
        if position == 0:
            entered = entries[stage](variables, inputs[stage]['entry'], gates)
        else:
            entered = bodies[stage](variables, inputs[stage]['body'][position - 1], start, gates)
        np.testing.assert_allclose(entered, apply(variables, x, gates), rtol=1e-12)
        assert np.abs(entered - logits).max() > 1e-3


# What a block takes from its position, its stage, or the other blocks.
KINDS = {
    'kernels shared': {'share': 'kernels', 'shortcut': 'C'},
    'parameters shared, rezero, stochastic depth': {'share': 'parameters', 'gain': 'rezero', 'survival': 0.3},
    'all shared, gated, concatenated': {
        'share': 'all', 'placement': 'full_preactivation', 'shortcut': 'exclusive_gating', 'join': 'concatenate',
        'head_widths': (5,), 'pool': 'both',
    },
    'nf': {
        'gain': 'nf', 'nf_alpha': 0.8, 'norm': 'none', 'conv': 'scaled_standardized', 'shortcut': 'B',
        'placement': 'full_preactivation',
    },
    'inception-resnet': {'block': 'inception_resnet', 'shortcut': 'B'},
    'plain, half resolution, group normalisation': {
        'shortcut': 'none', 'block': 'half_resolution', 'norm': 'group', 'norm_groups': 2,
    },
}  # fmt: skip


@pytest.mark.parametrize('fields', KINDS.values(), ids=KINDS)
@pytest.mark.usefixtures('float64')
def test_a_suffix_knows_of_every_block_what_it_needs(make_network, fields):
    network, variables = make_network(**{'placement': 'original', 'stage_blocks': (1, 4), 'widths': (4, 8)} | fields)
    x, (early, late) = images(3), (random_gates(network.arch, start) for start in (1, 3))

    @jax.jit
    def entered_and_whole(variables, x, early, late, start):
        logits, inputs = block_inputs(network, variables, x)
        entered = (
            enter_stage(network, variables, 1, inputs[1]['entry'], early),
            enter_body(network, variables, 1, inputs[1]['body'][1], start, late),
        )
        return entered, [network.apply(variables, x, gates, train=False) for gates in (early, late)], logits

    entered, whole, logits = entered_and_whole(variables, x, early, late, 3)
    for one, other in zip(entered, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
        assert np.abs(one - logits).max() > 1e-3


@networks
@pytest.mark.usefixtures('float64')
def test_block_inputs_are_what_the_blocks_are_given(make_network, reference, fields):
    network, variables = make_network(**fields)
    x = images(2)
    _, inputs = jax.jit(functools.partial(block_inputs, network))(variables, x)
    second, seen = reference(network.arch, variables), []
    block = second.block
    second.block = lambda x, *rest: (seen.append(x), block(x, *rest))[1]
    second(x)
    for stage, blocks in enumerate(network.arch.stage_blocks):
        first = network.arch.entry_blocks[stage]
        assert set(inputs[stage]) == ({'entry', 'body'} if blocks > 1 else {'entry'})
        np.testing.assert_allclose(inputs[stage]['entry'], seen[first], rtol=1e-11, atol=1e-13)
        if blocks > 1:
            assert inputs[stage]['body'].shape == (blocks - 1, *seen[first + 1].shape)
            np.testing.assert_allclose(inputs[stage]['body'], seen[first + 1 : first + blocks], rtol=1e-11, atol=1e-13)


def test_one_program_serves_every_block_of_a_body(tiny):
    network, variables = tiny
    traced = []

    @jax.jit
    def enter(x, start):
        traced.append(start)
        return enter_body(network, variables, 2, x, start, network.intact_gates())

    x = jnp.ones((2, 2, 2, 16), jnp.float32)
    assert np.abs(enter(x, 7) - enter(x, 8)).max() > 1e-3
    assert len(traced) == 1
