"""Features: what each part of the network gives, held against the network put together from its parts by hand."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis.features import check_names, features
from resnet_jax.analysis.lesion import delete, deletion
from resnet_jax.errors import UserError
from resnet_jax.models.blocks import Position
from resnet_jax.models.resnet import one_block, stem
from resnet_jax.models.stage import block_of
from resnet_jax.models.suffix import part

NETWORKS = {
    'pre-activation': {},
    'original': {'placement': 'original'},
    'shared kernels': {'share': 'kernels'},
    'bottleneck': {'block': 'bottleneck', 'mid_ratios': (0.25, 0.25), 'stage_blocks': (1, 2, 4)},
}


@pytest.fixture
def images(float64):
    return jnp.asarray(np.random.default_rng(1).normal(size=(4, 8, 8, 1)))


def by_hand(network, variables, images, gates):
    """Every feature but pool, one part after the other."""
    arch, found = network.arch, {}
    found['stem'] = x = stem(arch).apply(part(variables, 'stem'), images, train=False)
    for index in range(arch.blocks):
        stage = sum(first <= index for first in arch.entry_blocks) - 1
        place = index - arch.entry_blocks[stage]
        if place == 0:
            own = part(variables, f'stage{stage + 1}', 'entry')
        else:
            body = part(variables, f'stage{stage + 1}', 'body')
            own = block_of(body, place - 1, arch.stage_blocks[stage] - 1, arch.share)
        block = one_block(arch, stage, entry=place == 0)
        x = block.apply(own, x, gates and gates.of(index), Position(index, place), train=False)
        found[f'block:{index + 1}'] = found[f'stage{stage + 1}'] = x
    found['logits'] = network.apply(variables, images, gates, train=False)
    return found


@pytest.mark.parametrize('lesion', [(), (2, 5)], ids=['intact', 'lesioned'])
@pytest.mark.parametrize('settings', NETWORKS.values(), ids=NETWORKS)
def test_every_feature_is_what_its_part_gives(make_network, images, settings, lesion):
    network, variables = make_network(**settings)
    gates = delete(network.intact_gates(), deletion(network.arch, lesion)) if lesion else None
    expected = jax.jit(partial(by_hand, network))(variables, images, gates)
    found = features(network, variables, images, gates, names=tuple(expected))
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_pool_is_the_mean_of_what_the_head_is_given(make_network, images):
    for placement in ('original', 'full_preactivation'):
        network, variables = make_network(placement=placement)
        found = features(network, variables, images, names=('stage3', 'pool', 'logits'))
        last = found['stage3']
        if placement == 'full_preactivation':
            bn = {kind: variables[kind]['head']['bn'] for kind in ('params', 'batch_stats')}
            scale = bn['params']['scale'] / jnp.sqrt(bn['batch_stats']['var'] + network.arch.norm_epsilon)
            last = jax.nn.relu((last - bn['batch_stats']['mean']) * scale + bn['params']['bias'])
        np.testing.assert_allclose(found['pool'], last.mean((1, 2)), rtol=1e-12)
        dense = variables['params']['head']['dense']
        np.testing.assert_allclose(found['logits'], found['pool'] @ dense['kernel'] + dense['bias'], rtol=1e-12)


def test_nothing_is_computed_behind_what_is_asked_for(make_network):
    network, variables = make_network('float32')
    images = jnp.zeros((4, 8, 8, 1))

    def operations(*names):
        cost: Any = features.lower(network, variables, images, names=names).compile().cost_analysis()
        return cost['flops']

    assert operations('stem') < 0.2 * operations('stage1') < 0.2 * operations('logits')


def test_a_name_of_no_feature_is_refused_with_those_there_are(make_arch):
    check_names(make_arch(), ['stem', 'stage3', 'block:9', 'pool', 'logits'])
    for name in ('stage4', 'block:0', 'block:10', 'block', 'head', ''):
        with pytest.raises(UserError) as error:
            check_names(make_arch(), ['stem', name])
        assert str(error.value) == (
            f'there is no feature {name!r}; there are stem, stage1, stage2, stage3, block:1 to block:9, pool, logits'
        )
