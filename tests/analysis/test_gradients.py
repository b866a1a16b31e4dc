import re
from functools import partial
from operator import itemgetter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.analysis import gradients
from resnet_jax.analysis.recalibration import recalibrated
from resnet_jax.analysis.responses import has_responses, responses
from resnet_jax.models.suffix import block_inputs, body_block, enter_stage, entry_block

PREACT = {'stage_blocks': (3, 1, 2)}  # with a stage that has no body
ORIGINAL = {'placement': 'original', 'stage_blocks': (2, 3, 1)}
PLAIN = {'placement': 'original', 'shortcut': 'none', 'stage_blocks': (2, 2, 1)}


def examples(count=3):
    rng = np.random.default_rng(5)
    return jnp.asarray(rng.normal(size=(count, 8, 8, 1))), jnp.asarray(rng.integers(0, 10, count))


def apply_block(network, variables, x, index):
    """The block of this index, by itself."""
    arch, gates = network.arch, network.intact_gates()
    stage = max(number for number, first in enumerate(arch.entry_blocks) if first <= index)
    if index in arch.entry_blocks:
        return entry_block(network, variables, stage, x, gates)
    return body_block(network, variables, stage, x, index, gates)


@partial(jax.jit, static_argnames='network')
def by_every_input(network, variables, images, labels):
    """∂loss/∂(input) of every block and of the head, and these inputs, in network order: lists of (n, h, w, c).

    By perturbations added there to a network applied block by block, in plain Python.
    """
    _, inputs = block_inputs(network, variables, images)
    states = [x for stage in inputs for x in (stage['entry'], *stage.get('body', ()))]
    states.append(apply_block(network, variables, states[-1], network.arch.blocks - 1))

    def loss(perturbations):
        x = states[0]
        for index, perturbation in enumerate(perturbations[:-1]):
            x = apply_block(network, variables, x + perturbation, index)
        logits = gradients.apply_head(network, variables, x + perturbations[-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()

    return jax.grad(loss)([jnp.zeros_like(x) for x in states]), states


def flat(x):
    return np.asarray(x).reshape(len(x), -1)


@pytest.mark.parametrize('fields', [PREACT, ORIGINAL | {'shortcut': 'C'}, PLAIN], ids=['preact', 'original', 'plain'])
@pytest.mark.usefixtures('float64')
def test_the_gradient_at_every_block_is_what_autodiff_gives(make_network, fields):
    network, variables = make_network(**fields)
    arch, (images, labels) = network.arch, examples()
    expected, _ = by_every_input(network, variables, images, labels)
    found = gradients.flow(network, variables, images, labels)
    np.testing.assert_allclose(found.size, [np.linalg.norm(flat(g), axis=1) for g in expected], rtol=1e-11)
    for place in range(arch.blocks):
        after = next(first for first in (*arch.entry_blocks, arch.blocks) if first > place)
        g, end = flat(expected[place]), flat(expected[after])
        if g.shape != end.shape:
            assert np.isnan(found.carried[place]).all() and np.isnan(found.cosine[place]).all()
            continue
        along = np.sum(g * end, axis=1)
        np.testing.assert_allclose(found.carried[place], along / np.sum(end * end, axis=1), rtol=1e-10)
        cosine = along / np.linalg.norm(g, axis=1) / np.linalg.norm(end, axis=1)
        np.testing.assert_allclose(found.cosine[place], cosine, rtol=1e-10)


@pytest.mark.usefixtures('float64')
def test_the_gradient_by_the_first_blocks_input_is_the_whole_networks_by_differences(make_network):
    network, variables = make_network(**PREACT)
    images, labels = examples()

    @jax.jit
    def loss(x):
        logits = enter_stage(network, variables, 0, x, network.intact_gates())
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    @jax.jit
    def analysed(images):
        _, inputs = block_inputs(network, variables, images)
        last = gradients.last_gradient(network, variables, gradients.last_output(network, variables, inputs), labels)
        return inputs[0]['entry'], gradients.pull_back(network, variables, inputs, last, lambda x, g, end: ())[0]

    x, g = analysed(images)
    direction, h = jnp.asarray(np.random.default_rng(0).normal(size=x.shape)), 1e-6
    numeric = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(np.sum(flat(g) * flat(direction), axis=1), numeric, rtol=1e-6)


@partial(jax.jit, static_argnames=('network', 'start', 'last'))
def written_out(network, variables, x, end, start, last):
    """∂loss/∂x_L · ∂F_i/∂x_l for the blocks i from l = `start` to `last`: each F_i a function of x_l, by autodiff."""

    def branches(x):
        found = []
        for index in range(start, last + 1):
            after = apply_block(network, variables, x, index)
            found.append(after - x)
            x = after
        return jnp.stack(found)

    _, back = jax.vjp(branches, x)
    return jax.vmap(lambda one: back(one[:, None, None, None, None] * end[None])[0])(jnp.eye(last + 1 - start))


DECOMPOSED = [{}, {'placement': 'relu_before_addition', 'shortcut': 'B'}]


@pytest.mark.parametrize('fields', DECOMPOSED, ids=['full pre-activation', 'relu before addition'])
@pytest.mark.usefixtures('float64')
def test_identity_and_residual_terms_add_up_to_the_gradient(make_network, fields):
    network, variables = make_network(**fields, stage_blocks=(1, 4), widths=(4, 8))
    images, labels = examples()
    assert gradients.adds_to_identity(network.arch)
    without_body, terms = gradients.decompose(network, variables, images, labels)
    expected, states = by_every_input(network, variables, images, labels)
    assert without_body is None and terms.size.shape == (3, 3, len(labels))
    assert np.max(terms.gap) < 1e-10
    end, unit = expected[5], np.linalg.norm(flat(expected[5]), axis=1)
    for row in range(3):
        residual = flat(expected[2 + row] - end)
        np.testing.assert_allclose(terms.residual_size[row], np.linalg.norm(residual, axis=1) / unit, rtol=1e-9)
        along = np.sum(residual * flat(end), axis=1) / unit**2
        np.testing.assert_allclose(terms.residual_along[row], along, rtol=1e-9)
        np.testing.assert_allclose(terms.along[row].sum(axis=0), along, rtol=1e-9)
        np.testing.assert_array_equal(terms.size[row, :row], 0)
    for column, term in enumerate(written_out(network, variables, states[2], end, 2, 4)):
        np.testing.assert_allclose(terms.size[0, column], np.linalg.norm(flat(term), axis=1) / unit, rtol=1e-9)
        parallel = np.sum(flat(term) * flat(end), axis=1) / unit**2
        np.testing.assert_allclose(terms.along[0, column], parallel, rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures('float64')
def test_two_blocks_by_hand(make_network):
    """With kernels of the centre alone and no normalisation a block is x + V relu(W relu(x)) pixel by pixel."""
    fields = {'norm': 'none', 'stage_blocks': (3,), 'widths': (4,), 'image_shape': (1, 1, 1)}
    network, variables = make_network(placement='relu_only_preactivation', **fields)
    images, labels = jnp.asarray([[[[0.7]]], [[[-1.3]]]]), jnp.asarray([1, 2])
    _, inputs = block_inputs(network, variables, images)
    body = variables['params']['stage1']['body']
    kernels = {name: np.asarray(body[name]['kernel'])[:, 1, 1] for name in ('conv1', 'conv2')}

    def jacobian(index, x):
        """∂F/∂x, (outputs, inputs)."""
        one, two = (kernels[name][index] for name in ('conv1', 'conv2'))
        a = np.maximum(x, 0) @ one + body['conv1']['bias'][index]
        return (np.diag(x > 0) @ one @ np.diag(a > 0) @ two).T

    last = gradients.last_gradient(network, variables, gradients.last_output(network, variables, inputs), labels)
    (terms,) = gradients.decompose(network, variables, images, labels)
    for example in range(2):
        end = np.asarray(last[example, 0, 0])
        one, two = (jacobian(index, np.asarray(inputs[0]['body'][index, example, 0, 0])) for index in range(2))
        by_hand = [[end @ one, end @ two @ (np.eye(4) + one)], [np.zeros(4), end @ two]]
        sizes = np.linalg.norm(by_hand, axis=-1) / np.linalg.norm(end)
        np.testing.assert_allclose(terms.size[..., example], sizes, rtol=1e-12)
        np.testing.assert_allclose(terms.along[..., example], by_hand @ end / (end @ end), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    ('fields', 'adds'),
    [
        ({}, True), ({'placement': 'relu_before_addition'}, True), ({'shortcut': 'B'}, True),
        ({'placement': 'original'}, False), ({'shortcut': 'C'}, False), ({'shortcut_scale': 0.5}, False),
        (PLAIN, False), ({'shortcut': 'exclusive_gating'}, False), ({'join': 'concatenate'}, False),
    ],
)  # fmt: skip
def test_only_blocks_that_add_to_the_identity_decompose(make_arch, fields, adds):
    assert gradients.adds_to_identity(make_arch(**fields)) == adds


@pytest.mark.usefixtures('float64')
def test_behind_an_activation_the_terms_do_not_add_up(make_network):
    """The negative control."""
    network, variables = make_network(placement='original', stage_blocks=(3,), widths=(4,))
    (terms,) = gradients.decompose(network, variables, *examples())
    assert np.max(terms.gap) > 1e-3


# Responses


def test_behind_fresh_statistics_a_response_has_the_deviation_of_the_scale_and_the_bias(make_network):
    network, variables = make_network('float32', placement='original', stage_blocks=(2, 3, 1))
    images = jnp.asarray(np.random.default_rng(1).normal(size=(98, 8, 8, 1)), jnp.float32)
    fresh = recalibrated(network, variables, [images], network.intact_gates())
    expected = [normal_deviation(variables['params']['stem']['bn1'], 98 * 64)]
    for stage, pixels in (('stage1', 64), ('stage2', 16), ('stage3', 4)):
        parts = variables['params'][stage]
        layers = [parts['entry'][name] for name in ('bn1', 'bn2')]
        for index in range(len(parts['body']['bn1']['scale']) if 'body' in parts else 0):
            layers += [jax.tree.map(itemgetter(index), parts['body'][name]) for name in ('bn1', 'bn2')]
        expected += [normal_deviation(layer, 98 * pixels) for layer in layers]
    np.testing.assert_allclose(responses(network, fresh, [images]), expected, rtol=0.01)
    assert not np.allclose(responses(network, variables, [images]), expected, rtol=0.1)  # the negative control


def normal_deviation(layer, count):
    """Normalised, a channel has deviation |γ| (by the unbiased variance) and mean β: of all values of all channels."""
    return np.sqrt(np.mean(np.square(layer['scale'])) * (count - 1) / count + np.var(layer['bias']))


@pytest.mark.parametrize(
    ('fields', 'names'),
    [
        (ORIGINAL, ('bn1', 'bn2')),
        (PLAIN, ('bn1', 'bn2')),
        (ORIGINAL | {'block': 'bottleneck', 'mid_ratios': (0.5, 0.5), 'shortcut': 'B'}, ('bn2',)),
    ],
    ids=['residual', 'plain', 'bottleneck'],
)
@pytest.mark.usefixtures('float64')
def test_responses_are_deviations_behind_normalisation_and_before_addition(make_network, fields, names):
    network, variables = make_network(**fields)
    assert has_responses(network.arch)
    images, _ = examples()
    found = responses(network, variables, [images])
    expected = of_each_block(network, variables, images, names)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-10)  # the first is the stem's
    assert len(found) == 1 + len(names) * network.arch.blocks


@partial(jax.jit, static_argnames=('network', 'names'))
def of_each_block(network, variables, images, names):
    """The deviations of these layers' outputs, block by block, each block applied by itself."""
    outputs, found = {}, []

    def keep(next_function, arguments, settings, context):
        outputs[context.module.name] = result = next_function(*arguments, **settings)
        return result

    _, inputs = block_inputs(network, variables, images)
    states = [x for stage in inputs for x in (stage['entry'], *stage.get('body', ()))]
    for index, x in enumerate(states):
        with nn.intercept_methods(keep):
            apply_block(network, variables, x, index)
        found += [jnp.std(outputs[name]) for name in names]
    return jnp.stack(found)


@pytest.mark.parametrize(
    ('fields', 'has'),
    [
        (ORIGINAL, True), (PLAIN, True), ({'placement': 'relu_only_preactivation'}, True), ({}, False),
        ({'placement': 'bn_after_addition'}, False), ({'placement': 'original', 'norm': 'none'}, False),
        ({'placement': 'original', 'block': 'inception'}, False),
    ],
)  # fmt: skip
def test_responses_are_of_networks_that_normalise_behind_every_convolution(make_arch, fields, has):
    assert has_responses(make_arch(**fields)) == has


# Programs


def test_checkpoints_and_seeds_share_one_program(make_network, caplog):
    network, variables = make_network('float32', stage_blocks=(3,), widths=(4,))
    images, labels = (x.astype(jnp.float32) if x.ndim > 1 else x for x in examples())

    def all_of(variables, images, labels):
        gradients.flow(network, variables, images, labels)
        gradients.decompose(network, variables, images, labels)

    all_of(variables, images, labels)
    others = jax.tree.map(lambda leaf: 1.1 * leaf, variables)
    with jax.log_compiles():
        all_of(others, -images, labels)
        assert not re.findall(r'compilation of jit\((flow|decompose)\)', caplog.text)
        all_of(variables, images[:2], labels[:2])
        assert re.findall(r'compilation of jit\((flow|decompose)\)', caplog.text)  # the negative control
