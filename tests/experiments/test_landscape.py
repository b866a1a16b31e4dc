"""The landscape experiment: what it claims of measurements made up here, and what it measures on tiny runs."""

import jax
import numpy as np
import pytest

from experiments._networks import network
from resnet_jax import experiment, laboratory
from resnet_jax.analysis.landscape import loss
from resnet_jax.experiment import Measured
from resnet_jax.progress import silent
from resnet_jax.report.findings import Array

landscape = experiment.find('landscape')
CONFIG = landscape.get_config('cpu')


# Measurements made up


def made_up(family, depth, seed, *, centre=0.01, height=1.0, lowest=-0.1, highest=1.0, top=2.0, bulk=0.99):
    """A hole of `height`, Hessians alike everywhere, and a spectrum of two eigenvalues."""
    step, coarse = np.linspace(-1, 1, 5), np.linspace(-1, 1, 3)
    bowl = np.full((5, 5), centre + height)
    bowl[2, 2] = centre
    arrays = {
        'step': Array(step, ('point',), ''),
        'loss': Array(bowl, ('point', 'point'), 'nats'),
        'hessian_step': Array(coarse, ('hessian point',), ''),
        'lowest': Array(np.full((3, 3), lowest), ('hessian point',) * 2, ''),
        'highest': Array(np.full((3, 3), highest), ('hessian point',) * 2, ''),
        'eigenvalue': Array(np.array([[0.001 * top, top]]), ('draw', 'lanczos step'), ''),
        'weight': Array(np.array([[bulk, 1 - bulk]]), ('draw', 'lanczos step'), ''),
    }
    return Measured(network('cpu', f'{family}{depth}', seed), f'{family}{depth}', 330, arrays)


def everything(depths=(56, 20), seeds=(0, 1, 2), plain=lambda depth, seed: {}, **residual):
    """Residual networks as `residual` says, plain ones as `plain` does by depth and seed."""
    return [
        made_up(family, depth, seed, **(residual if family == 'resnet' else plain(depth, seed)))
        for depth in depths
        for family in ('resnet', 'plain')
        for seed in seeds
    ]


def verdicts(measured):
    return {claim.statement: claim.verdict for claim in landscape.claims(measured, CONFIG)}


def verdict(measured, statement):
    (found,) = (verdict for said, verdict in verdicts(measured).items() if statement in said)
    return found


VERDICTS = {  # statement -> what of the plain networks makes it supported, refuted
    'rises higher': ({'height': 2.0}, {'height': 0.5}),
    'further from convex': ({'lowest': -0.5}, {'lowest': -0.05}),
    'flatter minima (20': ({'top': 3.0}, {'top': 1.0}),
    'flatter minima (56': ({'top': 3.0}, {'top': 1.0}),
}


@pytest.mark.parametrize('statement', VERDICTS)
def test_a_claim_is_decided_by_all_seeds(statement):
    supporting, refuting = VERDICTS[statement]
    assert verdict(everything(plain=lambda depth, seed: supporting), statement) == 'supported'
    assert verdict(everything(plain=lambda depth, seed: refuting), statement) == 'refuted'
    one_against = everything(plain=lambda depth, seed: refuting if seed == 1 else supporting)
    assert verdict(one_against, statement) == 'undecided'


def test_of_plain_networks_the_deeper_is_held_against_the_shallower():
    for deep, expected in ((-0.5, 'supported'), (-0.01, 'refuted')):
        measured = everything(plain=lambda depth, seed, deep=deep: {'lowest': deep if depth == 56 else -0.1})
        assert verdict(measured, 'less convex (56 layers against 20)') == expected


@pytest.mark.parametrize(('bulk', 'expected'), [(0.99, 'supported'), (0.5, 'refuted')])
def test_the_share_near_zero_is_of_the_main_network(bulk, expected):
    assert verdict(everything(bulk=bulk), 'near zero') == expected


def test_one_run_of_ones_own_decides_nothing_and_says_why():
    measured = [made_up('plain', 56, 0)]
    assert verdicts(measured) == {'Nearly all eigenvalues of the Hessian are near zero': 'undecided'}
    assert 'plain twin' in landscape.notes(measured, CONFIG)[-1]
    assert list(landscape.figures(measured, CONFIG)) == ['surface', 'lines', 'curvature', 'spectrum']


def test_networks_of_other_settings_and_seeds_that_are_not_of_both_kinds_are_left_out():
    other = made_up('preact_resnet', 20, 0)
    measured = [*everything(), other, made_up('resnet', 56, 7, height=100.0)]
    assert verdicts(measured) == verdicts(everything())
    assert verdicts(everything(seeds=(0, 1))).keys() == {'Nearly all eigenvalues of the Hessian are near zero'}


BAD = {
    'untrained': {'centre': 2.302, 'height': 1e-6, 'lowest': -1e-9, 'highest': 1e-9},
    'exploding': {'height': np.inf},
    'without a Hessian': {'lowest': np.nan, 'highest': np.nan, 'top': np.nan, 'bulk': 0.0},
    'of negative curvature alone': {'highest': -1.0, 'top': -1.0},
    'without curvature': {'lowest': 0.0, 'highest': 0.0, 'top': 0.0},
}


@pytest.mark.parametrize('bad', BAD.values(), ids=BAD)
def test_a_badly_trained_network_is_reported_and_breaks_nothing(bad):
    for measured in (everything(plain=lambda depth, seed: bad), [made_up('plain', 56, 0, **bad)]):
        assert all(claim.verdict for claim in landscape.claims(measured, CONFIG))
        for drawn in landscape.figures(measured, CONFIG).values():
            assert len({len(column) for column in drawn.numbers.values()}) == 1
        assert len(landscape.summary(measured, CONFIG)) == 5


def test_minima_are_compared_where_all_networks_are_trained():
    measured = everything(plain=lambda depth, seed: {'centre': 2.0} if depth == 56 and seed == 2 else {})
    statements = ' '.join(verdicts(measured))
    assert 'minima (20' in statements and 'minima (56' not in statements
    assert any('These were not: plain56, seed 2.' in note for note in landscape.notes(measured, CONFIG))


# Measured


@pytest.fixture(scope='module')
def tiny_config():
    config = landscape.get_config('cpu')
    config.update(
        depths=(8,), seeds=(0,), grid=3, images=70, hessian_grid=1, hessian_images=40, batch=32, steps=3,
        spectrum_steps=4, draws=2,
    )  # fmt: skip
    return config


@pytest.fixture(scope='module')
def run(tmp_path_factory, tiny_config):
    """A plain network of eight layers, trained for three steps."""
    trained = landscape.runs(tiny_config)[-1]
    trained.network.update(stem_width=4, widths=(4, 8, 16))
    trained.train.schedule.update(steps=3, warmup_steps=1)
    trained.run.update(steps=3, log_every=3, eval_every=3, save_every=3, snapshots=())
    (opened,) = laboratory.prepare(tmp_path_factory.mktemp('lab'), [trained], silent)
    return opened


def test_what_is_measured_on_a_run_and_that_it_repeats(run, tiny_config):
    arrays = landscape.measure(run, tiny_config, silent)
    shapes = {name: array.values.shape for name, array in arrays.items()}
    assert shapes == {
        'step': (3,), 'loss': (3, 3), 'hessian_step': (1,), 'lowest': (1, 1), 'highest': (1, 1),
        'eigenvalue': (2, 4), 'weight': (2, 4),
    }  # fmt: skip
    # 64 of 70 images are whole batches of 32.
    expected = jax.jit(loss, static_argnums=0)(run.network, run.variables, *run.examples('train', 64))
    assert arrays['loss'].values[1, 1] == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(arrays['weight'].values.sum(axis=1), 1, rtol=1e-6)
    assert (arrays['lowest'].values < arrays['highest'].values).all()
    again = landscape.measure(run, tiny_config, silent)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name].values, array.values)
    measured = [Measured(run.config, run.title, run.step, arrays)]
    assert landscape.claims(measured, tiny_config) and landscape.figures(measured, tiny_config)


@pytest.mark.parametrize('tier', experiment.TIERS)
def test_the_main_network_comes_first_and_every_one_has_its_twin(tier):
    configs = landscape.runs(landscape.get_config(tier))
    assert len(configs) == 12
    names = [(config.network.stage_blocks[0], config.network.shortcut, config.seed) for config in configs]
    assert names[0] == (9, 'A', 0) and {(n, 'none', seed) for n in (9, 3) for seed in range(3)} < {*names}
