"""The paths experiment: what it claims of measurements made up here, and what it measures on runs of a dozen steps."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments._networks import network
from experiments._paths_claims import fitted, linearity
from resnet_jax import config as configuration
from resnet_jax import experiment, spec, validity
from resnet_jax.analysis.paths import shares
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.progress import silent
from resnet_jax.report.findings import Array
from resnet_jax.run import load
from resnet_jax.train.loop import train

TINY = Path(__file__).parents[1] / 'tiny.py'
EXAMPLES = 60
paths = experiment.find('paths')
CONFIG = paths.get_config('cpu')
CONFIG.resamples = 200


def made(name='preact_resnet110', *, tier='cpu', seed=0, active=0, error=2.0, norms=None):
    config = network(tier, name, seed)
    config.train.active_blocks = active
    norms = norms or {'path_norm': falling(), 'sum_norm': falling() * shares(54)[:, None]}
    arrays = {f'{kind}_{place}': values for kind, values in norms.items() for place in ('image', 'first_block')}
    arrays = {kind: Array(values, ('length', 'example'), '') for kind, values in arrays.items()}
    arrays['rounding'] = Array(np.full(EXAMPLES, 1e-6), ('example',), '')
    errors = {f'test_error{kind}': Array(np.array(error), (), '%') for kind in ('', '_fresh', '_weighted')}
    return Measured(config, name, 330, arrays | errors)


def falling(*factors, flat=0):
    """Norms (lengths, examples) along paths that fall by these factors a block, in equal parts of the examples, all of
    which bring as much in all; `flat` of them do not fall, from a thousandth on."""
    each = np.resize(np.array(factors or (0.3,), float), EXAMPLES)
    norms = each ** np.arange(55)[:, None]
    norms /= shares(54) @ norms
    norms[:, :flat] = 1e-3 * norms[0, -1]
    return norms * np.random.default_rng(0).uniform(0.5, 2, EXAMPLES)


def paths_of(*factors, tier='cpu', flat=0):
    norms = falling(*factors, flat=flat)
    return [made(tier=tier, norms={'path_norm': norms, 'sum_norm': norms * shares(54)[:, None]})]


def trained(*errors):
    """Three seeds trained with a subset, with these errors; whole they have 2 %."""
    pairs = [(made('preact_resnet56', seed=seed), made('preact_resnet56', seed=seed, active=12, error=error))
             for seed, error in enumerate(errors)]  # fmt: skip
    return [made(), *(each for pair in pairs for each in pair)]


# statement: what makes it supported, refuted and undecided
VERDICTS = {
    'falls exponentially': (paths_of, partial(paths_of, 3), partial(paths_of, flat=2)),
    'on the mean shorter than paths are': (paths_of, partial(paths_of, 2), partial(paths_of, 0.5, 2)),
    'by the exact sums': (paths_of, partial(paths_of, 2), partial(paths_of, 0.5, 2)),
    'go through 5 to 17': (
        partial(paths_of, tier='paper'),
        partial(paths_of, 1, tier='paper'),
        partial(paths_of, 0.3, 1, tier='paper'),
    ),
    'gives no worse a network': (
        partial(trained, 2.1, 2.2, 1.9),
        partial(trained, 5.0, 5.2, 5.4),
        partial(trained, 2.0, 3.0, 4.0),
    ),
}


@pytest.mark.parametrize('statement', VERDICTS)
@pytest.mark.parametrize(('place', 'expected'), [(0, 'supported'), (1, 'refuted'), (2, 'undecided')])
def test_each_claim_can_be_supported_refuted_and_undecided(statement, place, expected):
    (claim,) = (claim for claim in paths.claims(VERDICTS[statement][place](), CONFIG) if statement in claim.statement)
    assert claim.interval.low <= claim.measured <= claim.interval.high
    assert claim.verdict == expected


def test_every_claim_is_in_the_test_above_and_its_figure_is_drawn():
    config = paths.get_config('paper')
    config.resamples = 50
    pairs = [made(tier='paper'), made(tier='paper', active=23)]
    claims = paths.claims(pairs, config)
    assert len(claims) == len(VERDICTS)
    drawn = {f'paths_{name}' for name in paths.figures(pairs, config)}
    assert {claim.figure for claim in claims} == drawn
    for claim in claims:
        assert sum(part in claim.statement for part in VERDICTS) == 1


def test_numbers_are_held_against_the_papers_on_its_data_and_network_alone():
    forms = {claim.statement: claim.form for claim in paths.claims([made(tier='paper')], CONFIG)}
    assert [forms[each] for each in forms if 'exponentially' in each or '5 to 17' in each] == ['number'] * 2
    assert {claim.form for claim in paths.claims(paths_of(), CONFIG)} == {'shape'}
    assert len(paths.claims(paths_of(), CONFIG)) == 3
    assert any('only the shape of a claim is tested' in note for note in paths.notes(paths_of(), CONFIG))


def test_a_contribution_is_the_number_of_paths_times_their_mean_norm():
    """Σ binomial(n, k) r^k = (1 + r)^n, whose mean length is n r / (1 + r)."""
    found = paths.contributions(paths_of(0.25)[0], 'path_norm', 'image')
    assert found.sum() == pytest.approx(1)
    assert found @ np.arange(55) == pytest.approx(54 * 0.25 / 1.25)


def test_the_fit_finds_the_factor_and_tells_rising_from_falling_and_from_neither():
    line, factor = fitted(falling(0.3))
    assert factor == pytest.approx(0.3)
    np.testing.assert_allclose(line, falling(0.3).mean(axis=1))
    assert linearity(falling(0.3)) == pytest.approx(1) and linearity(falling(3)) == pytest.approx(-1)
    assert linearity(np.ones((5, 2))) == 0


def test_lengths_along_which_nothing_comes_back_are_left_out_of_the_fit():
    norms = falling(0.3)
    norms[50:] = 0
    assert linearity(norms) == pytest.approx(1) and fitted(norms)[1] == pytest.approx(0.3)
    assert paths.claims([made(norms={'path_norm': norms, 'sum_norm': norms})], CONFIG)


def test_the_runs_are_the_main_network_and_twins_that_differ_in_the_subset_alone():
    configs = paths.runs(CONFIG)
    for config in configs:
        validity.check(config)
    assert len({spec.identity(config) for config in configs}) == 7
    assert len(paths.runs(paths.get_config('paper'))) == 6  # the main one is one of them
    assert spec.architecture(configs[0]).blocks == 54 and not configs[0].train.active_blocks
    pairs = paths.pairs([Measured(config, '', 0, {}) for config in reversed(configs)])
    assert [(whole.seed, subset.seed, subset.config.train.active_blocks) for whole, subset in pairs] == [
        (seed, seed, 12) for seed in (0, 1, 2)
    ]


def test_a_network_without_paths_is_refused_as_the_main_run_alone():
    residual, plain = (spec.architecture(network('cpu', name)) for name in ('resnet8', 'plain8'))
    paths.check([residual, plain])
    with pytest.raises(UserError, match='paths are those of a network that adds its shortcuts'):
        paths.check([plain, residual])


# Measured


@pytest.fixture(scope='module')
def trained_runs(tmp_path_factory):
    """The tiny run, whole and with two of its three blocks a batch."""
    where, runs = tmp_path_factory.mktemp('runs'), []
    for active in (0, 2):
        config = configuration.load(str(TINY))
        config.train.active_blocks = active
        train(config, where / str(active), lambda record: None)
        runs.append(load(where / str(active)))
    return runs


def test_it_is_measured_on_runs_and_the_same_again(trained_runs, tmp_path):
    config = paths.get_config('cpu')
    config.update(examples=10, summed=10, batch=6, recalibration=300, resamples=50)
    finding = experiment.perform(paths, trained_runs, config, 'cpu', tmp_path, silent)
    assert [claim.form for claim in finding.claims] == ['shape'] * 4
    arrays = {name: array.values for name, array in finding.arrays.items()}
    assert 'run2.path_norm_image' not in arrays  # beside the main run
    first, second = ({name: array.values for name, array in paths.measure(run, config, silent).items()}
                     for run in trained_runs)  # fmt: skip
    for found in (first, second):
        assert found['rounding'].shape == (10,) and found['rounding'].max() < 1e-4
        for place in ('image', 'first_block'):
            sampled, summed = (found[f'{kind}_{place}'] for kind in ('path_norm', 'sum_norm'))
            assert sampled.shape == summed.shape == (4, 10)
            # Of length 0 and of length 3 there is one path.
            np.testing.assert_allclose(sampled[[0, 3]], summed[[0, 3]], rtol=1e-3)
            assert (np.abs(sampled[1] / summed[1] - 1) > 1e-2).any()
    for run, number in zip(trained_runs, (1, 2), strict=True):
        assert arrays[f'run{number}.test_error'] == run.evaluate('test').error
        assert 0 <= arrays[f'run{number}.test_error_fresh'] <= 100
    assert arrays['run1.test_error_weighted'] == arrays['run1.test_error']
    assert arrays['run2.test_error_weighted'] != arrays['run2.test_error']
    np.testing.assert_array_equal(first['path_norm_image'], arrays['run1.path_norm_image'])


def test_of_a_plain_network_beside_the_main_one_the_error_is_measured_alone():
    arch = spec.architecture(network('cpu', 'plain8'))
    run = SimpleNamespace(network=SimpleNamespace(arch=arch), evaluate=lambda split: SimpleNamespace(error=7.5))
    assert {name: float(array.values) for name, array in paths.measure_beside(run, CONFIG, silent).items()} == {
        'test_error': 7.5
    }
