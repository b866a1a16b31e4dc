"""Fine-tuning: a run that starts from the variables of another, with parts that stay as they were."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from resnet_jax import config as configuration
from resnet_jax import validity
from resnet_jax.errors import UserError
from resnet_jax.train.gradient import Targets
from resnet_jax.train.loop import train
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.start import make_network, starting_state, stored_state
from resnet_jax.train.step import train_step

TINY = Path(__file__).parents[1] / 'tiny.py'
FROZEN = ('stem', 'stage1')


def made(**settings):
    config = configuration.load(str(TINY))
    config.train.update(settings)
    return config


def start(config):

    return starting_state(make_network(config), make_optimizer(config), config)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A trained run."""
    run_dir = tmp_path_factory.mktemp('source')
    train(made(), run_dir, lambda record: None)
    return run_dir


def equal(one, other):
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), one, other)))


def test_everything_but_a_new_head_is_the_other_runs(source):
    there, here, fresh = stored_state(source), start(made(start_from=str(source))), start(made())
    for part in ('stem', 'stage1', 'stage2', 'stage3'):
        assert equal(here.params[part], there.params[part]) and not equal(here.params[part], fresh.params[part])
    assert equal(here.params['head'], fresh.params['head']) and not equal(here.params['head'], there.params['head'])
    assert equal(here.batch_stats, there.batch_stats)
    assert int(here.step) == 0 and equal(here.opt_state, fresh.opt_state)
    kept = start(made(start_from=str(source), new_head=False))
    assert equal(kept.params, there.params)


def test_frozen_parts_stay_to_the_bit_their_statistics_too(source, tmp_path):
    """Weight decay, momentum and batch statistics would each move them."""
    train(made(start_from=str(source), frozen=FROZEN), tmp_path, lambda record: None)
    before, after = stored_state(source), stored_state(tmp_path)
    for part in FROZEN:
        assert equal(after.params[part], before.params[part])
        assert equal(after.batch_stats[part], before.batch_stats[part])
    for part in ('stage2', 'stage3'):
        moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), after.params[part],
                             before.params[part])  # fmt: skip
        assert all(jax.tree.leaves(moved))
        assert not equal(after.batch_stats[part], before.batch_stats[part])


def test_what_leads_to_frozen_parts_alone_is_never_computed():

    def products(config):
        network, optimizer = make_network(config), make_optimizer(config)
        state = jax.eval_shape(lambda: starting_state(network, optimizer, config))
        images = jax.ShapeDtypeStruct((4, 8, 8, 1), np.float32)
        labels = jax.ShapeDtypeStruct((4,), np.int32)
        step = jax.jit(lambda state, images, labels: train_step(network, optimizer, state, images, Targets(labels)))
        text = step.lower(state, images, labels).compile().as_text() or ''
        return text.count(' convolution(') + text.count(' dot(')

    assert products(made(frozen=('stem', 'stage1', 'stage2'))) < 0.6 * products(made())


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        ({'network': {'widths': (4, 8, 12)}}, 'trained with network.widths [4, 8, 16], here it is [4, 8, 12]'),
        ({'network': {'norm': 'group', 'norm_groups': 4}}, "trained with network.norm 'batch', here it is 'group'"),
        ({'network': {'share': 'all'}}, "trained with network.share 'none', here it is 'all'"),
        ({'network': {'subsample': 'average'}}, "with network.subsample 'stride', here it is 'average'"),
        ({'data': {'normalize': 'pixel_mean'}}, "trained with data.normalize 'channel', here it is 'pixel_mean'"),
        ({'data': {'dataset': 'cifar10'}}, 'stem/conv1/kernel is [3, 3, 1, 4] there, [3, 3, 3, 4] here; the images'),
    ],
    ids=str,
)
def test_a_run_whose_variables_mean_something_else_is_refused_with_the_first_difference(source, settings, said):
    config = made(start_from=str(source))
    for section, changes in settings.items():
        config[section].update(changes)
    with pytest.raises(UserError) as error:
        start(config)
    assert said in str(error.value) and '\n' not in str(error.value)


def test_what_drops_in_training_alone_may_differ(source):
    config = made(start_from=str(source))
    config.network.update(dropout=0.1, norm_examples=32)
    assert int(start(config).step) == 0


def test_a_run_that_is_not_there_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match='holds no run'):
        start(made(start_from=str(tmp_path / 'none')))
    with pytest.raises(
        UserError, match=r"train\.frozen is \['stage4'\]; it must be among stem, stage1, stage2, stage3"
    ):
        validity.check(made(frozen=('stage4',)))


def test_a_fine_tuned_run_resumes_without_the_one_it_started_from(source, tmp_path):
    other = tmp_path / 'source'
    shutil.copytree(source, other)
    config = made(start_from=str(other))
    config.run.steps = 6
    train(config, tmp_path / 'run', lambda record: None)
    shutil.rmtree(other)
    config.run.steps = 13
    train(config, tmp_path / 'run', lambda record: None)
    assert int(stored_state(tmp_path / 'run').step) == 13


def test_a_run_that_could_not_start_leaves_the_directory_free(source, tmp_path):
    config = made(start_from=str(source))
    config.network.widths = (4, 8, 12)
    with pytest.raises(UserError, match=r'trained with network\.widths'):
        train(config, tmp_path, lambda record: None)
    assert not (tmp_path / 'config.json').exists()
