"""The permutation experiment: what it claims of measurements made up here, and what it measures on a real network."""

import functools
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from resnet_jax import config as configuration
from resnet_jax import experiment, spec
from resnet_jax.analysis import order
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.models import zoo
from resnet_jax.report.findings import Array
from resnet_jax.run import Run
from tests.analysis.chunks import one_by_one, parts

permutation = experiment.find('permutation')
DRAWS = 30
CONFIG = permutation.get_config('cpu')
CONFIG.update(draws=DRAWS, resamples=200)
SWAPS = np.array(CONFIG.swaps)


@functools.cache
def drawn(depth):
    """τ and distances of random swaps of a residual network."""
    arch, rng = made_config(depth, 'preact_resnet', 'A', 'digits')[1], np.random.default_rng(0)
    orders = [order.random_swaps(rng, arch, count) for count in CONFIG.swaps for _ in range(DRAWS)]
    taus = np.array([order.kendall_tau(arch, each) for each, _ in orders])
    return taus.reshape(-1, DRAWS), np.array([distance for _, distance in orders]).reshape(-1, DRAWS)


@functools.cache
def made_config(depth, family, shortcut, data):
    config = default.get_config()
    config.network.update(zoo.settings(f'{family}{depth}'))
    config.network.shortcut, config.data.dataset = shortcut, data
    return config, spec.architecture(config)


def made(
    depth=110, family='preact_resnet', shortcut='A', *, data='digits', slope=300.0, noise=2.0, one=0.0
) -> Measured:
    """A run whose error rises by `slope` a unit of 1 - τ; with one swap it is `one` above that."""
    config, _ = made_config(depth, family, shortcut, data)
    taus, distances = drawn(depth)
    errors = 6 + slope * (1 - taus) + noise * np.random.default_rng(1).normal(size=taus.shape)
    errors[0] += one
    arrays = {'swaps': SWAPS, 'tau': taus, 'distance': distances, 'error': np.clip(errors, 0, 100),
              'intact_error': np.array(6.0), 'examples': np.array(360)}  # fmt: skip
    axes = {0: (), 1: ('swap',), 2: ('swap', 'draw')}
    arrays = {name: Array(values, axes[values.ndim], '') for name, values in arrays.items()}
    return Measured(config, configuration.title(config.network), 330, arrays)


def verdict(measured, statement):
    (claim,) = (claim for claim in permutation.claims(measured, CONFIG) if statement in claim.statement)
    return claim.verdict


VERDICTS = {  # statement, the measurements, then what makes it supported, refuted and undecided
    'The further the order': (
        lambda **said: [made(**said)], {}, {'slope': -20.0}, {'slope': 0.0},
    ),
    'grows with the number of swaps': (
        lambda **said: [made(**said)], {}, {'slope': -20.0}, {'slope': 20.0, 'noise': 3.0},
    ),
    'matters as in the paper': (
        lambda **said: [made(data='cifar10', **said)], {}, {'slope': 0.0}, {'slope': 40.0, 'noise': 2.5},
    ),
    'the order matters more': (
        lambda **said: [made(), made(56), made(56, shortcut='none', **said)],
        {'one': 40.0}, {'one': -5.0}, {'one': 0.0, 'noise': 3.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize('statement', VERDICTS)
@pytest.mark.parametrize(('place', 'expected'), [(0, 'supported'), (1, 'refuted'), (2, 'undecided')])
def test_each_claim_can_be_supported_refuted_and_undecided(statement, place, expected):
    make, *cases = VERDICTS[statement]
    assert verdict(make(**cases[place]), statement) == expected


def test_every_claim_that_can_be_made_is_in_the_test_above():
    measured = [made(data='cifar10'), made(56), made(56, shortcut='none')]
    statements = [claim.statement for claim in permutation.claims(measured, CONFIG)]
    assert len(statements) == len(VERDICTS)
    assert all(sum(part in statement for part in VERDICTS) == 1 for statement in statements)


def test_the_papers_number_is_tested_on_its_data_and_network_alone():
    for fields, numbers in (({'data': 'cifar10'}, 1), ({}, 0), ({'data': 'cifar10', 'depth': 56}, 0)):
        run = made(**fields)
        assert sum(claim.form == 'number' for claim in permutation.claims([run], CONFIG)) == numbers
        assert any('only the shape' in note for note in permutation.notes([run], CONFIG)) == (not numbers)


def test_a_plain_network_alone_claims_nothing():
    assert permutation.claims([made(56, shortcut='none')], CONFIG) == []


def test_an_error_that_never_changes_has_no_rank():
    run = made(slope=0.0, noise=0.0)
    assert [claim.measured for claim in permutation.claims([run], CONFIG)] == [0.0, 0.0]


def test_figures_have_their_numbers_and_claims_their_figures():
    for measured in ([made()], [made(), made(56), made(56, shortcut='none')]):
        drawings = permutation.figures(measured, CONFIG)
        for drawing in drawings.values():
            assert len({len(column) for column in drawing.numbers.values()}) == 1
        assert {claim.figure for claim in permutation.claims(measured, CONFIG)} <= {
            f'permutation_{d}' for d in drawings
        }
        summary = permutation.summary(measured, CONFIG)
        assert summary['test error, trained order'] == '6.00 %' and 'pairs swapped: 10, median' in summary


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        ({'stage_blocks': (2, 2, 1)}, r'no stage of this network \(stage_blocks \[2, 2, 1\]\) has two blocks of equal'),
        ({'share': 'all', 'placement': 'original'}, 'the blocks of a stage of this network are one and the same'),
    ],
)
def test_networks_without_an_order_are_refused_before_anything_is_computed(make_arch, fields, said):
    permutation.check([make_arch(), make_arch(**fields)])  # only the main one counts
    with pytest.raises(UserError, match=said) as refused:
        permutation.check([make_arch(**fields)])
    assert '\n' not in str(refused.value)


@pytest.mark.parametrize('tier', experiment.TIERS)
def test_it_names_networks_that_it_can_be_measured_on(tier):
    archs = [spec.architecture(config) for config in permutation.runs(permutation.get_config(tier))]
    assert [(arch.blocks, arch.plain) for arch in archs] == [(54, False), (27, False), (27, True)]
    permutation.check(archs)


def run_of(network, variables) -> Run:
    """What `measure` takes of a run."""
    chunks = list(parts(network, variables, (30, 30)))
    run: Run = SimpleNamespace(network=network, variables=variables, chunks=lambda split: chunks)  # pyright: ignore[reportAssignmentType]
    return run


def test_measuring_swaps_blocks_and_says_how_far_the_order_is(make_network):
    network, variables = make_network('float32', stage_blocks=(4, 3), widths=(4, 8))
    run, config = run_of(network, variables), permutation.get_config('cpu')
    config.update(swaps=(0, 1, 4), draws=3)
    found = {name: array.values for name, array in permutation.measure(run, config, lambda *_: None).items()}
    none = np.zeros((1, network.arch.blocks), bool)
    intact = 100 * (1 - one_by_one(network, variables, run.chunks('test'), none).mean())
    np.testing.assert_allclose(found['error'][0], intact)
    np.testing.assert_allclose(found['intact_error'], intact)
    np.testing.assert_array_equal(found['tau'][0], 1)
    np.testing.assert_array_equal(found['distance'][0], 0)
    # Of seven blocks there are 21 pairs; a swap at distance d puts 2d - 1 the other way round.
    np.testing.assert_allclose(found['tau'][1], 1 - 2 * (2 * found['distance'][1] - 1) / 21)
    assert (found['error'][1:] != intact).any() and found['examples'] == 60
    again = permutation.measure(run, config, lambda *_: None)
    np.testing.assert_array_equal(again['error'].values, found['error'])


def test_of_a_network_without_two_blocks_to_swap_the_error_alone_is_measured(make_network):
    network, variables = make_network('float32', stage_blocks=(2, 1), widths=(4, 8))
    found = permutation.measure(run_of(network, variables), CONFIG, lambda *_: None)
    assert found['error'].values.shape == (0, DRAWS) and jnp.isfinite(found['intact_error'].values)
