"""The gradient flow experiment: what it claims of measurements made up, and what it measures on a small run."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments._networks import network
from resnet_jax import config as configuration
from resnet_jax import experiment, spec
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.progress import silent
from resnet_jax.report.findings import Array
from resnet_jax.run import load
from resnet_jax.train.loop import train
from tests.experiments.made_up import the, verdicts

TINY = Path(__file__).parents[1] / 'tiny.py'

flow = experiment.find('gradient_flow')
CONFIG = flow.get_config('cpu')
STEPS = np.array([0, 33, 110, 330])


def made(name, seed=0, *, fall=0.0, cosine=0.5, along=-0.1, gap=1e-14, response=1.0, steps=STEPS):
    """A run: `fall`, log10 of the gradient's growth over a stage; `cosine` in front of a body; the rest everywhere."""
    config = network('cpu', name, seed)
    arch, count = spec.architecture(config), len(steps)
    entry = np.isin(np.arange(arch.blocks), arch.entry_blocks)
    by_block = np.where(entry, np.nan, 1.0) * np.ones((count, 1))
    arrays = {
        'step': steps, 'gradient': np.ones((count, arch.blocks + 1)), 'relative': 10**fall * by_block,
        'carried': cosine * by_block, 'cosine': cosine * by_block,
    }  # fmt: skip
    if arch.preactivated:
        examples = by_block[..., None] * np.ones(8)
        arrays |= {'residual_along': along * examples, 'residual_size': examples, 'gap': gap * by_block}
    else:
        arrays['response'] = response * np.ones((count, 2 * arch.blocks + 1))
    axes = ('checkpoint', 'one', 'two')
    return Measured(config, name, 330, {key: Array(each, axes[: each.ndim], '') for key, each in arrays.items()})


def runs(preact=None, residual=None, plain=None, responses=(1.2, 1.0, 0.8), apart=0.3, spread=0.01):
    """All runs of the cpu tier. `responses` of residual networks by depth; plain ones are `apart` above."""
    found = []
    for seed in CONFIG.seeds:
        found.append(made('preact_resnet56', seed, **preact or {}))
        for depth, response in zip(CONFIG.depths, responses, strict=True):
            more = {'response': response + spread * seed}
            found.append(made(f'resnet{depth}', seed, **more, **residual or {}))
            more['response'] += apart
            found.append(made(f'plain{depth}', seed, **more, **{'cosine': 0.0} | (plain or {})))
    return found


def test_what_the_papers_say_is_supported():
    found = verdicts(flow, runs(), CONFIG)
    assert len(found) == 11 and set(found.values()) == {'supported'}


def test_the_opposite_is_refuted():
    opposite = runs(
        {'gap': 1e-3, 'along': -0.9}, {'cosine': -0.2}, {'fall': 1.0, 'cosine': 0.3}, (0.8, 1.0, 1.2), -0.3
    )  # fmt: skip
    found = verdicts(flow, opposite, CONFIG)
    assert len(found) == 11 and set(found.values()) == {'refuted'}


def test_seeds_that_disagree_leave_it_undecided():
    found = [run for run in runs() if run.seed]
    other = runs({'gap': 1e-3, 'along': -0.9}, {'cosine': -0.2}, {'fall': 1.0, 'cosine': 0.3}, (0.8, 1.0, 1.2), -0.3)
    mixed = [run for run in other if not run.seed] + found
    assert set(verdicts(flow, mixed, CONFIG).values()) == {'undecided'}


def test_a_gradient_that_vanishes_is_as_unhealthy_as_one_that_explodes():
    for fall in (-0.5, 0.5):  # over three stages, each
        assert the(verdicts(flow, runs(plain={'fall': fall}), CONFIG), 'healthy', 'before') == 'refuted'


def test_a_run_alone_claims_of_its_own_terms_and_nothing_of_others():
    found = verdicts(flow, [made('preact_resnet56')], CONFIG)
    assert len(found) == 2 and set(found.values()) == {'supported'}
    assert verdicts(flow, [made('resnet56')], CONFIG) == {}
    assert any('no exact identity term' in note for note in flow.notes([made('resnet56')], CONFIG))


def test_without_a_checkpoint_of_the_start_nothing_is_claimed_of_it():
    pair = [made(name, steps=np.array([330])) for name in ('resnet56', 'plain56')]
    found = verdicts(flow, pair, CONFIG)
    assert any('after training' in said for said in found) and not any('before training' in said for said in found)


def test_the_main_network_must_have_blocks_within_a_stage():
    configs = {name: network('cpu', name) for name in ('resnet8', 'resnet14')}
    flow.check([spec.architecture(configs['resnet14'])])
    with pytest.raises(UserError, match='all blocks of this network enter a stage') as error:
        flow.check([spec.architecture(configs['resnet8'])])
    assert '\n' not in str(error.value)


# Measured


@pytest.fixture(scope='module')
def small_runs(tmp_path_factory):
    """The tiny run with a stage of three blocks and one of one, pre-activated and not."""
    where, found = tmp_path_factory.mktemp('runs'), []
    for placement in ('full_preactivation', 'original'):
        config = configuration.load(str(TINY))
        config.network.update(placement=placement, stage_blocks=(3, 1), widths=(4, 8))
        train(config, where / placement, lambda record: None)
        found.append(load(where / placement))
    return found


def test_it_is_measured_on_runs_at_every_checkpoint(small_runs, tmp_path):
    config = flow.get_config('cpu')
    config.update(statistics=16, examples=6, exact_examples=2)
    finding = experiment.perform(flow, small_runs, config, 'cpu', tmp_path, silent)
    exact, _ = finding.claims
    assert exact.verdict == 'supported'
    arrays = {name: array.values for name, array in finding.arrays.items()}
    for number in (1, 2):
        np.testing.assert_array_equal(arrays[f'run{number}.step'], [0, 13])
        assert arrays[f'run{number}.gradient'].shape == (2, 5)
        # The first stage keeps the shape, the only block of the second changes it.
        alike = [[True, True, True, False]] * 2
        for name in ('cosine', 'carried', 'relative'):
            np.testing.assert_array_equal(~np.isnan(arrays[f'run{number}.{name}']), alike)
        first, last = arrays[f'run{number}.gradient']
        assert not np.allclose(first, last)
    assert 'run1.response' not in arrays and arrays['run2.response'].shape == (2, 9) and 'run2.gap' not in arrays
    assert arrays['run1.residual_along'].shape == (2, 4, 2)
    inner = [False, True, True, False]
    np.testing.assert_array_equal(~np.isnan(arrays['run1.gap']), [inner] * 2)
    np.testing.assert_array_equal(~np.isnan(arrays['run1.term_size'][:, 1, :]), [inner] * 2)
    assert jnp.ones(1).dtype == jnp.float32  # float64 was for the terms alone
