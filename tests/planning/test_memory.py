"""What training holds, against the state that it starts from, and what a device holds of it."""

import dataclasses
import math

import jax
import pytest
from jax.sharding import AbstractMesh

from resnet_jax import config as configuration
from resnet_jax.models import zoo
from resnet_jax.planning import memory, setup
from resnet_jax.planning.setup import leaves
from resnet_jax.runtime import mesh
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.start import make_network
from resnet_jax.train.state import initial_state
from tests.planning import kept


def config(name, **settings):
    made = configuration.load('configs/default.py')
    made.network.update(zoo.settings(name))
    made.data.dataset = zoo.dataset(name)
    texts = {key.replace('__', '.'): str(value) for key, value in settings.items()}
    return configuration.overridden(made, texts).unlock()


def state_of(config):
    """The shapes of the state that training starts from."""
    network, optimizer = make_network(config), make_optimizer(config)
    return jax.eval_shape(lambda: initial_state(network, optimizer, 0, average=config.train.ema > 0))


def arrays(tree):
    """Bytes, but for the counters of steps."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if leaf.dtype != 'int32')


NETWORKS = {
    'resnet20': {}, 'resnet50': {}, 'preact_resnet110': {}, 'wrn16_4': {}, 'nf_resnet50': {}, 'vgg19': {},
    'resnext29_8x64d': {}, 'seresnet50': {}, 'resnet8': {'network__norm': 'none', 'network__gain': 'fixup'},
    'resnet32': {'network__share': 'kernels'}, 'resnet44': {'network__share': 'all'},
    'resnet56': {'network__share': 'parameters'}, 'resnet14': {'network__norm': 'group', 'network__norm_groups': 8},
}  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'optimizer'),
    [*((name, 'lamb') for name in NETWORKS), *(('resnet20', optimizer) for optimizer in ('sgd', 'lars', 'adamw'))],
)
def test_parameters_optimizer_and_average_are_those_of_the_initial_state(name, optimizer):
    made = config(name, **NETWORKS[name], train__optimizer=optimizer, train__ema=0.99)
    planned, state = memory.state(setup.setup(made, 1)), state_of(made)
    assert planned['parameters'] == arrays(state.params)
    assert planned['optimizer state'] == arrays(state.opt_state)
    assert planned['running statistics'] == arrays(state.batch_stats)
    assert planned['average (EMA)'] == arrays(state.params) + arrays(state.batch_stats)


@pytest.mark.parametrize('name', ['resnet20', 'resnet50', 'preact_resnet110', 'resnext29_8x64d'])
@pytest.mark.parametrize('parts', [2, 3, 8])
def test_a_devices_share_is_that_of_the_cut_arrays(name, parts):
    made = config(name, run__fsdp=parts, train__batch_size=144)
    params = state_of(made).params
    spread = mesh.cut(params, AbstractMesh((2, parts), ('data', 'fsdp')))
    shares = jax.tree.map(lambda leaf, sharding: math.prod(sharding.shard_shape(leaf.shape)), params, spread)
    planned = memory.parameters(setup.setup(made, 2 * parts))
    assert planned.own == sum(jax.tree.leaves(shares)) < planned.total
    # Gathered is what is cut: in float32 the rest is computed with as it is held.
    cut = [leaf.size for leaf, own in zip(jax.tree.leaves(params), jax.tree.leaves(shares), strict=True)
           if own < leaf.size]  # fmt: skip
    assert memory.gathered(setup.setup(made, 2 * parts)) == 4 * sum(cut)


def test_bfloat16_computes_with_a_copy_of_all_but_normalisation():
    made = setup.setup(config('resnet20', train__compute='bfloat16'), 1)
    norms = sum(leaf.size for leaf in leaves(made.arch) if leaf.wide)
    assert norms == 2 * 688 and memory.gathered(made) == 2 * (memory.parameters(made).total - norms)


def test_microbatches_keep_less_and_have_a_sum_of_gradients():
    one, four = (setup.setup(config('resnet20', train__microbatches=parts), 2) for parts in (1, 4))
    assert (one.at_once, four.at_once) == (64, 16)
    whole, parts = memory.held(one, None), memory.held(four, None)
    assert parts['kept for the backward pass'] == whole['kept for the backward pass'] / 4
    assert parts['gradients'] == 2 * whole['gradients']


def test_what_is_computed_again_is_a_block_or_a_stage():
    """resnet20: of a block its input is kept, of a stage that of its first; stem and head keep what they need."""
    none, block, stage = (setup.setup(config('resnet20', run__remat=how), 1) for how in ('none', 'block', 'stage'))
    (all_kept, nothing, _), (inputs, again, _), (fewer, more, _) = map(memory.activations, (none, block, stage))
    sizes = 32 * 32 * 16, 16 * 16 * 32, 8 * 8 * 64
    # Images, the stem's convolution and the sign of its ReLU; what the dense layer is given.
    ends = 4 * 32 * 32 * 3 + 4 * sizes[0] + sizes[0] + 4 * 64
    # A stage has three blocks, of which the first is given what the stage before it gives.
    assert inputs == ends + 4 * (4 * sizes[0] + 3 * sizes[1] + 2 * sizes[2])
    assert fewer == ends + 4 * (2 * sizes[0] + sizes[1])
    # Of a block: what its first BN, second convolution and second BN are given, and two signs; beside its input.
    assert again == (4 * 3 + 2) * sizes[0]
    assert more == 3 * again + 2 * 4 * sizes[0]
    assert nothing == 0 and inputs < all_kept


@pytest.mark.parametrize('scan_from', [1, 10_000], ids=['scanned', 'one by one'])
@pytest.mark.parametrize('remat', ['block', 'stage'])
@pytest.mark.parametrize(
    ('name', 'settings'),
    [('resnet20', {}), ('resnet50', {}), ('preact_resnet20', {}), ('wrn16_4', {'network__dropout': 0.3}),
     ('resnet32', {'network__share': 'all'}), ('vgg19', {}), ('resnet20', {'train__compute': 'bfloat16'})],
)  # fmt: skip
def test_the_bytes_kept_beside_what_is_computed_again_are_those_that_jax_keeps(name, settings, remat, scan_from):
    made = setup.setup(config(name, **settings, run__remat=remat), 1)
    planned, *_ = memory.activations(made)
    assert planned == kept.an_example(made.arch, made.compute, remat=remat, scan_from=scan_from)
    assert planned < 0.8 * memory.activations(made._replace(remat='none'))[0]  # the negative control


@pytest.mark.parametrize('remat', ['block', 'stage'])
def test_what_is_computed_again_is_what_the_largest_part_adds_to_a_network(remat):
    """Of resnet20 a block, or all three, of the first stage: what a network with twice that stage keeps more, but for
    inputs."""
    made = setup.setup(config('resnet20', run__remat=remat), 1)
    _, again, _ = memory.activations(made)
    more = {'block': (4, 3, 3), 'stage': (6, 3, 3)}[remat]
    longer = dataclasses.replace(made.arch, stage_blocks=more)
    assert again == kept.an_example(longer) - kept.an_example(made.arch) - 4 * 32 * 32 * 16


def test_images_stay_where_half_of_the_memory_holds_them():
    split, streamed = 50_000 * 32 * 32 * 3, 2 * 16 * 32 * 32 * 3
    made = setup.setup(config('resnet20'), 8)
    assert memory.images(made, None) == memory.images(made, 2 * split) == split
    assert memory.images(made, 2 * split - 1) == streamed
    assert memory.images(made._replace(placement='stream'), None) == streamed
    assert memory.images(made._replace(crop='random_resized'), None) == streamed
    assert memory.images(made._replace(placement='device'), 1e6) == split
