import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis.lesion import delete, deletion
from resnet_jax.analysis.recalibration import can_recalibrate, recalibrated, recalibrated_sweep
from tests.analysis.chunks import parts

FIELDS = {'placement': 'original', 'stage_blocks': (2, 3), 'widths': (4, 8)}


def batches(count, dtype='float64'):
    rng = np.random.default_rng(3)
    return [jnp.asarray(rng.normal(size=(6, 8, 8, 1)), dtype) for _ in range(count)]


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('examples', [0, 3])
def test_of_one_batch_evaluation_then_does_what_training_does_but_for_the_unbiased_variance(make_network, examples):
    """Where the variance of a channel is corrected by n / (n - 1); put back, the logits are those of training."""
    network, variables = make_network(**FIELDS, norm_examples=examples)
    whole = replace(network, arch=replace(network.arch, norm_examples=0))
    (images,), gates = batches(1), delete(network.intact_gates(), deletion(network.arch, [2, 4]))
    fresh = recalibrated(network, variables, [images], gates)
    pixels = {'stem': 64, 'stage1': 64, 'stage2': 16}  # of an image

    def biased(path, leaf):
        count = 6 * pixels[path[0].key]
        return leaf * (count - 1) / count if path[-1].key == 'var' else leaf

    fresh = fresh | {'batch_stats': jax.tree_util.tree_map_with_path(biased, fresh['batch_stats'])}
    evaluated = whole.apply(fresh, images, gates, train=False)
    trained, _ = whole.apply(variables, images, gates, train=True, mutable=['batch_stats'])
    np.testing.assert_allclose(evaluated, trained, rtol=1e-9)
    assert np.abs(evaluated - whole.apply(variables, images, gates, train=False)).max() > 1e-3


@pytest.mark.usefixtures('float64')
def test_of_several_batches_it_is_the_mean_and_nothing_else_changes(make_network):
    network, variables = make_network(**FIELDS)
    gates, several = delete(network.intact_gates(), deletion(network.arch, [3])), batches(3)
    each = [recalibrated(network, variables, [images], gates)['batch_stats'] for images in several]
    found = recalibrated(network, variables, several, gates)
    jax.tree.map(
        lambda mean, *one: np.testing.assert_allclose(mean, np.mean(one, axis=0), rtol=1e-12),
        found['batch_stats'], *each,
    )  # fmt: skip
    assert found['params'] is variables['params']
    # A channel's mean before any nonlinearity, by hand: what the stem's convolution gives.
    kernel = variables['params']['stem']['conv1']['kernel']
    images = np.concatenate(several)
    conv = jax.lax.conv_general_dilated(images, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    np.testing.assert_allclose(found['batch_stats']['stem']['bn1']['mean'], conv.mean((0, 1, 2)), rtol=1e-9)


def test_a_scaled_input_breaks_the_statistics_and_recalibration_mends_them(make_network):
    """The first stage's output, ten times as large, is another network in evaluation; with BN fresh, the same."""
    network, variables = make_network('float32', **FIELDS, norm_epsilon=0.0)
    ((images, labels),) = parts(network, variables, (40,))
    several = batches(2, 'float32')
    none = np.zeros((1, network.arch.blocks), bool)
    fresh = recalibrated(network, variables, several, network.intact_gates())
    scaled = jax.tree.map(lambda leaf: leaf, fresh)
    scaled['params']['stem']['conv1']['kernel'] = 10 * fresh['params']['stem']['conv1']['kernel']
    right = [recalibrated_sweep(network, each, several, [(images, labels)], none) for each in (fresh, scaled)]
    np.testing.assert_array_equal(*right)
    stale = [np.argmax(network.apply(each, images, train=False), axis=-1) for each in (fresh, scaled)]
    assert (stale[0] != stale[1]).any()


def test_a_sweep_is_one_lesion_after_the_other_and_compiles_once(make_network, caplog):
    network, variables = make_network('float32', **FIELDS)
    chunks, several = list(parts(network, variables, (20, 20))), batches(2, 'float32')
    lesions = np.stack([deletion(network.arch, each) for each in ([], [2], [3, 5])])
    told = []
    sweep = functools.partial(recalibrated_sweep, network, variables, several, chunks)
    found = sweep(lesions, progress=lambda *what: told.append(what))
    assert found.shape == (3, 40) and told == [('recalibrating', 3, 3)]
    for lesion, right in zip(lesions, found, strict=True):
        gates = delete(network.intact_gates(), lesion)
        fresh = recalibrated(network, variables, several, gates)
        expected = [np.argmax(network.apply(fresh, x, gates, train=False), axis=-1) == labels for x, labels in chunks]
        np.testing.assert_array_equal(right, np.concatenate(expected))
    with jax.log_compiles():
        sweep(~lesions)
        assert 'Finished XLA compilation' not in caplog.text


def test_networks_without_bn_of_their_own_or_that_draw_cannot_be_recalibrated(make_arch):
    assert can_recalibrate(make_arch())
    for fields in ({'norm': 'group'}, {'norm': 'none'}, {'share': 'all'}, {'survival': 0.5}, {'dropout': 0.1}):
        assert not can_recalibrate(make_arch(**fields))
