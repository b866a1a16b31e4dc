"""What is done layer by layer to the leaves of a whole network."""

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.per_layer import per_layer
from resnet_jax.models.stage import SHARED

SETTINGS = {'stage_blocks': (3, 1), 'widths': (4, 8), 'placement': 'original', 'shortcut': 'B', 'squeeze_excite': 4}


@pytest.mark.parametrize('share', SHARED)
def test_every_layer_is_seen_alone_in_the_shape_it_has_in_an_entry_block(make_network, share):
    _, variables = make_network('float32', **SETTINGS, share=share)
    params, seen = variables['params'], []
    largest = per_layer(lambda leaf: seen.append(leaf.shape) or jnp.max(leaf), params, share=share)
    for name, layer in params['stage1']['body'].items():
        for key, leaf in layer.items():
            shape = params['stage1']['entry'][name][key].shape
            assert shape in seen
            stacked = leaf.ndim > len(shape)
            assert stacked == (share == 'none' or (share == 'kernels' and 'kernel' not in layer))
            axes = tuple(range(stacked, leaf.ndim))
            np.testing.assert_array_equal(largest['stage1']['body'][name][key], np.max(leaf, axes))
    assert largest['head']['dense']['kernel'] == params['head']['dense']['kernel'].max()
    assert largest['stem']['conv1']['kernel'].shape == largest['stage2']['entry']['conv1']['kernel'].shape == ()


def test_other_trees_go_beside(make_network):
    _, variables = make_network('float32', **SETTINGS)
    params = variables['params']
    ratios = per_layer(lambda one, other: jnp.sum(one) / jnp.sum(other), params, params, share='none')
    np.testing.assert_allclose(ratios['stage1']['body']['conv1']['kernel'], [1, 1])
