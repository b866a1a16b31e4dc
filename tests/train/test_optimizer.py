"""Each optimizer's steps against its paper's update written down in NumPy, layer for layer, and against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from resnet_jax import config as configuration
from resnet_jax.errors import UserError
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.schedule import learning_rate
from resnet_jax.validity import KINDS, check, words

STEPS = 6
OPTIMIZERS = ('sgd', 'lars', 'lamb', 'adamw')
NO_KERNEL = ('scale', 'bias')


def settings(optimizer='sgd', share='none', **changes):
    config = default.get_config()
    config.network.share = share
    config.train.update(optimizer=optimizer, weight_decay=0.01, trust=0.1)  # strong enough to be seen
    config.train.schedule.boundaries = (2, 4)  # the rate falls on the way
    config.train.update(changes)
    return config


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


def stepped(config, params, gradients):
    """The parameters after the optimizer's steps."""
    optimizer, params = make_optimizer(config), jax.tree.map(jnp.asarray, params)
    state, update = optimizer.init(params), optimizer.update
    for gradient in gradients:
        with jax.numpy_dtype_promotion('standard'):  # optax's Adam raises a float to the power of a whole number
            updates, state = update(jax.tree.map(jnp.asarray, gradient), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


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


def length(gradient):
    return np.sqrt(sum((leaf**2).sum() for leaf in gradient.values()))


def differ(one, other):
    """The largest difference of two flat dictionaries of the same names."""
    assert one.keys() == other.keys()
    return max(np.abs(leaf - other[name]).max() for name, leaf in one.items())


# One step of one layer: (settings, parameter, gradient, what it keeps, rate, step from 1, does it decay) -> parameter.


def sgd(train, p, g, kept, rate, step, decays):
    """torch.optim.SGD of its documentation, with dampening 0."""
    g = g + train.weight_decay * p * decays
    kept['m'] = train.momentum * kept['m'] + g if kept else g
    return p - rate * (g + train.momentum * kept['m'] if train.nesterov else kept['m'])


def lars(train, p, g, kept, rate, step, decays):
    """You et al. 2017, algorithm 1."""
    local = 1
    if decays and p.any():
        local = train.trust * np.linalg.norm(p) / (np.linalg.norm(g) + train.weight_decay * np.linalg.norm(p))
    kept['v'] = train.momentum * kept.get('v', 0) + rate * local * (g + train.weight_decay * p * decays)
    return p - kept['v']


def adam(train, p, g, kept, step, decays):
    """Its direction plus decay."""
    one, two = train.betas
    kept['m'] = one * kept.get('m', 0) + (1 - one) * g
    kept['v'] = two * kept.get('v', 0) + (1 - two) * g**2
    direction = kept['m'] / (1 - one**step) / (np.sqrt(kept['v'] / (1 - two**step)) + train.epsilon)
    return direction + train.weight_decay * p * decays


def adamw(train, p, g, kept, rate, step, decays):
    """Loshchilov & Hutter 2019, algorithm 2, its decay times the rate."""
    return p - rate * adam(train, p, g, kept, step, decays)


def lamb(train, p, g, kept, rate, step, decays):
    """You et al. 2020, algorithm 2."""
    update = adam(train, p, g, kept, step, decays)
    lengths = np.linalg.norm(p), np.linalg.norm(update)
    return p - rate * update * (lengths[0] / lengths[1] if decays and min(lengths) > 0 else 1)


def papers(config, params, gradients):
    """The same as `stepped`, of layers in flat dictionaries."""
    train, rate = config.train, learning_rate(config.train)
    one = {'sgd': sgd, 'lars': lars, 'lamb': lamb, 'adamw': adamw}[train.optimizer]
    kept = {name: {} for name in params}
    for step, gradient in enumerate(gradients):
        shortened = min(1, train.clip_norm / length(gradient)) if train.clip_norm else 1
        params = {
            name: one(train, p, shortened * gradient[name], kept[name], float(rate(step)), step + 1,
                      not {*name} & {*train.undecayed})
            for name, p in params.items()
        }  # fmt: skip
    return params


@pytest.mark.parametrize('undecayed', [(), NO_KERNEL, ('head', 'bn1', 'body')], ids=str)
@pytest.mark.parametrize(
    ('optimizer', 'share'),
    [('sgd', 'none'), ('adamw', 'none')]
    + [(adapted, share) for adapted in ('lars', 'lamb') for share in ('none', 'kernels', 'parameters')],
)
@pytest.mark.usefixtures('float64')
def test_steps_are_the_papers_for_every_layer_of_every_block(network, optimizer, undecayed, share):
    """A body's layers of several blocks are moved as those of a network that is not stacked."""
    params, gradients = network(share)
    config = settings(optimizer, share, undecayed=undecayed, clip_norm=10.0)
    after = apart(stepped(config, params, gradients))
    assert differ(after, papers(config, apart(params), list(map(apart, gradients)))) < 1e-9
    assert differ(after, apart(params)) > 0.01


CHANGES = {
    'sgd': ({'momentum': 0.8}, {'nesterov': True}),
    'lars': ({'momentum': 0.8}, {'trust': 0.2}),
    'lamb': ({'betas': (0.8, 0.999)}, {'betas': (0.9, 0.99)}, {'epsilon': 1e-2}),
    'adamw': ({'betas': (0.8, 0.999)}, {'betas': (0.9, 0.99)}, {'epsilon': 1e-2}),
}
OF_ALL = ({'weight_decay': 0.0}, {'clip_norm': 0.0}, {'clip_norm': 0.5}, {'undecayed': ()}, {'undecayed': ('scale',)})


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.usefixtures('float64')
def test_control_a_setting_that_differs_is_noticed(network, optimizer):
    params, gradients = network()
    start, flat = {'undecayed': NO_KERNEL, 'clip_norm': 1.0}, (apart(params), list(map(apart, gradients)))
    after = apart(stepped(settings(optimizer, **start), params, gradients))
    assert differ(after, papers(settings(optimizer, **start), *flat)) < 1e-9
    for change in CHANGES[optimizer] + OF_ALL:
        assert differ(after, papers(settings(optimizer, **{**start, **change}), *flat)) > 1e-5, change


@pytest.mark.parametrize('optimizer', ['lars', 'lamb'])
@pytest.mark.usefixtures('float64')
def test_control_a_body_that_is_moved_as_one_layer_is_noticed(network, optimizer):
    params, gradients = network()
    after, together = (apart(stepped(settings(optimizer, share), params, gradients)) for share in ('none', 'all'))
    assert differ(after, together) > 1e-4


@pytest.mark.parametrize(('optimizer', 'share_of_length'), [('lars', 0.1 * 0.1), ('lamb', 0.1)])
@pytest.mark.usefixtures('float64')
def test_a_kernels_first_step_is_a_share_of_its_length(network, optimizer, share_of_length):
    """Of LARS the rate times the trust, of LAMB the rate, however long the gradient is."""
    params, gradients = network()
    config = settings(optimizer, undecayed=NO_KERNEL, weight_decay=0.0)
    after, before = apart(stepped(config, params, gradients[:1])), apart(params)
    for name in (name for name in before if 'kernel' in name):
        moved = np.linalg.norm(after[name] - before[name])
        assert moved == pytest.approx(share_of_length * np.linalg.norm(before[name]), rel=1e-6)


@pytest.mark.usefixtures('float64')
def test_what_does_not_decay_moves_under_lars_as_under_sgd_and_under_lamb_as_under_adamw(network):
    """It is not adapted either. (One step: they differ in where momentum sees a rate that falls.)"""
    params, gradients = network()
    for adapted, plain in (('lars', 'sgd'), ('lamb', 'adamw')):
        one, other = (
            apart(stepped(settings(each, undecayed=NO_KERNEL), params, gradients[:1])) for each in (adapted, plain)
        )
        for name in one:
            assert np.allclose(one[name], other[name], rtol=1e-12, atol=0) == ('kernel' not in name), name


@pytest.mark.parametrize('optimizer', ['sgd', 'adamw'])
@pytest.mark.usefixtures('float64')
def test_where_the_gradient_is_0_what_decays_shrinks_by_rate_times_decay_and_the_rest_stands_still(network, optimizer):
    params, gradients = network()
    still = [jax.tree.map(np.zeros_like, gradient) for gradient in gradients[:2]]
    after = apart(stepped(settings(optimizer, undecayed=('head', 'bn2'), momentum=0.0), params, still))
    for name, leaf in apart(params).items():
        factor = 1 if 'head' in name or 'bn2' in name else (1 - 0.1 * 0.01) ** 2
        np.testing.assert_allclose(after[name], leaf * factor, rtol=1e-9)


@pytest.mark.usefixtures('float64')
def test_a_gradient_is_cut_to_the_norm_of_all_parameters_together_and_a_shorter_one_is_left(network):
    params, gradients = network()
    for gradient in gradients[:2]:
        free, cut = (
            apart(stepped(settings(weight_decay=0.0, clip_norm=norm), params, [gradient])) for norm in (0.0, 1.0)
        )
        total = length(apart(gradient))
        assert (total > 1) == (gradient is gradients[0])
        for name, leaf in apart(params).items():
            np.testing.assert_allclose(cut[name] - leaf, (free[name] - leaf) / max(1, total), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.usefixtures('float64')
def test_what_is_frozen_does_not_move_and_the_rest_moves_as_it_would(network, optimizer):
    params, gradients = network()
    zero = {part: jax.tree.map(np.zeros_like, params[part]) for part in ('stem', 'stage2')}  # as training gives them
    gradients = [gradient | zero for gradient in gradients]
    free = stepped(settings(optimizer, clip_norm=1.0), params, gradients)
    held = stepped(settings(optimizer, clip_norm=1.0, frozen=('stem', 'stage2')), params, gradients)
    for part in params:
        still = part in ('stem', 'stage2')
        jax.tree.map(np.testing.assert_array_equal, held[part], params[part] if still else free[part])
        assert differ_somewhere(free[part], params[part])  # decay would have moved it


def differ_somewhere(one, other):
    return any((a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


# What does not decay

BARE = {'norm': 'none', 'stage_blocks': (2, 1, 1)}


@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'stage_blocks': (1, 1, 1)},  # no body
        {'placement': 'original', 'shortcut': 'B', 'squeeze_excite': 4, 'norm': 'group', 'norm_groups': 2},
        {**BARE, 'placement': 'original', 'gain': 'fixup'},
        {**BARE, 'conv': 'scaled_standardized', 'gain': 'nf', 'shortcut': 'B'},
        {**BARE, 'shortcut': 'none', 'placement': 'original', 'pool': 'flatten', 'head_widths': (8, 8)},
        {'placement': 'original', 'shortcut': 'gate_exclusive'},
    ],
    ids=str,
)
def test_the_words_are_those_of_the_paths_and_without_all_kinds_but_kernels_these_alone_decay(make_arch, fields):
    arch = make_arch(**fields)
    params = jax.eval_shape(ResNet(arch).init_variables, jax.random.key(0))['params']
    paths = [[step.key for step in path] for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    assert {word for path in paths for word in path} | {*KINDS} == {*words(arch)}
    undecayed = configuration.load('configs/imagenet.py').train.undecayed
    assert all(path[-1] in KINDS for path in paths)
    assert [path for path in paths if {*path}.isdisjoint(undecayed)] == [path for path in paths if path[-1] == 'kernel']


@pytest.mark.parametrize('word', ['biases', 'stage4', 'bn3', '', 1])
def test_a_word_that_no_path_has_is_refused_with_those_there_are(word):
    with pytest.raises(UserError) as error:
        check(settings(undecayed=('head', word)))
    assert str(error.value) == (
        f"config.train.undecayed is {word!r}; it must hold words of the parameters' paths: kernel, bias, scale, gain, "
        'value, stem, conv1, bn1, stage1, entry, conv2, bn2, body, stage2, stage3, head, dense'
    )


# torch


@pytest.mark.torch
@pytest.mark.parametrize(
    ('changes', 'name', 'theirs'),
    [
        ({}, 'SGD', {'momentum': 0.9}),
        ({'nesterov': True}, 'SGD', {'momentum': 0.9, 'nesterov': True}),
        ({'optimizer': 'adamw', 'betas': (0.8, 0.99)}, 'AdamW', {'betas': (0.8, 0.99), 'eps': 1e-6}),
    ],
    ids=str,
)
def test_steps_are_those_of_torch_itself(changes, name, theirs):
    torch = pytest.importorskip('torch')
    config, random = settings(**changes), np.random.default_rng(1)
    start, gradients = random.normal(size=(5,)), random.normal(size=(STEPS, 5))
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = getattr(torch.optim, name)([parameter], lr=0.1, weight_decay=0.01, **theirs)
    for step, gradient in enumerate(gradients):
        optimizer.param_groups[0]['lr'] = float(learning_rate(config.train)(step))
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    with jax.enable_x64(True):
        after = stepped(config, {'kernel': start}, [{'kernel': gradient} for gradient in gradients])
        np.testing.assert_allclose(after['kernel'], parameter.detach().numpy(), rtol=1e-7)
