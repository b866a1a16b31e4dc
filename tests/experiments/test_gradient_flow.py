"""The gradient flow experiment: what it claims of measurements made up, and what it measures on a small run."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments._networks import network
from resnet_jax import config as configuration
from resnet_jax import experiment, memory, spec
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


def made(name, seed=0, *, fall=0.0, cosine=0.5, along=-0.1, size=0.5, gap=1e-14, response=1.0, steps=STEPS):
    """A run: `fall`, log10 of the gradient's growth over a stage; `cosine` in front of a body; the rest everywhere.

    The residual term, of that `size` and `along` the identity term, comes from all branches alike.
    """
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
        within = np.where(entry | entry[:, None] | np.not_equal.outer(arch.stage_of, arch.stage_of), np.nan, 1.0)
        terms = np.triu(within / arch.blocks) * np.ones((count, 1, 1))
        arrays |= {
            'residual_along': along * examples, 'residual_size': size * examples, 'gap': gap * by_block,
            'term_along': along * terms, 'term_size': size * terms,
        }  # fmt: skip
    else:
        arrays['response'] = response * np.ones((count, 2 * arch.blocks + 1))
    axes = ('checkpoint', 'one', 'two')
    return Measured(config, name, 330, {key: Array(each, axes[: each.ndim], '') for key, each in arrays.items()})


def runs(preact=None, residual=None, plain=None, responses=(1.2, 1.0, 0.8), apart=0.3, spread=0.01):
    """All runs of the cpu tier. `responses` of residual networks by depth; plain ones are `apart` above."""
    found = []
    for seed in CONFIG.seeds:
        found += [made(f'preact_resnet{depth}', seed, **preact or {}) for depth in CONFIG.decomposed]
        for depth, response in zip(CONFIG.depths, responses, strict=True):
            more = {'response': response + spread * seed}
            found.append(made(f'resnet{depth}', seed, **more, **residual or {}))
            more['response'] += apart
            found.append(made(f'plain{depth}', seed, **more, **{'cosine': 0.0} | (plain or {})))
    return found


def test_what_the_papers_say_is_supported():
    found = verdicts(flow, runs(), CONFIG)
    assert len(found) == 13 and set(found.values()) == {'supported'}


def test_the_opposite_is_refuted():
    opposite = runs(
        {'gap': 1e-3, 'along': -0.9}, {'cosine': -0.2}, {'fall': 1.0, 'cosine': 0.3}, (0.8, 1.0, 1.2), -0.3
    )  # fmt: skip
    found = verdicts(flow, opposite, CONFIG)
    assert len(found) == 13 and set(found.values()) == {'refuted'}


def test_seeds_that_disagree_leave_it_undecided():
    found = [run for run in runs() if run.seed]
    other = runs({'gap': 1e-3, 'along': -0.9}, {'cosine': -0.2}, {'fall': 1.0, 'cosine': 0.3}, (0.8, 1.0, 1.2), -0.3)
    mixed = [run for run in other if not run.seed] + found
    assert set(verdicts(flow, mixed, CONFIG).values()) == {'undecided'}


def test_a_gradient_that_vanishes_is_as_unhealthy_as_one_that_explodes():
    for fall in (-0.5, 0.5):  # over three stages, each
        assert the(verdicts(flow, runs(plain={'fall': fall}), CONFIG), 'healthy', 'before') == 'refuted'


def test_a_network_alone_claims_of_its_own_terms_and_nothing_of_others():
    found = verdicts(flow, [made('preact_resnet56', seed) for seed in CONFIG.seeds], CONFIG)
    assert len(found) == 2 and set(found.values()) == {'supported'}
    assert verdicts(flow, [made('resnet56')], CONFIG) == {}
    assert any('no exact identity term' in note for note in flow.notes([made('resnet56')], CONFIG))


def test_a_claim_says_on_how_many_seeds_and_images_it_rests():
    of_terms, others = set(), set()
    for claim in flow.claims(runs(), CONFIG):
        (of_terms if claim.figure == 'gradient_flow_terms' else others).add(claim.n)
    assert (of_terms, others) == ({'3 seeds, 8 images'}, {'3 seeds, 64 images'})


def test_what_all_branches_add_is_shown_by_depth_with_its_cosine():
    numbers = flow.figures(runs(), CONFIG)['terms'].numbers
    assert set(numbers['network']) == {'preact ResNet 56', 'preact ResNet 20'}
    inner = ~np.isnan(numbers['cosine with it'])
    for label, value in (('along the identity term', -0.1), ('cosine with it', -0.2), ('size, relative to it', 0.5)):
        np.testing.assert_allclose(np.array(numbers[label])[inner], value)
    said = flow.summary(runs(), CONFIG)
    for name in ('preact ResNet 56', 'preact ResNet 20'):
        assert said[f'{name}, residual term at the end'].startswith('cosine -0.20 with the identity term, 0.50 of')


def test_branches_that_add_nothing_yet_have_no_cosine():
    found = [made('preact_resnet56', seed) for seed in CONFIG.seeds]
    for run in found:  # as with a scale of BN that starts at 0
        run['residual_along'][0] *= 0
        run['residual_size'][0] *= 0
    numbers = flow.figures(found, CONFIG)['terms'].numbers
    started, cosine = np.array(numbers['step']) > 0, np.array(numbers['cosine with it'])
    assert np.isnan(cosine[~started]).all() and not np.isnan(cosine[started]).all()


def test_each_branch_is_shown_by_itself_for_every_earlier_block_of_its_stage():
    numbers = flow.figures(runs(), CONFIG)['branches'].numbers
    shown = list(zip(numbers['at block'], numbers['branch of block'], strict=True))
    bodies = (range(2, 10), range(11, 19), range(20, 28))
    assert shown == [(block, branch) for body in bodies for block in body for branch in body if branch >= block]
    np.testing.assert_allclose(numbers['size, relative to the identity term'], 0.5 / 27)


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
    assert 0 < exact.measured < 1e-12 and exact.n == '1 seed, 2 images'
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


def test_nothing_depends_on_how_much_memory_there_is(small_runs, monkeypatch):
    config = flow.get_config('cpu')
    config.update(statistics=16, examples=6, exact_examples=2)
    whole = flow.measure(small_runs[1], config, silent)
    monkeypatch.setattr(memory, 'room', lambda: 1)  # an example at a time
    by_parts = flow.measure(small_runs[1], config, silent)
    for name, array in whole.items():
        np.testing.assert_allclose(by_parts[name].values, array.values, rtol=1e-5, atol=1e-7, err_msg=name)
