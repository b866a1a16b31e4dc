"""SGD as torch has it, against its documented update written down in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from resnet_jax.train.optimizer import is_kernel, sgd
from resnet_jax.train.schedule import learning_rate

STEPS = 6


def settings(**changes):
    train = default.get_config().train
    train.weight_decay = 0.01  # strong enough to be seen
    train.schedule.update(boundaries=(2, 4))  # the rate falls on the way
    train.update(changes)
    return train


@pytest.fixture
def problem():
    """Parameters of every kind a network has, and a gradient of each for every step."""
    random = np.random.default_rng(0)
    shapes = {'conv': {'kernel': (3, 3, 2, 4)}, 'bn': {'scale': (4,), 'bias': (4,)}, 'dense': {'bias': (3,)}}

    def draw():
        return jax.tree.map(lambda shape: random.normal(size=shape), shapes, is_leaf=lambda leaf: type(leaf) is tuple)

    return draw(), [draw() for _ in range(STEPS)]


def ours(train, params, gradients):
    optimizer = sgd(train)
    params = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, gradient), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def torchs(train, params, gradients):
    """torch.optim.SGD of its documentation, with dampening 0 and each step's rate given."""
    rate, buffers = learning_rate(train.schedule), None
    for step, gradient in enumerate(gradients):
        decayed = _decayed(train, params)
        gradient = jax.tree.map(lambda g, p, d: g + train.weight_decay * p * d, gradient, params, decayed)
        buffers = gradient if buffers is None else jax.tree.map(lambda b, g: train.momentum * b + g, buffers, gradient)
        moved = jax.tree.map(lambda b, g: g + train.momentum * b, buffers, gradient) if train.nesterov else buffers
        step_rate = float(rate(step))
        params = jax.tree.map(lambda p, m, rate=step_rate: p - rate * m, params, moved)
    return params


def _decayed(train, params):
    return {
        layer: {name: train.decay_norm_and_bias or name == 'kernel' for name in leaves}
        for layer, leaves in params.items()
    }


@pytest.mark.parametrize('nesterov', [False, True])
@pytest.mark.parametrize('decay_norm_and_bias', [False, True])
@pytest.mark.usefixtures('float64')
def test_steps_of_sgd_are_torchs(problem, nesterov, decay_norm_and_bias):
    train = settings(nesterov=nesterov, decay_norm_and_bias=decay_norm_and_bias)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-7),
        ours(train, *problem), torchs(train, *problem),
    )  # fmt: skip


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('change', [{'momentum': 0.8}, {'weight_decay': 0.0}, {'nesterov': True}], ids=str)
def test_control_a_setting_that_differs_is_noticed(problem, change):
    one, other = ours(settings(), *problem), torchs(settings(**change), *problem)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.mark.usefixtures('float64')
def test_without_decay_of_norm_and_bias_they_stand_still_where_the_gradient_is_0(problem):
    params, gradients = problem
    still = [jax.tree.map(np.zeros_like, gradient) for gradient in gradients]
    after = ours(settings(decay_norm_and_bias=False), params, still)
    np.testing.assert_array_equal(after['bn']['scale'], params['bn']['scale'])
    np.testing.assert_array_equal(after['bn']['bias'], params['bn']['bias'])
    np.testing.assert_array_equal(after['dense']['bias'], params['dense']['bias'])
    assert (np.abs(after['conv']['kernel']) < np.abs(params['conv']['kernel'])).all()


def test_the_kernels_of_a_network_are_its_convolutions_and_its_dense_layer(parts):
    params = jax.eval_shape(parts.network.init_variables, jax.random.key(0))['params']
    marked = {
        jax.tree_util.keystr(path, simple=True, separator='/'): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(is_kernel(params))
    }
    kernels = {name for name, leaf in marked.items() if leaf}
    assert kernels == {name for name in marked if name.endswith('/kernel')}
    assert {name.split('/')[-1] for name in marked.keys() - kernels} == {'scale', 'bias'}


@pytest.mark.torch
@pytest.mark.parametrize('nesterov', [False, True])
def test_steps_of_sgd_are_those_of_torch_itself(nesterov):
    torch = pytest.importorskip('torch')
    train, random = settings(nesterov=nesterov), np.random.default_rng(1)
    start, gradients = random.normal(size=(5,)), random.normal(size=(STEPS, 5))
    parameter = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    for step, gradient in enumerate(gradients):
        theirs.param_groups[0]['lr'] = float(learning_rate(train.schedule)(step))
        parameter.grad = torch.tensor(gradient)
        theirs.step()
    with jax.enable_x64(True):
        after = ours(train, {'kernel': start}, [{'kernel': gradient} for gradient in gradients])
        np.testing.assert_allclose(after['kernel'], parameter.detach().numpy(), rtol=1e-7)
