"""The lesion experiment: what it measures on a real network."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from experiments._lesion_measure import draw_sets, error
from resnet_jax import experiment
from resnet_jax.analysis.lesion import delete, deletion
from resnet_jax.data import sources
from resnet_jax.progress import silent
from resnet_jax.run import Run

lesion = experiment.find('lesion')


@functools.cache
def classify(network):
    return jax.jit(lambda *given: jnp.argmax(network.apply(*given, train=False), axis=-1))


def run_of(network, variables) -> Run:
    """What `measure` takes of a run: sixty of the digits' test images."""
    data = default.get_config().data
    data.dataset = 'digits'
    splits = sources.load(data)

    def examples(split, count):
        there = getattr(splits, split)
        return (jnp.asarray(there.images[:count], jnp.float32) - 5) / 6, jnp.asarray(there.labels[:count])

    images, labels = examples('test', 60)
    labels = jnp.where(jnp.arange(60) % 3 == 0, labels, classify(network)(variables, images))

    def some(split, count):
        return (images[:count], labels[:count]) if split == 'test' else examples(split, count)

    run: Run = SimpleNamespace(
        network=network, variables=variables, chunks=lambda split: [(images, labels)], examples=some
    )  # pyright: ignore[reportAssignmentType]
    return run


def settings():
    config = lesion.get_config('cpu')
    config.update(draws=3, counts=(1, 2), stage_counts=(1, 2), examples=20, order_pairs=2, recalibration_batch=30)
    return config


def test_measuring_deletes_every_block_and_many_together(make_network):
    network, variables = make_network('float32', stage_blocks=(2, 3), widths=(4, 8))
    run, config = run_of(network, variables), settings()
    ((images, labels),) = run.chunks('test')
    found = {name: array.values for name, array in lesion.measure(run, config, silent).items()}

    def after(lesions):
        return np.asarray(classify(network)(variables, images, delete(network.intact_gates(), lesions)) == labels)

    np.testing.assert_array_equal(found['block'], range(1, 6))
    np.testing.assert_array_equal(found['is_entry'], [True, False, True, False, False])
    np.testing.assert_array_equal(found['stage'], [1, 1, 2, 2, 2])
    np.testing.assert_array_equal(found['intact_right'], after(deletion(network.arch, [])))
    sets = draw_sets(network.arch, config)
    for number in (1, 4):
        np.testing.assert_array_equal(found['single_right'][number - 1], after(deletion(network.arch, [number])))
    for name, drawn in (('error_without_entry', sets.without_entry), ('error_with_entry', sets.with_entry)):
        np.testing.assert_allclose(found[name][1, 2], error(after(drawn[1, 2])))
    assert np.isnan(found['error_by_stage'][0, 1]).all() and np.isfinite(found['error_by_stage'][1]).all()
    np.testing.assert_allclose(found['error_by_stage'][1, 1], error(after(deletion(network.arch, [4, 5]))))
    pair = list(map(tuple, found['pair'])).index((2, 5))
    np.testing.assert_array_equal(found['pair_right'][pair], after(deletion(network.arch, [2, 5]))[:20])
    nothing = after(deletion(network.arch, range(1, 6)))[:20].mean()
    np.testing.assert_allclose(found['shapley'].sum(axis=1), 100 * (found['intact_right'][:20].mean() - nothing))
    np.testing.assert_array_equal(found['twice_block'], [2, 4, 5])
    assert found['fresh_single_right'].shape == (5, 60) and found['fresh_error_without_entry'].shape == (2, 3)
    again = lesion.measure(run, config, silent)
    for name, array in again.items():
        np.testing.assert_array_equal(array.values, found[name], err_msg=name)


def test_of_networks_beside_the_main_one_every_block_is_deleted_alone(make_network):
    network, variables = make_network('float32', stage_blocks=(2, 3), widths=(4, 8))
    run = run_of(network, variables)
    found, beside = lesion.measure(run, settings(), silent), lesion.measure_beside(run, settings(), silent)
    assert set(beside) == {'block', 'is_entry', 'stage', 'intact_right', 'single_right'}
    for name, array in beside.items():
        np.testing.assert_array_equal(array.values, found[name].values)


def test_of_a_network_whose_blocks_all_enter_a_stage_each_is_deleted_alone(make_network):
    network, variables = make_network('float32', stage_blocks=(1, 1), widths=(4, 8))
    found = lesion.measure(run_of(network, variables), settings(), silent)
    assert found['single_right'].values.shape == (2, 60) and found['error_without_entry'].values.shape == (0, 3)
