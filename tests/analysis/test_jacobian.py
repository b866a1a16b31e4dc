import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import jacobian
from resnet_jax.analysis.gradients import last_output
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.suffix import block_inputs, body_block, entry_block

# So small that every Jacobian is had entry by entry.
SMALL = {'stage_blocks': (3, 1), 'stem_width': 2, 'widths': (2, 3), 'image_shape': (4, 4, 1)}
FORMS = {'preact': {}, 'plain': {'placement': 'original', 'shortcut': 'none'}}
LABELS = jnp.asarray([1, 2])
PLACES = 7  # the image, what four blocks are given, what the head is given, the logits


def images(count=2):
    return jnp.asarray(np.random.default_rng(3).normal(size=(count, 4, 4, 1)))


def small(make_network, form='preact'):
    return make_network(**SMALL | FORMS[form])


# Of a function


def singular(values, rows, columns, seed=0):
    """A matrix with these singular values."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for size in (rows, columns))
    return jnp.asarray(left[:, : len(values)] @ np.diag(values) @ right[: len(values)])


@pytest.mark.usefixtures('float64')
def test_products_with_the_jacobian_of_a_product_of_matrices():
    a, b = singular([3, 1], 5, 4), singular([2, 2, 0.5], 4, 6, seed=1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)))
    push, pull, y = jacobian.jacobian_products(lambda x: x @ (a @ b).T, x)
    v, w = jnp.ones((3, 6)), jnp.ones((3, 5))
    np.testing.assert_allclose(y, x @ (a @ b).T, rtol=1e-12)
    np.testing.assert_allclose(push(v), v @ (a @ b).T, rtol=1e-12)
    np.testing.assert_allclose(pull(w), w @ (a @ b), rtol=1e-12)


@pytest.mark.usefixtures('float64')
def test_an_orthogonal_map_is_exact_at_once():
    turn = singular([1.0] * 8, 8, 8)
    x = jnp.ones((3, 2, 4))
    frobenius, largest = jacobian.norms_of_jacobian(
        lambda x: 3 * (x.reshape(3, 8) @ turn).reshape(3, 2, 4), x, jax.random.key(0), iterations=1
    )
    np.testing.assert_allclose(frobenius, 9 * 8, rtol=1e-12)
    np.testing.assert_allclose(largest, 3, rtol=1e-12)


@pytest.mark.usefixtures('float64')
def test_each_example_has_the_norms_of_its_own_jacobian():
    values = np.array([[4.0, 1.0, 0.5], [2.0, 1.0, 0.0]])
    maps = jnp.stack([singular(each, 5, 4, seed) for seed, each in enumerate(values)])
    norms = partial(jacobian.norms_of_jacobian, lambda x: jnp.einsum('nij,nj->ni', maps, x), jnp.ones((2, 4)))
    frobenius, largest = norms(jax.random.key(0), iterations=4000)
    np.testing.assert_allclose(frobenius, np.sum(values**2, axis=1), rtol=0.06)
    np.testing.assert_allclose(largest, values[:, 0], rtol=1e-10)
    _, after_two = norms(jax.random.key(0), iterations=2)
    assert (after_two < values[:, 0]).all()  # a lower bound


@pytest.mark.usefixtures('float64')
def test_random_matrices_have_the_norms_of_their_limits():
    """Variance 1/N: σ_max is 2 (Marchenko & Pastur), ‖J‖_F² / N is 1, and half of it behind ReLU."""
    size = 600
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)) / np.sqrt(size))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, size)))
    norms = partial(jacobian.norms_of_jacobian, iterations=60)
    frobenius, largest = norms(lambda x: x @ matrix.T, x, jax.random.key(0))
    np.testing.assert_allclose(frobenius / size, 1, rtol=0.05)
    np.testing.assert_allclose(largest, 2, rtol=0.03)
    frobenius, _ = norms(lambda x: jax.nn.relu(x @ matrix.T), x, jax.random.key(0))
    np.testing.assert_allclose(frobenius / size, 0.5, rtol=0.12)


# Of a network


@partial(jax.jit, static_argnames='network')
def written_out(network, variables, images):
    """By entry: ∂(each state)/∂image, ∂logits/∂(each state), ∂softmax/∂(each state), each block's; of one example."""
    arch, gates = network.arch, network.intact_gates()

    def apply_block(x, index):
        stage = max(number for number, first in enumerate(arch.entry_blocks) if first <= index)
        if index in arch.entry_blocks:
            return entry_block(network, variables, stage, x, gates)
        return body_block(network, variables, stage, x, index, gates)

    def states(image):
        logits, inputs = block_inputs(network, variables, image)
        found = [x for stage in inputs for x in (stage['entry'], *stage.get('body', ()))]
        return [image, *found, last_output(network, variables, inputs), logits]

    def from_state(x, place):
        if place == 0:
            return network.apply(variables, x, train=False)
        for index in range(place - 1, arch.blocks):
            x = apply_block(x, index)
        return jacobian.apply_head(network, variables, x)

    there = states(images)
    forward = [jnp.reshape(each, (-1, images.size)) for each in jax.jacrev(states)(images)]
    to_logits = [jax.jacrev(from_state)(x, place).reshape(-1, x.size) for place, x in enumerate(there[:-1])]
    of_softmax = jax.jacrev(jax.nn.softmax)(there[-1][0])
    to_softmax = [of_softmax @ J for J in to_logits]
    blocks = [jax.jacrev(apply_block)(x, i).reshape(-1, x.size) for i, x in enumerate(there[1 : arch.blocks + 1])]
    return there, forward, to_logits, to_softmax, blocks


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.usefixtures('float64')
def test_every_norm_is_that_of_the_jacobian_written_out(make_network, form):
    network, variables = small(make_network, form)
    there, forward, to_logits, to_softmax, blocks = written_out(network, variables, images()[:1])
    key = jax.random.key(0)

    directions = jacobian.unit_directions(key, images(), 3)
    np.testing.assert_allclose(np.sum(np.square(directions), axis=(2, 3, 4)), 1, rtol=1e-12)
    found = jacobian.gains(network, variables, images(), directions, 1e-7)
    assert found.gain.shape == (3, PLACES, 2) and found.size.shape == (PLACES, 2)
    np.testing.assert_allclose(found.size[:, 0], [np.linalg.norm(x) for x in there], rtol=1e-10)
    expected = [[np.linalg.norm(J @ u[0].ravel()) for J in forward] for u in np.asarray(directions)]
    np.testing.assert_allclose(found.gain[:, :, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(found.gain[:, 0], 1, rtol=1e-7)

    found = jacobian.sensitivity(
        network, variables, images(), LABELS, key, draws=50
    )  # there are no more than ten classes
    np.testing.assert_allclose(found.logits[:, 0], [np.sum(np.square(J)) for J in to_logits], rtol=1e-9)
    np.testing.assert_allclose(found.softmax[:, 0], [np.sum(np.square(J)) for J in to_softmax], rtol=1e-9)

    found = jacobian.block_jacobians(network, variables, images(), key, iterations=400)
    np.testing.assert_allclose(found.frobenius[:, 0], [np.sum(np.square(J)) for J in blocks], rtol=0.1)
    np.testing.assert_allclose(found.largest[:, 0], [np.linalg.norm(J, 2) for J in blocks], rtol=1e-3)


@pytest.mark.usefixtures('float64')
def test_fewer_probes_than_classes_are_right_on_the_average(make_network):
    network, variables = small(make_network)
    exact = jacobian.sensitivity(network, variables, images(), LABELS, jax.random.key(0), draws=10)
    several = [
        jacobian.sensitivity(network, variables, images(), LABELS, jax.random.key(k), draws=4) for k in range(200)
    ]
    np.testing.assert_allclose(np.mean([each.logits for each in several], axis=0), exact.logits, rtol=0.1)
    assert np.ptp([each.logits[0, 0] for each in several]) > 0.1 * exact.logits[0, 0]


@pytest.mark.usefixtures('float64')
def test_probes_are_orthogonal_and_of_the_length_of_all_outputs():
    drawn = np.asarray(jacobian.probes(jax.random.key(0), jnp.zeros((3, 7)), 4))
    assert drawn.shape == (4, 3, 7)
    for example in range(3):
        np.testing.assert_allclose(drawn[:, example] @ drawn[:, example].T, 7 * np.eye(4), atol=1e-12)


@pytest.mark.usefixtures('float64')
def test_in_the_steepest_direction_the_loss_rises_by_the_gradients_norm(make_network):
    network, variables = small(make_network)
    x = images()

    @jax.jit
    def loss(x):
        logits = network.apply(variables, x, train=False)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), LABELS[:, None], axis=1)[:, 0]

    steepest = jacobian.sensitivity(network, variables, x, LABELS, jax.random.key(0), draws=1).steepest

    def slope(u):
        return (loss(x + 1e-6 * u) - loss(x - 1e-6 * u)) / 2e-6

    gradient = jax.jit(jax.grad(lambda x: loss(x).sum()))(x)
    np.testing.assert_allclose(slope(steepest), np.linalg.norm(gradient.reshape(2, -1), axis=1), rtol=1e-6)
    for other in jacobian.unit_directions(jax.random.key(0), x, 5):
        assert (slope(other) < slope(steepest)).all()


# Against the mean field


def test_wide_residual_blocks_of_one_pixel_have_the_gain_of_the_mean_field(make_arch):
    """x + V relu(W relu(x)): the first ReLU halves W's variance, so that gain² is 1 + σ_v² (σ_w² / 2) / 2."""
    width, blocks = 256, 17
    network = ResNet(make_arch(
        placement='relu_only_preactivation', norm='none', stage_blocks=(blocks,), stem_width=width, widths=(width,),
        image_shape=(1, 1, 8),
    ))  # fmt: skip
    variables = network.init_variables(jax.random.key(1))
    # Of the kernel the centre alone acts, with He's variance 2 / 9 width: three times as large, it is 2 / width.
    body = variables['params']['stage1']['body']
    for name in ('conv1', 'conv2'):
        body[name] = {**body[name], 'kernel': 3 * body[name]['kernel']}
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 1, 1, 8)), jnp.float32)
    found = jacobian.block_jacobians(network, variables, x, jax.random.key(0), iterations=30)
    factors = np.mean(found.frobenius[1:], axis=1) / width
    error = np.std(factors) / np.sqrt(blocks - 1)
    assert abs(np.mean(factors) - 2) < 4 * error < 0.2


# Programs


def test_checkpoints_directions_and_depths_share_programs(make_network, caplog):
    fields = SMALL | {'widths': (2,)}
    network, variables = make_network('float32', **fields | {'stage_blocks': (2,)})
    x = images().astype(jnp.float32)

    def all_of(variables, x, key, epsilon):
        jacobian.gains(network, variables, x, jacobian.unit_directions(key, x, 2), epsilon)
        jacobian.sensitivity(network, variables, x, LABELS[: len(x)], key, draws=2)
        jacobian.block_jacobians(network, variables, x, key, iterations=2)

    all_of(variables, x, jax.random.key(0), 1e-3)
    with jax.log_compiles():
        programs = r'compilation of jit\((_forward|_sensitivity|_of_block)\)'
        all_of(jax.tree.map(lambda leaf: 1.1 * leaf, variables), -x, jax.random.key(1), 1e-2)
        assert not re.findall(programs, caplog.text)
        deeper, its = make_network('float32', **fields | {'stage_blocks': (4,)})
        jacobian.block_jacobians(deeper, its, x, jax.random.key(0), iterations=2)
        assert re.findall(programs, caplog.text) == ['_forward']  # its blocks have the programs of the other's
        all_of(variables, x[:1], jax.random.key(0), 1e-3)
        assert set(re.findall(programs, caplog.text)) == {'_forward', '_sensitivity', '_of_block'}
