"""What the blocks of a stage share, how they start, and what a frozen stage keeps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.resnet import ResNet
from resnet_jax.models.suffix import block_inputs
from tests.models.reference import at

SMALL = {'stage_blocks': (1, 4), 'stem_width': 4, 'widths': (4, 6), 'image_shape': (6, 5, 1), 'classes': 3}
SHARES = ('kernels', 'parameters', 'all')


def images(arch, count=6, dtype='float64'):
    return jnp.asarray(np.random.default_rng(4).normal(size=(count, *arch.image_shape)), dtype)


# Shared


@pytest.mark.parametrize('share', ['none', *SHARES])
def test_what_is_shared_has_no_block_axis(make_arch, share):
    """And an entry block, whose shapes may be others, shares nothing."""
    fields = {'gain': 'rezero', 'shortcut': 'exclusive_gating', 'placement': 'original', 'share': share}
    variables = jax.eval_shape(ResNet(make_arch(**SMALL | fields)).init_variables, jax.random.key(0))
    own = {
        'none': {'kernel', 'gate', 'norm', 'gain', 'statistics'},
        'kernels': {'norm', 'gain', 'statistics'},
        'parameters': {'statistics'},
        'all': set(),
    }[share]
    axis = {kind: (3,) if kind in own else () for kind in ('kernel', 'gate', 'norm', 'gain', 'statistics')}
    norm = dict.fromkeys(('scale', 'bias'), axis['norm'] + (6,))
    kernel = {'kernel': axis['kernel'] + (3, 3, 6, 6)}
    statistics = dict.fromkeys(('mean', 'var'), axis['statistics'] + (6,))
    shapes = jax.tree.map(lambda leaf: leaf.shape, variables)
    assert shapes['params']['stage2']['body'] == {
        'conv1': kernel, 'conv2': kernel, 'bn1': norm, 'bn2': norm, 'gain': {'value': axis['gain']},
        'conv_gate': {'kernel': axis['kernel'] + (1, 1, 6, 6), 'bias': axis['kernel'] + (6,)},
    }  # fmt: skip
    assert shapes['batch_stats']['stage2']['body'] == {'bn1': statistics, 'bn2': statistics}
    assert shapes['params']['stage2']['entry']['conv2']['kernel'] == (3, 3, 6, 6)


@pytest.mark.parametrize('share', SHARES)
@pytest.mark.usefixtures('float64')
def test_the_gradient_of_what_is_shared_is_the_sum_over_the_blocks(make_network, share):
    """Of a network whose blocks have each their own, all alike."""
    fields = {**SMALL, 'placement': 'original', 'shortcut': 'A'}
    unshared, like = make_network(**fields)
    network, variables = make_network(**fields, share=share)
    x = images(network.arch)

    def gradient(network, variables):
        def loss(params):
            logits, _ = network.apply({**variables, 'params': params}, x, train=True, mutable=['batch_stats'])
            return jnp.sum(jnp.sin(logits))

        return jax.jit(jax.grad(loss))(variables['params'])

    copies = jax.tree.map(lambda leaf, own: jnp.broadcast_to(leaf, own.shape), variables, like)
    summed = jax.tree.map(
        lambda g, leaf: g if g.shape == leaf.shape else g.sum(axis=0), gradient(unshared, copies), variables['params']
    )
    shared = gradient(network, variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), shared, summed)
    assert np.abs(shared['stage2']['body']['conv1']['kernel']).max() > 1e-3


@pytest.mark.usefixtures('float64')
def test_shared_statistics_take_the_batches_of_one_block_after_the_other(make_network, reference):
    fields = {**SMALL, 'placement': 'original', 'shortcut': 'A', 'share': 'all', 'norm_momentum': 0.5}
    network, variables = make_network(**fields)
    x = images(network.arch)
    second, batches = reference(network.arch, variables, train=True), []
    batched = second.batched

    def watch(x, name):
        if second.where[:2] == ('stage2', 'body') and name == 'bn1':
            batches.append(x.mean(axis=(0, 1, 2)))
        return batched(x, name)

    second.batched = watch
    second(x)
    assert len(batches) == 3
    expected = at(variables, ('batch_stats', 'stage2', 'body', 'bn1', 'mean'))
    for mean in batches:
        expected = 0.5 * expected + 0.5 * mean
    _, updates = jax.jit(lambda v, x: network.apply(v, x, train=True, mutable=['batch_stats']))(variables, x)
    np.testing.assert_allclose(updates['batch_stats']['stage2']['body']['bn1']['mean'], expected, rtol=1e-10)


# Where blocks start


STARTS = {
    'zero_gamma': {'placement': 'original', 'gain': 'zero_gamma', 'shortcut': 'A'},
    'skipinit': {'placement': 'full_preactivation', 'gain': 'skipinit', 'norm': 'none', 'shortcut': 'B'},
    'rezero': {'placement': 'relu_before_addition', 'gain': 'rezero', 'shortcut': 'B'},
    'fixup': {'placement': 'original', 'gain': 'fixup', 'norm': 'none', 'shortcut': 'A'},
    'none': {'placement': 'full_preactivation', 'shortcut': 'A'},  # the negative control
}


@pytest.mark.parametrize('fields', STARTS.values(), ids=STARTS)
def test_a_block_is_the_identity_at_the_start(make_arch, fields):
    network = ResNet(make_arch(**SMALL | fields))
    variables = jax.jit(network.init_variables)(jax.random.key(0))
    x = images(network.arch, dtype='float32')
    _, stages = jax.jit(lambda v, x: block_inputs(network, v, x))(variables, x)
    body = stages[1]['body']  # of the second, the third and the fourth block
    assert np.abs(body[0]).max() > 0.1
    same = [(body[0] == later).all() for later in body[1:]]
    assert same == [fields.get('gain') is not None] * 2


@pytest.mark.parametrize(('block', 'mid_ratios'), [('basic', (1.0,)), ('bottleneck', (1.0, 1.0))])
def test_fixups_kernels_start_smaller_by_the_number_of_blocks(make_arch, block, mid_ratios):
    """Zhang et al. 2019, section 3: L^(-1/(2m-2)) for L blocks of m convolutions; the last and the classifier at 0."""
    arch = make_arch(
        block=block, mid_ratios=mid_ratios, placement='original', gain='fixup', norm='none', shortcut='B',
        stage_blocks=(1, 8), stem_width=4, widths=(4, 32), image_shape=(4, 4, 1),
    )  # fmt: skip
    params = jax.jit(ResNet(arch).init_variables)(jax.random.key(0))['params']
    m, body = len(mid_ratios) + 1, params['stage2']['body']
    for number in range(1, m + 1):
        kernel = np.asarray(body[f'conv{number}']['kernel'])
        he = np.sqrt(2 / (kernel.shape[1] * kernel.shape[2] * 32))
        expected = 9 ** (-1 / (2 * m - 2)) if number < m else 0
        assert abs(kernel.std() / he - expected) <= 4.5 * expected / np.sqrt(2 * kernel.size)
    projection = np.asarray(params['stage2']['entry']['conv_proj']['kernel'])
    assert abs(projection.std() / np.sqrt(2 / 32) - 1) < 4.5 / np.sqrt(2 * projection.size)
    assert (params['head']['dense']['kernel'] == 0).all()
    scalars = {name: np.unique(each['value']).tolist() for name, each in body.items() if 'value' in each}
    names = {f'bias{number}{side}' for number, side in itertools.product(range(1, m + 1), 'ab')}
    assert scalars == {'gain': [1]} | {name: [0] for name in names}


@pytest.mark.parametrize('gain', ['nf', 'none'])
def test_the_variance_of_an_nf_network_is_the_one_it_expects(make_arch, gain):
    """Brock et al. 2021, section 3: a stage's first block gives 1 + α², each later one α² more; without, it doubles.

    Images of the variance of a ReLU's output, for that is what every convolution expects; pixels whose fields reach
    no padding. A mean over three networks of 64 filters comes out within about 3%; the blocks differ by 33% and more.
    """
    arch = make_arch(
        stage_blocks=(1, 4), stem_width=8, widths=(64, 64), block='bottleneck', mid_ratios=(1.0, 1.0), shortcut='B',
        placement='full_preactivation', norm='none', conv='scaled_standardized', gain=gain, nf_alpha=1.0,
        image_shape=(22, 22, 8),
    )  # fmt: skip
    network = ResNet(arch)

    @jax.jit
    def variances(key):
        images = np.sqrt((1 - 1 / np.pi) / 2) * jax.random.normal(key, (8, *arch.image_shape))
        _, stages = block_inputs(network, network.init_variables(key), images)
        inputs = [stages[1]['entry'][:, 3:-3, 3:-3], *stages[1]['body'][:, :, 4:-4, 4:-4]]
        return jnp.stack([jnp.mean(jnp.var(x, axis=(0, 1, 2))) for x in inputs])

    found = np.mean([variances(jax.random.key(seed)) for seed in range(3)], axis=0)
    np.testing.assert_allclose(found, [2, 2, 3, 4] if gain == 'nf' else [2, 4, 8, 16], rtol=0.1)


@pytest.mark.usefixtures('float64')
def test_frozen_parts_are_as_in_evaluation_and_keep_their_statistics(make_network, reference):
    fields = {**SMALL, 'placement': 'original', 'stage_blocks': (2, 2)}
    network, variables = make_network(**fields)
    frozen = ResNet(network.arch, frozen=('stem', 'stage1'))
    x = images(network.arch)
    logits, updates = jax.jit(lambda v, x: frozen.apply(v, x, train=True, mutable=['batch_stats']))(variables, x)
    second = reference(network.arch, variables, train=True, frozen=('stem', 'stage1'))
    np.testing.assert_allclose(logits, second(x), rtol=1e-10)
    for name in ('stem', 'stage1'):
        jax.tree.map(np.testing.assert_array_equal, updates['batch_stats'][name], variables['batch_stats'][name])
    for path, expected in second.running.items():
        assert path[1] == 'stage2'
        np.testing.assert_allclose(at(updates, path), expected, rtol=1e-10)
    assert len(second.running) == 2 * 2 * 2
