"""Every setting of a network against the second implementation, in float64: evaluation, training, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models import validity
from resnet_jax.models.gates import Gates
from tests.models.reference import at

# A block that keeps the shape and one with strides, on images of odd sizes; LONG: bodies too.
SMALL = {'stage_blocks': (1, 1), 'stem_width': 4, 'widths': (4, 8), 'image_shape': (7, 6, 2), 'classes': 3}
LONG = {'stage_blocks': (1, 3)}
FULL = {'placement': 'full_preactivation'}
ORIGINAL = {'placement': 'original'}
RELU_ONLY = {'placement': 'relu_only_preactivation'}
BN_AFTER = {'placement': 'bn_after_addition'}
RELU_BEFORE = {'placement': 'relu_before_addition'}
BOTTLENECK = {'block': 'bottleneck', 'mid_ratios': (0.5, 0.5), 'strided_conv': 2, 'widths': (8, 16), 'shortcut': 'B'}
NO_NORM = {'norm': 'none'}
NF = {**FULL, **NO_NORM, 'conv': 'scaled_standardized', 'gain': 'nf', 'shortcut': 'B', 'stem_width': 3}
FIXUP = {**ORIGINAL, **NO_NORM, 'gain': 'fixup'}

# Each is one network; settings that meet in no formula stand together.
SETTINGS = {
    'bn after addition': {**LONG, **BN_AFTER, 'shortcut': 'B', 'pool': 'max'},
    'relu before addition': {
        **LONG, **RELU_BEFORE, 'shortcut': 'A', 'subsample': 'average', 'stem': 'imagenet', 'image_shape': (15, 18, 3),
    },
    'relu-only pre-activation': {
        **LONG, **RELU_ONLY, 'shortcut': 'C', 'stem': 'deep', 'stem_strides': (1, 2, 1, 1, 2, 1, 1),
        'image_shape': (13, 15, 1),
    },
    'bottleneck v1': {**ORIGINAL, **BOTTLENECK, 'strided_conv': 1, 'subsample': 'average'},
    'bottleneck v1.5': {**ORIGINAL, **BOTTLENECK, 'groups': 4, 'squeeze_excite': 4},
    'bottleneck, pre-activated': {**LONG, **FULL, **BOTTLENECK, 'groups': 2, 'squeeze_excite': 16},
    'one convolution, vgg': {
        **ORIGINAL, 'mid_ratios': (), 'shortcut': 'none', 'downsample': 'max_pool', 'image_shape': (9, 10, 2),
        'pool': 'flatten', 'head_widths': (5, 4),
    },
    'one convolution, pre-activated': {
        **FULL, 'mid_ratios': (), 'shortcut': 'B', 'downsample': 'max_pool', 'stem': 'three',
        'image_shape': (18, 17, 3),
    },
    'conv shortcut, scales': {
        **ORIGINAL, 'shortcut': 'conv', 'shortcut_scale': 0.5, 'residual_scale': 0.2, 'pool': 'both',
    },
    'exclusive gating': {**LONG, **ORIGINAL, 'shortcut': 'exclusive_gating', 'gate_bias': -1.0},
    'shortcut gating, skipinit': {
        **LONG, **FULL, **NO_NORM, 'gain': 'skipinit', 'shortcut': 'shortcut_gating', 'subsample': 'average',
        'zero_channels': 'behind',
    },
    'concatenated': {**ORIGINAL, 'join': 'concatenate', 'shortcut': 'B', 'shortcut_scale': 0.5},
    'concatenated, three convolutions': {
        **FULL, 'join': 'concatenate', 'mid_ratios': (0.5, 0.25), 'strided_conv': 3, 'shortcut': 'A',
        'residual_scale': 0.5,
    },
    'downsampling': {**ORIGINAL, 'block': 'downsampling', 'shortcut': 'identity'},
    'downsampling, pre-activated': {**LONG, **FULL, 'block': 'downsampling', 'shortcut': 'identity', 'stem_width': 3},
    'half resolution': {**ORIGINAL, 'block': 'half_resolution', 'shortcut': 'A'},
    'half resolution, pre-activated': {**FULL, 'block': 'half_resolution', 'shortcut': 'B', 'image_shape': (8, 5, 2)},
    'linear projection between': {**LONG, **FULL, 'block': 'linear_projection', 'dense': 'between', 'shortcut': 'B'},
    'linear projection, concatenated': {
        **RELU_BEFORE, 'block': 'linear_projection', 'dense_join': 'concatenate', 'shortcut': 'A',
    },
    'linear projection between, concatenated': {
        **BN_AFTER, 'block': 'linear_projection', 'dense': 'between', 'dense_join': 'concatenate', 'shortcut': 'A',
    },
    'inception': {**ORIGINAL, 'block': 'inception', 'shortcut': 'B', 'widths': (8, 17)},
    'inception, pre-activated': {**FULL, 'block': 'inception', 'shortcut': 'A', 'widths': (4, 16)},
    'inception-resnet a, b, c': {
        **ORIGINAL, 'block': 'inception_resnet', 'stage_blocks': (2, 1, 2), 'widths': (16, 16, 24), 'shortcut': 'B',
        'residual_scale': 0.2,
    },
    'inception-resnet b': {**FULL, 'block': 'inception_resnet_b', 'shortcut': 'B'},
    'kernels shared': {**LONG, **ORIGINAL, 'share': 'kernels', 'shortcut': 'C'},
    'kernels shared, of dense layers too': {
        **LONG, **FULL, 'share': 'kernels', 'block': 'linear_projection', 'squeeze_excite': 2,
    },
    'parameters shared, rezero': {**LONG, **FULL, 'share': 'parameters', 'gain': 'rezero', 'shortcut': 'A'},
    'all shared': {**LONG, **ORIGINAL, 'share': 'all', 'shortcut': 'B'},
    'batches of three': {**LONG, **ORIGINAL, 'norm_examples': 3, 'norm_momentum': 0.7, 'norm_epsilon': 0.01},
    'group normalisation': {**LONG, **FULL, 'norm': 'group', 'norm_groups': 2, 'conv': 'standardized', 'shortcut': 'C'},
    'no normalisation': {
        **LONG, **ORIGINAL, **NO_NORM, 'shortcut': 'B', 'conv': 'scaled_standardized', 'share': 'kernels',
    },
    'fixup': {**LONG, **FIXUP, 'shortcut': 'B'},
    'fixup bottleneck': {**FIXUP, **BOTTLENECK, 'shortcut': 'A', 'stem': 'imagenet', 'image_shape': (13, 12, 2)},
    'nf': {**NF, 'stage_blocks': (2, 3), 'nf_alpha': 0.7},
}  # fmt: skip

# Drawn anew in training, which test_layers.py is about.
STOCHASTIC = {
    'dropout': {**ORIGINAL, 'shortcut': 'dropout', 'dropout': 0.3, 'head_dropout': 0.5, 'head_widths': (4,)},
    'stochastic depth': {**FULL, 'shortcut': 'B', 'survival': 0.4, 'stage_blocks': (2, 3, 1), 'widths': (4, 4, 4)},
}

settings = pytest.mark.parametrize('fields', SETTINGS.values(), ids=SETTINGS)


def images(arch, count=6):
    return np.random.default_rng(4).normal(size=(count, *arch.image_shape))


def random_gates(arch, count):
    return np.random.default_rng(5).uniform(size=(2, arch.blocks, count))


def small(make_network, fields):
    """A network of these settings, its variables, images, and gates an example."""
    network, variables = make_network(**SMALL | fields)
    validity.check(network.arch)
    x = images(network.arch)
    return network, variables, x, random_gates(network.arch, len(x))


def gated(network, variables, x, gates):
    """The logits in evaluation, with gates of the forward pass alone."""
    return network.apply(variables, x, Gates(*gates, *jnp.ones_like(gates)), train=False)


@settings
@pytest.mark.usefixtures('float64')
def test_every_setting_is_that_of_the_second_implementation(make_network, reference, fields):
    """Evaluation with gates, every example its own; training, and the running statistics that follow it."""
    network, variables, x, gates = small(make_network, fields)

    @jax.jit
    def both(variables, x, gates):
        return gated(network, variables, x, gates), network.apply(variables, x, train=True, mutable=['batch_stats'])

    evaluated, (trained, updates) = both(variables, jnp.asarray(x), jnp.asarray(gates))
    np.testing.assert_allclose(evaluated, reference(network.arch, variables)(x, *gates), rtol=1e-10, atol=1e-11)
    second = reference(network.arch, variables, train=True)
    np.testing.assert_allclose(trained, second(x), rtol=1e-10, atol=1e-11)
    assert bool(second.running) == (network.arch.norm == 'batch')
    for path, expected in second.running.items():
        np.testing.assert_allclose(at(updates, path), expected, rtol=1e-10, atol=1e-12)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    assert second.read == {tuple(key.key for key in path) for path, _ in leaves}  # there is none that nobody needs


@pytest.mark.parametrize('fields', STOCHASTIC.values(), ids=STOCHASTIC)
@pytest.mark.usefixtures('float64')
def test_what_is_drawn_in_training_is_its_mean_in_evaluation(make_network, reference, fields):
    network, variables, x, gates = small(make_network, fields)
    logits = jax.jit(gated, static_argnums=0)(network, variables, jnp.asarray(x), jnp.asarray(gates))
    np.testing.assert_allclose(logits, reference(network.arch, variables)(x, *gates), rtol=1e-10, atol=1e-11)


# Every kind of convolution, normalisation and learned number; test_stage.py has what is shared.
GRADIENTS = ('half resolution', 'batches of three', 'fixup', 'nf')


@pytest.mark.parametrize('name', GRADIENTS)
@pytest.mark.usefixtures('float64')
def test_the_gradient_along_a_direction_is_that_of_finite_differences(make_network, reference, name):
    network, variables = make_network(**SMALL | SETTINGS[name])
    x, rng = images(network.arch), np.random.default_rng(6)
    weights = rng.normal(size=(len(x), network.arch.classes))

    def loss(params):
        tree = {**variables, 'params': params}
        return jnp.sum(weights * network.apply(tree, jnp.asarray(x), train=True, mutable=['batch_stats'])[0])

    def moved(direction, step):
        params = jax.tree.map(lambda leaf, d: leaf + step * d, variables['params'], direction)
        return np.sum(weights * reference(network.arch, {**variables, 'params': params}, train=True)(x))

    gradients = jax.jit(jax.grad(loss))(variables['params'])
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), variables['params'])
    numeric = (moved(direction, 1e-6) - moved(direction, -1e-6)) / 2e-6
    products = jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradients, direction))
    np.testing.assert_allclose(np.sum(products), numeric, rtol=0, atol=1e-7 * np.linalg.norm(products))
