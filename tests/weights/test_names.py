"""The names: every leaf is a tensor of its own, and what is laid out for torch comes back to the bit."""

import jax
import numpy as np
import pytest

from resnet_jax import config as configuration
from resnet_jax.errors import UserError
from resnet_jax.models import zoo
from resnet_jax.weights import names
from resnet_jax.weights.names import Tensor


def network(name, **changes):
    """The config of a network on CIFAR-10, with these settings changed."""
    config = configuration.load('configs/default.py')
    config.network.update(zoo.settings(name))
    config.network.update(changes)
    return config


@pytest.mark.parametrize('name', ['resnet18', 'resnet50d', 'seresnet50', 'preact_resnet200', 'nf_resnet50', 'vgg19'])
def test_every_number_of_every_leaf_belongs_to_one_tensor(architecture, name):
    arch = architecture(name)
    leaves = {
        tuple(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(names.shapes(arch))
    }  # fmt: skip
    for theirs in names.libraries(arch).values():
        tensors = names.tensors(arch, theirs)
        assert len({tensor.name for tensor in tensors}) == len(tensors)
        of_leaves = {}
        for tensor in tensors:
            of_leaves.setdefault(tensor.path, []).append(tensor.block)
            assert np.prod(tensor.shape) == np.prod(tensor.view)
        assert of_leaves.keys() == leaves.keys()
        for path, blocks in of_leaves.items():
            assert blocks == (list(range(leaves[path].shape[0])) if 'body' in path else [None])


def test_what_is_the_same_in_both_libraries_has_torchvisions_names_first(architecture):
    assert list(names.libraries(architecture('resnet50'))) == ['torchvision', 'timm']
    assert list(names.libraries(architecture('resnet50d'))) == ['timm']


LAYOUTS = {
    'convolution': ((2, 3, 5, 7), (7, 5, 2, 3), None),
    'dense': ((1, 1, 5, 7), (7, 5), None),
    'dense as a convolution': ((1, 1, 5, 7), (7, 5, 1, 1), None),
    'flattened map': ((2, 2, 5, 7), (7, 20), None),
    'vector': ((5,), (5,), None),
    'gain of a body': ((5,), (5, 1, 1, 1), 2),
    'convolution of a body': ((3, 3, 2, 7), (7, 2, 3, 3), 1),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts_are_undone_to_the_bit(layout):
    view, shape, block = LAYOUTS[layout]
    own = (np.prod(view[:-1]), view[-1]) if layout in ('dense', 'flattened map') else view
    leaf = np.random.default_rng(0).standard_normal(own if block is None else (3, *own), np.float32)
    tensor = Tensor('', shape, ('leaf',), block, view)
    there = names.take(tensor, {'leaf': leaf})
    assert there.shape == shape
    back = leaf.copy()
    (back if block is None else back[block])[...] = 0
    names.put(tensor, there, {'leaf': back})
    np.testing.assert_array_equal(back, leaf)


def test_a_flattened_map_is_channel_first_in_torch():
    height, width, channels = 2, 2, 3
    theirs = np.arange(12, dtype=np.float32).reshape(channels, height, width)  # the features of one image
    tensor = Tensor('', (1, 12), ('leaf',), None, (height, width, channels, 1))
    leaf = np.zeros((12, 1), np.float32)
    names.put(tensor, theirs.reshape(1, -1), {'leaf': leaf})
    np.testing.assert_array_equal(leaf.reshape(height, width, channels), theirs.transpose(1, 2, 0))


@pytest.mark.parametrize('name', ['resnet18', 'resnet50', 'resnet50_v1', 'nf_resnet50', 'vgg19'])
def test_a_run_is_known_by_what_it_computes(name):
    assert names.reference(network(name)) == name
    assert names.reference(network(name, norm_momentum=0.99, head_dropout=0.1, norm_examples=32)) == name


@pytest.mark.parametrize('changes', [
    {'dropout': 0.3}, {'gate_bias': -3.0}, {'shortcut_dropout': 0.1}, {'norm_groups': 8}, {'nf_alpha': 0.5},
    {'dense': 'between'}, {'dense_join': 'concatenate'}, {'stem_strides': (1,) * 7}, {'zero_channels': 'behind'},
], ids=lambda changes: next(iter(changes)))  # fmt: skip
def test_settings_without_effect_in_evaluation_do_not_matter(changes):
    assert names.reference(network('resnet18', **changes)) == 'resnet18'


def test_every_reference_computes_something_of_its_own():
    for name in ('resnet50', 'resnet50_v1', 'resnet50c', 'resnet50d', 'wide_resnet50_2', 'preact_resnet50'):
        assert names.reference(names.settings(name)) == name


def test_what_a_library_computes_otherwise_under_the_same_names_is_said():
    assert [name for name in names.REFERENCES if names.difference(name)] == [
        'resnet50_v1', 'resnet101_v1', 'resnet152_v1', 'resnet200_v1',
    ]  # fmt: skip
    assert 'resnet50_v1 strides in the first 1x1 of a block' in names.difference('resnet50_v1')


def test_how_the_branches_began_does_not_matter():
    assert names.reference(network('resnet50', gain='zero_gamma')) == 'resnet50'


@pytest.mark.parametrize(('name', 'changes'), [
    ('plain18', {}), ('resnet20', {}), ('resnet50', {'norm_epsilon': 1e-3}), ('resnet50', {'survival': 0.8}),
    ('resnet50', {'gain': 'skipinit'}), ('vgg19_small', {}), ('resnet18', {'share': 'kernels'}),
    ('resnet18', {'conv': 'standardized'}), ('nf_resnet50', {'nf_alpha': 0.5}), ('resnet18', {'pool': 'max'}),
])  # fmt: skip
def test_what_computes_something_else_has_no_counterpart(name, changes):
    with pytest.raises(UserError, match='neither torchvision nor timm has a network like this'):
        names.reference(network(name, **changes))


@pytest.mark.parametrize('name', ['plain34', 'resnet20', 'wrn28_10'])
def test_an_architecture_without_counterpart_is_refused(name):
    with pytest.raises(UserError, match=f'neither torchvision nor timm has {name}; they have resnet18, '):
        names.settings(name)


def test_an_unknown_architecture_is_answered_with_the_nearest():
    with pytest.raises(UserError, match='did you mean resnext50_32x4d'):
        names.settings('resnext50_32x4')
