"""SGD as torch has it and LAMB as its paper has it, against their updates written down in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from resnet_jax.train.optimizer import is_kernel, lamb, make_optimizer, sgd
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
    return stepped(sgd(train), params, gradients)


def stepped(optimizer, params, gradients):
    params = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(params)
    for gradient in gradients:
        with jax.numpy_dtype_promotion('standard'):  # optax's Adam raises a float to the power of a whole number
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


# LAMB


@pytest.fixture(scope='module')
def network(make_network):
    """`network(share)`: parameters of a small network with bodies of two blocks, one bias at 0, and gradients of a
    global length far above 1, far below it, and so on."""

    def make(share='none'):
        _, variables = make_network('float64', placement='original', stage_blocks=(3, 1, 3), share=share)
        params = jax.tree.map(np.array, variables['params'])
        params['stem']['bn1']['bias'] *= 0
        random = np.random.default_rng(1)
        return params, [
            jax.tree.map(lambda leaf, scale=scale: scale * random.normal(size=leaf.shape), params)
            for scale in (1, 1e-3, 1e-4, 1, 1e-4, 10)
        ]

    return make


def apart(tree):
    """{path: array}, every layer alone: what a body holds of several blocks, an axis more than its entry block has, is
    taken apart."""
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        part, name, *layer = (step.key for step in path)
        if name == 'body' and leaf.ndim > tree[part]['entry'][layer[0]][layer[1]].ndim:
            flat |= {(part, name, *layer, block): np.asarray(one) for block, one in enumerate(leaf)}
        else:
            flat[(part, name, *layer)] = np.asarray(leaf)
    return flat


def lambs(train, params, gradients, *, longest=1.0, corrected=True):
    """You et al. 2020, algorithm 2, of layers in a flat dictionary; gradients longer than `longest` are shortened."""
    rate = learning_rate(train.schedule)
    first, second = ({name: np.zeros_like(leaf) for name, leaf in params.items()} for _ in range(2))
    for step, gradient in enumerate(gradients):
        length = np.sqrt(sum((leaf**2).sum() for leaf in gradient.values()))
        gradient = {name: leaf * min(1, longest / length) for name, leaf in gradient.items()}
        first = {name: 0.9 * leaf + 0.1 * gradient[name] for name, leaf in first.items()}
        second = {name: 0.999 * leaf + 0.001 * gradient[name] ** 2 for name, leaf in second.items()}
        one, two = (1 - beta ** (step + 1) if corrected else 1 for beta in (0.9, 0.999))
        moved = {}
        for name, leaf in params.items():
            update = first[name] / one / (np.sqrt(second[name] / two) + 1e-6)
            if train.decay_norm_and_bias or 'kernel' in name:
                update = update + train.weight_decay * leaf
                lengths = np.linalg.norm(leaf), np.linalg.norm(update)
                update = update * (lengths[0] / lengths[1] if min(lengths) > 0 else 1)
            moved[name] = leaf - float(rate(step)) * update
        params = moved
    return params


def differ(one, other):
    """The largest difference of two flat dictionaries of the same names."""
    assert one.keys() == other.keys()
    return max(np.abs(leaf - other[name]).max() for name, leaf in one.items())


@pytest.mark.parametrize('share', ['none', 'kernels', 'parameters'])
@pytest.mark.parametrize('decay_norm_and_bias', [False, True])
@pytest.mark.usefixtures('float64')
def test_steps_of_lamb_are_the_papers_for_every_layer_of_every_block(network, share, decay_norm_and_bias):
    """A body's layers of several blocks are moved as those of a network that is not stacked."""
    params, gradients = network(share)
    train = settings(decay_norm_and_bias=decay_norm_and_bias)
    after = apart(stepped(lamb(train, share), params, gradients))
    assert differ(after, lambs(train, apart(params), list(map(apart, gradients)))) < 1e-6
    assert differ(after, apart(params)) > 0.1


@pytest.mark.usefixtures('float64')
def test_control_what_lamb_might_lack_is_noticed(network):
    params, gradients = network()
    train, flat = settings(decay_norm_and_bias=False), (apart(params), list(map(apart, gradients)))
    after = apart(stepped(lamb(train, 'none'), params, gradients))
    together = apart(stepped(lamb(train, 'all'), params, gradients))  # a body as one layer
    for other in (
        together,
        lambs(train, *flat, longest=np.inf),
        lambs(train, *flat, corrected=False),
        lambs(settings(weight_decay=0.0, decay_norm_and_bias=False), *flat),
        lambs(settings(), *flat),
    ):
        assert differ(after, other) > 1e-4


@pytest.mark.usefixtures('float64')
def test_a_kernel_moves_by_the_rate_of_its_length_and_norm_and_bias_by_that_of_adam(network):
    """After one step, without decay; Adam's first direction is the gradient's sign, but for epsilon."""
    params, gradients = network()
    train = settings(decay_norm_and_bias=False, weight_decay=0.0)
    after, before = apart(stepped(lamb(train, 'none'), params, gradients[:1])), apart(params)
    gradient = apart(gradients[0])
    length = np.sqrt(sum((leaf**2).sum() for leaf in gradient.values()))
    for name, leaf in before.items():
        moved = after[name] - leaf
        if 'kernel' in name:
            assert np.linalg.norm(moved) == pytest.approx(0.1 * np.linalg.norm(leaf), rel=1e-6)
        else:
            short = gradient[name] / length
            np.testing.assert_allclose(moved, -0.1 * short / (np.abs(short) + 1e-6), rtol=1e-6)


@pytest.mark.parametrize('optimizer', ['sgd', 'lamb'])
@pytest.mark.usefixtures('float64')
def test_what_is_frozen_does_not_move_and_the_rest_moves_as_it_would(network, optimizer):
    config = default.get_config()
    config.train.update(settings().to_dict() | {'optimizer': optimizer})
    params, gradients = network()
    zero = {part: jax.tree.map(np.zeros_like, params[part]) for part in ('stem', 'stage2')}  # as training gives them
    gradients = [gradient | zero for gradient in gradients]
    free = stepped(make_optimizer(config), params, gradients)
    config.train.frozen = ('stem', 'stage2')
    held = stepped(make_optimizer(config), params, gradients)
    for part in params:
        still = part in config.train.frozen
        jax.tree.map(np.testing.assert_array_equal, held[part], params[part] if still else free[part])
        assert differ_somewhere(free[part], params[part])  # decay would have moved it


def differ_somewhere(one, other):
    return any((a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
