"""The amplifier experiment: what it claims of measurements made up, and what it measures on a small run."""

from pathlib import Path

import numpy as np
import pytest

from experiments._networks import network
from resnet_jax import config as configuration
from resnet_jax import experiment, spec
from resnet_jax.experiment import Measured
from resnet_jax.progress import silent
from resnet_jax.report.findings import Array
from resnet_jax.run import load
from resnet_jax.train.loop import train
from tests.experiments.made_up import the, verdicts

TINY = Path(__file__).parents[1] / 'tiny.py'
amplifier = experiment.find('amplifier')
CONFIG = amplifier.get_config('cpu')
STEPS = np.array([0, 330])


def made(name, seed=0, *, per_block=0.1, block=0.2, softmax=0.0, back=1.0, field=1.5, steps=STEPS):
    """A run: log10 of the relative gain grows by `per_block` a block; of a block's own gain it is `block`.

    `back`: log of the gradient's growth over that of the signal's; `field`: of the random layers.
    """
    config = network('cpu', name, seed)
    blocks, count = spec.architecture(config).blocks, len(steps)
    ones, places = np.ones((count, 1)), np.arange(blocks + 3)
    gain = 10 ** (per_block * places) * ones
    noise = 0.01 * np.random.default_rng(seed).normal(size=(2, len(CONFIG.seeds), CONFIG.layers))
    arrays = {
        'step': steps, 'random_gain': gain, 'random_relative': gain, 'adversarial_gain': gain,
        'adversarial_relative': gain, 'to_logits': gain[:, :-1], 'softmax': 10**softmax * np.ones(count),
        'block_rms': 10**block * ones * np.ones(blocks), 'block_largest': 10**block * ones * np.ones(blocks),
        'growth_forward': 2 * ones * np.ones(blocks), 'growth_back': 2**back * ones * np.ones(blocks),
        'mean_field_forward': field + noise[0], 'mean_field_back': field + noise[1],
    }  # fmt: skip
    axes = ('one', 'two')
    return Measured(config, name, 330, {key: Array(each, axes[: each.ndim], '') for key, each in arrays.items()})


def runs(residual=None, plain=None, preact=None, seeds=CONFIG.seeds):
    """All runs of the cpu tier, the main one first."""
    families = {'resnet': residual or {}, 'plain': plain or {}}
    found = [
        made(f'{family}{depth}', seed, **more)
        for depth in (56, 20, 8) for family, more in families.items() for seed in seeds
    ]  # fmt: skip
    return found + [made('preact_resnet56', seed, **preact or {}) for seed in seeds]


MORE, LESS = {'per_block': 0.2, 'block': 0.3, 'softmax': 0.5}, {'per_block': 0.1, 'block': 0.1, 'softmax': 0.1}


def test_where_residual_networks_amplify_more_the_project_is_right_and_philipp_is_not():
    found = verdicts(amplifier, runs(MORE, LESS), CONFIG)
    assert len(found) == 17
    assert {verdict for said, verdict in found.items() if 'gradient scale' in said} == {'refuted'}
    assert {verdict for said, verdict in found.items() if 'gradient scale' not in said} == {'supported'}


def test_where_plain_networks_amplify_more_philipp_is_right_and_the_project_is_not():
    found = verdicts(amplifier, runs(LESS | {'per_block': -0.1}, MORE), CONFIG)
    for said, verdict in found.items():
        if 'mean field' in said or 'ReLU' in said or 'squared gradient' in said:
            continue
        assert verdict == ('supported' if 'gradient scale' in said else 'refuted'), said


def test_seeds_that_disagree_leave_it_undecided():
    mixed = [*runs(MORE, LESS, seeds=(1, 2)), *runs(LESS | {'per_block': -0.1}, MORE, seeds=(0,))]
    found = verdicts(amplifier, mixed, CONFIG)
    rest = {verdict for said, verdict in found.items() if 'squared' not in said}
    assert rest == {'undecided'}


@pytest.mark.parametrize(('back', 'verdict'), [(1.0, 'supported'), (0.5, 'refuted'), (1.5, 'refuted')])
def test_blocks_must_grow_alike_forward_and_back(back, verdict):
    found = verdicts(amplifier, runs(preact={'back': back}), CONFIG)
    assert the(found, 'as it multiplies') == verdict


@pytest.mark.parametrize(('field', 'verdict'), [(1.5, 'supported'), (1.4, 'refuted'), (1.53, 'undecided')])
def test_random_layers_must_grow_as_the_mean_field_says(field, verdict):
    found = verdicts(amplifier, [made('resnet56', field=field)], CONFIG)
    assert len(found) == 2 and set(found.values()) == {verdict}


def test_the_random_layers_are_counted_and_shown_all():
    number = len(CONFIG.seeds) * CONFIG.layers
    of_layers = [claim for claim in amplifier.claims(runs(), CONFIG) if 'ReLU' in claim.statement]
    assert {claim.n for claim in of_layers} == {f'{number} layers of width 512, each with random weights of its own'}
    numbers = amplifier.figures(runs(), CONFIG)['mean_field'].numbers
    assert len(set(zip(numbers['seed'], numbers['layer'], strict=True))) == len(numbers['back']) == number


def test_the_coefficient_on_to_the_logits_is_shown_from_every_place():
    numbers = amplifier.figures(runs(), CONFIG)['places'].numbers
    places, onwards = np.array(numbers['place']), np.array(numbers['on to the logits'])
    np.testing.assert_allclose(onwards, np.where(places == places.max(), np.nan, 10 ** (0.1 * places)))
    said = amplifier.summary(runs(), CONFIG)
    assert said['plain 56, gradient scale coefficient from the first block to the logits'] == '1.26 first, 1.26 last'


def test_without_a_checkpoint_of_the_start_nothing_is_claimed_of_it():
    pair = [made(name, steps=STEPS[1:]) for name in ('resnet56', 'plain56')]
    found = verdicts(amplifier, pair, CONFIG)
    assert any('after training' in said for said in found) and not any('before training' in said for said in found)


# Measured


@pytest.fixture(scope='module')
def small_run(tmp_path_factory):
    """The tiny run, with a block that enters no stage."""
    where = tmp_path_factory.mktemp('runs') / 'small'
    config = configuration.load(str(TINY))
    config.network.update(placement='full_preactivation', stage_blocks=(2, 1), widths=(4, 8))
    train(config, where, lambda record: None)
    return load(where)


def test_it_is_measured_on_a_run_before_and_after_training(small_run, tmp_path):
    config = amplifier.get_config('cpu')
    config.update(statistics=16, examples=3, directions=2, iterations=3, width=32, layers=4)
    finding = experiment.perform(amplifier, [small_run, small_run], config, 'cpu', tmp_path, silent)
    assert [claim.form for claim in finding.claims] == ['shape', 'number', 'number']
    first, second = (
        {name.partition('.')[2]: array.values for name, array in finding.arrays.items() if name.startswith(run)}
        for run in ('run1', 'run2')
    )
    assert first.keys() - second.keys() == {'mean_field_forward', 'mean_field_back'}  # beside the main run alone
    arrays = first
    np.testing.assert_array_equal(arrays['step'], [0, 13])
    for kind in ('random', 'adversarial'):
        assert arrays[f'{kind}_gain'].shape == arrays[f'{kind}_relative'].shape == (2, 6)
        np.testing.assert_allclose(arrays[f'{kind}_gain'][:, 0], 1, rtol=1e-2)
        np.testing.assert_allclose(arrays[f'{kind}_relative'][:, 0], 1, rtol=1e-2)
    assert arrays['to_logits'].shape == (2, 5) and arrays['block_rms'].shape == arrays['block_largest'].shape == (2, 3)
    np.testing.assert_array_equal(np.isnan(arrays['growth_back']), [[False, False, True]] * 2)
    assert (arrays['softmax'] > 0).all() and (arrays['block_largest'] > arrays['block_rms']).all()
    assert arrays['mean_field_back'].shape == (len(config.seeds), 4)
