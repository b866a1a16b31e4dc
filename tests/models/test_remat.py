"""What the backward pass computes again is what was computed: only memory depends on `remat`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.gates import Gates
from resnet_jax.models.platform import compiler_options
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.suffix import block_inputs

AGAIN = ('block', 'stage')
SMALL = {'stage_blocks': (1, 4), 'stem_width': 4, 'widths': (4, 6), 'image_shape': (6, 5, 1), 'classes': 3}
NETWORKS = {
    'basic': {'placement': 'original', 'shortcut': 'B'},
    'bottleneck': {'block': 'bottleneck', 'mid_ratios': (0.5, 0.5), 'shortcut': 'B', 'norm_examples': 3},
    'kernels': {'share': 'kernels'},
    'draws': {'survival': 0.5, 'dropout': 0.3, 'head_dropout': 0.2},
    'shortcut dropout': {'shortcut': 'dropout', 'share': 'all'},
}  # fmt: skip


def trained(network, variables, key):
    """Gradients and new statistics under an intervention."""
    rng = np.random.default_rng(4)
    images = jnp.asarray(rng.normal(size=(6, *network.arch.image_shape)))
    gates = jnp.asarray(rng.uniform(0.5, 1, size=(2, network.arch.blocks)))

    def loss(params):
        lesion = Gates(*gates, *jnp.ones_like(gates))
        logits, updates = network.apply(
            {**variables, 'params': params}, images, lesion, train=True, mutable=['batch_stats'], rngs={'dropout': key}
        )
        return jnp.sum(jnp.sin(logits)), updates['batch_stats']

    return jax.grad(loss, has_aux=True)(variables['params'])


def far(one, other):
    """The largest difference of two trees, in the unit of each leaf's largest number."""
    both = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(np.abs(a - b).max() / max(1e-3, np.abs(b).max()) for a, b in both)


@pytest.mark.parametrize('scan_from', [1, 9], ids=['scanned', 'one by one'])
@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.usefixtures('float64')
def test_gradients_and_statistics_are_those_without_it(make_network, name, scan_from):
    network, variables = make_network('float64', **SMALL | NETWORKS[name])
    again = [ResNet(network.arch, scan_from, remat=remat) for remat in AGAIN]

    @jax.jit
    def found(key):
        return [trained(each, variables, key) for each in (ResNet(network.arch, scan_from), *again)]

    expected, *each = found(jax.random.key(1))
    gradient, statistics = expected
    assert [far(one, expected) < 1e-12 for one in each] == [True, True]
    assert np.abs(gradient['stage2']['entry']['conv1']['kernel']).max() > 1e-3
    assert far(statistics, variables['batch_stats']) > 1e-3
    if network.arch.draws:  # the negative control: what is drawn is felt, so that it is the same
        assert far(found(jax.random.key(2))[1], expected) > 1e-3


@pytest.mark.parametrize('remat', AGAIN)
@pytest.mark.parametrize('share', ['none', 'all'])
def test_variables_start_the_same(make_arch, remat, share):
    arch = make_arch(**SMALL, share=share)
    one, other = (
        jax.jit(ResNet(arch, remat=each).init_variables)(jax.random.key(0)) for each in ('none', remat)
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize('remat', AGAIN)
def test_evaluation_is_the_same_program(make_network, remat):
    """Also its gradient, and what analysis asks of every block; in training it is another."""
    network, variables = make_network('float32', **SMALL)
    images = jnp.zeros((2, *network.arch.image_shape))

    def programs(remat):
        own = ResNet(network.arch, remat=remat)

        def total(x, train):
            return jnp.sum(own.apply(variables, x, train=train, mutable=['batch_stats'])[0])

        gradients = [jax.grad(partial(total, train=train)) for train in (False, True)]
        asked = (partial(block_inputs, own, variables), *gradients)
        return [str(jax.make_jaxpr(each)(images)) for each in asked]

    *evaluated, training = programs(remat)
    *expected, without = programs('none')
    assert evaluated == expected
    assert training != without


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='of the CPU alone')
@pytest.mark.parametrize('remat', AGAIN)
def test_a_compiled_gradient_takes_less_memory(make_arch, remat):
    """On the CPU, where barriers stay; where XLA removes them it merges again what is computed twice."""
    # Stages that keep about as much.
    arch = make_arch(stage_blocks=(3, 3, 3), widths=(4, 16, 64), image_shape=(16, 16, 1), placement='original')

    def temporary(remat, options):
        network = ResNet(arch, scan_from=9, remat=remat)
        variables = jax.eval_shape(network.init_variables, jax.random.key(0))

        def loss(params, rest, images):
            logits, _ = network.apply({'params': params, **rest}, images, train=True, mutable=['batch_stats'])
            return jnp.mean(jnp.square(logits))

        images = jax.ShapeDtypeStruct((64, *arch.image_shape), jnp.float32)
        rest = {'batch_stats': variables['batch_stats']}
        program = jax.jit(jax.grad(loss), compiler_options=options).lower(variables['params'], rest, images).compile()
        analysis = program.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporary(remat, compiler_options()) < 0.75 * temporary('none', compiler_options())
    assert temporary(remat, {}) > 0.9 * temporary('none', {})  # the negative control
