import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.blocks import Position
from resnet_jax.models.gates import Gates, gate, join
from resnet_jax.models.resnet import one_block

INFINITY, NAN = np.inf, np.nan


def array(*values, dtype='float32'):
    return jnp.asarray(values, dtype)


# One gate


def test_a_gate_of_0_gives_exactly_0_forwards_whatever_stands_there():
    x = array(INFINITY, -INFINITY, NAN, -3, 0)
    np.testing.assert_array_equal(gate(x, array(0)[0], array(1)[0]), np.zeros(5))
    per_example = gate(x, array(0, 1, 0, 1, 0), jnp.ones(5, jnp.float32))
    np.testing.assert_array_equal(per_example, [0, -INFINITY, 0, -3, 0])


@pytest.mark.parametrize(('forward', 'backward'), [(0, 1), (1, 0), (0, 0)])
def test_a_gate_of_0_gives_exactly_0_backwards_whatever_comes(forward, backward):
    x = array(INFINITY, NAN, 1, 2, 3)
    _, vjp = jax.vjp(lambda x: gate(x, array(forward)[0], array(backward)[0]), x)
    np.testing.assert_array_equal(vjp(array(1, 1, INFINITY, NAN, -3))[0], np.zeros(5))


def test_a_factor_of_0_alone_would_give_nan():
    """The negative control of the two tests above."""
    assert np.isnan(0 * array(INFINITY, NAN)).all()


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float32', 'float64'])
@pytest.mark.parametrize('gates', ['float32', 'float64'])
def test_the_dtype_is_that_of_the_gated_value(dtype, gates):
    x = array(1, 2, 3, dtype=dtype)
    y, vjp = jax.vjp(lambda x: gate(x, array(0.5, 1, 0, dtype=gates), array(1, 0.5, 1, dtype=gates)), x)
    (dx,) = vjp(y)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(y.astype(jnp.float32), [0.5, 2, 0])
    np.testing.assert_array_equal(dx.astype(jnp.float32), [0.25, 1, 0])


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_a_backward_gate_leaves_the_value_to_the_bit(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 100)), dtype).at[0, 0].set(-0.0).at[0, 1].set(INFINITY)
    for backward in (0, 0.3, 7):
        y = jax.jit(gate)(x, array(1)[0], array(backward)[0])
        np.testing.assert_array_equal(bits(y), bits(x))
    assert (bits(jax.jit(gate)(x, array(0.3)[0], array(1)[0])) != bits(x)).any()


def bits(x):
    return np.asarray(x).view(np.uint16 if x.dtype.itemsize == 2 else np.uint32)


def test_the_cotangent_is_scaled_by_both_gates():
    forward, backward = array(2, 3, 0.5), array(5, 0.25, 1)
    _, vjp = jax.vjp(lambda x: gate(x, forward, backward), jnp.ones((3, 2), jnp.float32))
    np.testing.assert_array_equal(vjp(jnp.ones((3, 2), jnp.float32))[0], [[10, 10], [0.75, 0.75], [0.5, 0.5]])


@pytest.mark.parametrize('value', [0.0, 0.5, 1.0])
def test_the_derivative_by_the_forward_gate_is_the_true_one_also_at_0(value):
    x = array(1, 2, -5).reshape(3, 1)
    g = array(10, 20, 30).reshape(3, 1)
    one = jax.grad(lambda s: jnp.sum(g * gate(x, s, array(0.3)[0])))(array(value)[0])
    assert one == 10 + 40 - 150
    each = jax.grad(lambda s: jnp.sum(g * gate(x, s, array(0.3)[0])))(array(value, value, value))
    np.testing.assert_array_equal(each, [10, 40, -150])


def test_the_derivative_by_the_backward_gate_is_0():
    derivative = jax.grad(lambda b: jnp.sum(gate(array(1, 2), array(1)[0], b)))(array(0.3)[0])
    assert derivative == 0


@pytest.mark.usefixtures('float64')
def test_forward_mode_gives_the_transpose_of_reverse_mode():
    rng = np.random.default_rng(0)
    x, forward, dx, dforward, g = (
        jnp.asarray(rng.normal(size=shape)) for shape in ((3, 4), (3,), (3, 4), (3,), (3, 4))
    )
    backward = jnp.asarray(rng.normal(size=3))

    def gated(x, forward):
        return gate(x, forward, backward)

    value, tangent = jax.jvp(gated, (x, forward), (dx, dforward))
    np.testing.assert_allclose(value, forward[:, None] * x, rtol=1e-15)
    by_hand = (forward * backward)[:, None] * dx + dforward[:, None] * x
    np.testing.assert_allclose(tangent, by_hand, rtol=1e-14)
    back_x, back_forward = jax.vjp(gated, x, forward)[1](g)
    np.testing.assert_allclose(jnp.vdot(g, tangent), jnp.vdot(back_x, dx) + jnp.vdot(back_forward, dforward))


def test_a_gate_an_example_goes_along_the_first_axis():
    x = jnp.ones((2, 3, 3, 2), jnp.float32)
    y = gate(x, array(2, 3), array(1)[0])
    assert (y[0] == 2).all() and (y[1] == 3).all()


# Where the branches meet


def test_a_blocks_sum_weighs_each_branch_by_its_gate():
    shortcut, residual = array(1, 10), array(100, 1000)
    gates = Gates(array(0.5)[0], array(2)[0], array(3)[0], array(5)[0])
    y, vjp = jax.vjp(lambda s, r: join(s, r, gates), shortcut, residual)
    np.testing.assert_array_equal(y, [200.5, 2005])
    np.testing.assert_array_equal(vjp(array(1, 1)), [[1.5, 1.5], [10, 10]])
    np.testing.assert_array_equal(join(None, residual, gates), [200, 2000])
    np.testing.assert_array_equal(join(shortcut, residual, None), [101, 1010])
    assert join(None, residual, None) is residual


# Gates of a whole network

ARCHITECTURES = [
    {'placement': 'original', 'shortcut': 'A'},
    {'placement': 'full_preactivation', 'shortcut': 'A'},
    {'placement': 'full_preactivation', 'shortcut': 'B'},
    {'placement': 'original', 'shortcut': 'none'},
]


def images(count, dtype='float64'):
    return jnp.asarray(np.random.default_rng(2).normal(size=(count, 8, 8, 1)), dtype)


@pytest.mark.parametrize('fields', ARCHITECTURES, ids=lambda fields: ' '.join(fields.values()))
def test_without_gates_none_are_compiled(make_network, fields):
    network, variables = make_network('float32', **fields)
    x = images(2, 'float32')

    def text(gates):
        program = jax.jit(lambda variables, x, gates: network.apply(variables, x, gates, train=False))
        return program.lower(variables, x, gates).as_text()

    without, intact = text(None), text(network.intact_gates())
    leaves = len(jax.tree.leaves(variables)) + 1
    assert len(parameters(without)) == leaves and len(parameters(intact)) > leaves
    # A gate chooses between a value and 0, for whole images.
    assert selects(without) == 0 < selects(intact)


def parameters(text):
    return re.findall(r'%arg\d+: tensor', re.findall(r'func.func public @main\((.*?)\) ->', text)[0])


def selects(text):
    return len(re.findall(r'stablehlo\.select.*tensor<2x\d+x\d+x\d+xf32>', text))


@pytest.mark.parametrize('fields', ARCHITECTURES[1::2], ids=['preact A', 'plain'])
@pytest.mark.usefixtures('float64')
def test_intact_gates_change_nothing_and_gates_an_example_are_one_lesion_at_a_time(make_network, fields):
    network, variables = make_network(**fields)
    blocks, count = network.arch.blocks, 4
    x = images(count)
    rng = np.random.default_rng(3)
    # Deleted, intact and in between; the last example is intact.
    forward = np.where(rng.random((2, blocks, count)) < 0.5, rng.integers(0, 2, (2, blocks, count)), 0.5)
    intact = jax.tree.map(np.asarray, network.intact_gates())
    forward[:, :, -1] = intact[:2]
    gates = Gates(*map(jnp.asarray, forward), *jnp.ones((2, blocks, count)))

    @jax.jit
    def logits(variables, x, gates):
        return network.apply(variables, x, gates, train=False)

    together = logits(variables, x, gates)
    for example in range(count):
        alone = logits(variables, x, jax.tree.map(lambda gate, example=example: gate[:, example], gates))
        np.testing.assert_allclose(together[example], alone[example], rtol=1e-12)
    plain = jax.jit(lambda variables, x: network.apply(variables, x, train=False))(variables, x)
    np.testing.assert_allclose(together[-1], plain[-1], rtol=1e-12)
    assert np.abs(together[:-1] - plain[:-1]).max() > 1e-3  # the others have changed


def test_gates_an_example_are_refused_in_training_where_bn_would_mix_them(tiny):
    network, variables = tiny
    x = images(2, 'float32')
    gates = jax.tree.map(lambda gate: jnp.stack([gate, gate], axis=-1), network.intact_gates())
    with pytest.raises(ValueError, match=r'in training BN would mix them: use gates of shape \(blocks,\)'):
        network.apply(variables, x, gates, train=True, mutable=['batch_stats'])


@pytest.mark.parametrize(
    'fields',
    [{'placement': 'full_preactivation', 'shortcut': 'A'}, {'placement': 'original', 'shortcut': 'B'}],
    ids=['preact A', 'basic B'],
)
@pytest.mark.usefixtures('float64')
def test_the_gradients_of_all_paths_sum_to_the_gradient(make_network, fields):
    """Each block sends the gradient through its residual branch or beside it: 2^n paths, and no others."""
    network, variables = make_network(stage_blocks=(2, 2, 1), stem_width=3, widths=(3, 4, 5), **fields)
    blocks, x = network.arch.blocks, images(1)
    through = np.array(list(itertools.product((0.0, 1.0), repeat=blocks)))

    @jax.jit
    def gradient(shortcut_grad, residual_grad):
        gates = network.intact_gates()._replace(shortcut_grad=shortcut_grad, residual_grad=residual_grad)
        weights = jnp.arange(10.0)
        return jax.value_and_grad(lambda x: network.apply(variables, x, gates, train=False)[0] @ weights)(x)

    value, full = gradient(jnp.ones(blocks), jnp.ones(blocks))
    of_paths = [gradient(jnp.asarray(1 - path), jnp.asarray(path)) for path in through]
    assert {float(each) for each, _ in of_paths} == {float(value)}  # to the bit
    gradients = np.stack([each for _, each in of_paths])
    assert len({each.tobytes() for each in gradients}) == 2**blocks == 32  # no two paths are the same
    np.testing.assert_allclose(gradients.sum(axis=0), full, rtol=1e-11, atol=1e-12 * np.abs(full).max())
    nothing = gradient(jnp.zeros(blocks), jnp.zeros(blocks))[1]
    np.testing.assert_array_equal(nothing, np.zeros_like(full))


def test_a_deleted_block_may_hold_anything(make_network):
    """Its NaN does not reach the logits: deleted means absent."""
    network, variables = make_network('float32')
    broken: Any = jax.tree.map(lambda leaf: leaf, variables)
    kernel = broken['params']['stage2']['body']['conv1']['kernel']
    broken['params']['stage2']['body']['conv1']['kernel'] = kernel.at[1].set(NAN)  # the sixth of nine blocks
    gates = network.intact_gates()
    gates = gates._replace(residual=gates.residual.at[5].set(0))
    apply = jax.jit(lambda variables, gates: network.apply(variables, images(2, 'float32'), gates, train=False))
    np.testing.assert_array_equal(apply(broken, gates), apply(variables, gates))
    assert np.isnan(apply(broken, network.intact_gates())).all()


# Every kind of block, each with what stands beside its residual branch.
KINDS = {
    'basic, B': {'shortcut': 'B'},
    'pre-activated, A': {'placement': 'full_preactivation', 'shortcut': 'A'},
    'bn after addition': {'placement': 'bn_after_addition', 'shortcut': 'C'},
    'bottleneck, squeeze-excite': {'block': 'bottleneck', 'mid_ratios': (0.5, 0.5), 'squeeze_excite': 2},
    'shortcut gating': {'shortcut': 'shortcut_gating'},
    'exclusive gating': {'shortcut': 'exclusive_gating'},
    'concatenated': {'join': 'concatenate', 'shortcut': 'B'},
    'downsampling, stochastic depth': {'block': 'downsampling', 'shortcut': 'identity', 'survival': 0.5},
    'half resolution': {'block': 'half_resolution', 'subsample': 'average'},
    'linear projection': {'block': 'linear_projection', 'shortcut': 'conv'},
    'inception': {'block': 'inception'},
    'inception-resnet': {'block': 'inception_resnet_a', 'residual_scale': 0.2},
    'fixup': {'gain': 'fixup', 'norm': 'none'},
}
BESIDE = {'conv_proj', 'bn_proj', 'conv_ds', 'conv_gate', 'conv_join', 'bn_join', 'bn_out'}


@pytest.mark.parametrize('fields', KINDS.values(), ids=KINDS)
@pytest.mark.usefixtures('float64')
def test_a_block_with_a_gate_of_0_is_what_stands_beside_its_branch(make_network, reference, fields):
    """Of a branch of NaN nothing is left, to the bit, and of its gradients neither."""
    fields = {'placement': 'original', 'shortcut': 'A', 'stage_blocks': (1, 1), 'widths': (4, 8)} | fields
    network, variables = make_network(**fields)
    arch = network.arch
    own = {kind: tree['stage2']['entry'] for kind, tree in variables.items() if 'stage2' in tree}
    broken = {
        kind: {name: leaf if name in BESIDE else jax.tree.map(lambda x: x * NAN, leaf) for name, leaf in tree.items()}
        for kind, tree in own.items()
    }
    assert broken['params'].keys() - BESIDE
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5, 6, 4)))
    # Absent, and half of it, for one example each.
    gates = network.intact_gates().of(1)._replace(residual=jnp.asarray([0, 0.5, 1]))

    @jax.jit
    def block(variables, x, gates):
        return one_block(arch, 1, entry=True).apply(variables, x, gates, Position(1, 0), train=False)

    whole, alone = block(own, x, gates), block(broken, x, gates)
    np.testing.assert_array_equal(alone[0], whole[0])
    assert np.isnan(alone[1:]).any(axis=(1, 2, 3)).all()
    second = reference(arch, variables)
    second.where = ('stage2', 'entry', -1)
    ones = np.ones(3)
    np.testing.assert_allclose(
        whole, second.block(np.asarray(x), 1, 0, ones, np.asarray(gates.residual)), rtol=1e-10, atol=1e-12
    )
    assert np.abs(whole[0] - block(own, x, gates._replace(residual=jnp.ones(3)))[0]).max() > 1e-3
