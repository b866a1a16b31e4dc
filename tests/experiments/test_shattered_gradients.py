"""The shattered gradients: what is claimed of measurements made up here, and what is measured on small networks."""

import numpy as np
import pytest

from experiments._shattered_measure import INDEPENDENT, ON_GRID, RESIDUAL
from resnet_jax import experiment
from resnet_jax.analysis import shattering
from resnet_jax.experiment import Measured
from resnet_jax.progress import silent
from resnet_jax.report.findings import Array
from tests.experiments.made_up import the, verdicts

shattered = experiment.find('shattered_gradients')
CONFIG = shattered.get_config('cpu')
DEPTHS = np.array(CONFIG.depths)
SPREAD = np.array([-1, -0.5, 0.5, 1])  # of four draws

# What is measured, in the mean over draws: on the grid at lag 1, then factors to what theory says of correlations.
USUAL = {
    'shallow': 0.97, 'centred': 0.0, 'bare': 0.74, 'strong': 0.64, 'weak': 0.9, 'linear': 1e-7,
    'halved': 1.0, 'uncentred': 40.0, 'three_quarters': 1.0, 'product': 1.0, 'root': 1.0,
    'plain8': 0.95, 'plain56': 0.0, 'resnet56': 0.8,
}  # fmt: skip


def made(growth=shattering.RELU_GROWTH, **different):
    """Four draws. `different`: other means, or (mean, spread); `growth`: of the variance in the product."""
    values = {
        name: np.multiply(*given) if name == 'linear' and isinstance(given, tuple) else drawn(given)
        for name, given in (USUAL | different).items()
    }
    arrays = on_grid(values) | on_independent_inputs(values, growth) | on_lines(values)
    return [Measured(None, '', 0, {name: Array(each, ('axis',) * each.ndim, '') for name, each in arrays.items()})]


def drawn(given):
    mean, spread = given if isinstance(given, tuple) else (given, 1e-4 * abs(given))
    return mean + spread * SPREAD


def on_grid(values):
    acf = np.full((len(ON_GRID), 4, 50, CONFIG.lags), 0.5)
    acf[..., 0] = 1
    places = {'shallow': (1, 2), 'centred': (1, 24), 'bare': (0, 50), 'strong': (4, 50), 'weak': (5, 50)}
    for name, (kind, depth) in places.items():
        acf[kind, :, depth - 1, 1] = values[name]
    lags = np.arange(CONFIG.lags)
    return {
        'kind': np.array([*ON_GRID]), 'depth': DEPTHS, 'autocorrelation': acf, 'white': 1.0 * (lags == 0),
        'brown': 0.97**lags, 'covariance': np.full((len(ON_GRID), 5, 4, 4), 0.5),
        'gradient': np.ones((len(ON_GRID), 5, 16)), 'looks_linear_gradient': np.ones((5, 16)),
        'looks_linear_variation': np.repeat(values['linear'][:, None], 50, axis=1),
    }  # fmt: skip


def on_independent_inputs(values, growth):
    layers = np.arange(1, 11)
    by_kind = dict.fromkeys(INDEPENDENT, np.full((4, 10), 0.5))
    by_kind['feed-forward'] = values['uncentred'][:, None] * 2.0**-layers
    by_kind['feed-forward, BN'] = values['halved'][:, None] * 2.0**-layers
    for kind in ('residual, no BN', 'residual, centred'):
        by_kind[kind] = 0.75 ** (layers - 1) / 2 * np.where(layers == 1, 1, values['three_quarters'][:, None])
    deep = []
    for scale in (1.0, 0.1):
        ratios = np.array([shattering.residual_correlation(scale, depth, growth) for depth in range(1, 51)])
        deep.append(0.5 * ratios * np.where(np.arange(50) == 0, 1, values['product'][:, None]))
    if (values['root'] != drawn(USUAL['root'])).any():
        deep[0] = np.arange(1.0, 51) ** -values['root'][:, None]
    return {
        'independent_kind': np.array([*INDEPENDENT]), 'correlation': np.array([*by_kind.values()]),
        'deep_kind': np.array([*RESIDUAL]), 'deep_correlation': np.array(deep),
    }  # fmt: skip


def on_lines(values):
    acf = np.full((3, 2, 4, CONFIG.lags), 0.5)
    for name, place in {'plain8': (0, 0), 'plain56': (2, 0), 'resnet56': (2, 1)}.items():
        acf[*place, :, 1] = values[name]
    return {'line_depth': np.array([8, 20, 56]), 'line_data': np.array('digits'), 'line_autocorrelation': acf}


PRODUCTS = [
    ((how, f'β = {scale}', f'{depth} layers'), {'growth': growth}, {'growth': growth, 'product': 2.0},
     {'growth': growth, 'product': (1.2, 0.1)})
    for how, growth in (('mean square', 1.0), ('deviation', shattering.RELU_GROWTH))
    for scale, depth in (('1,', 10), ('1,', 50), ('0.1,', 50))
]  # fmt: skip
# Words of the statement, then what makes it supported, refuted and undecided.
VERDICTS = [
    (('resembles brown noise',), {}, {'shallow': 0.5}, {'shallow': (0.87, 0.1)}),
    (('24 layers', 'mean-centred'), {}, {'centred': 0.5}, {'centred': (0.1, 0.1)}),
    (('does not whiten',), {}, {'bare': 0.1}, {'bare': (0.48, 0.1)}),
    (('keeps its structure',), {}, {'strong': 0.3}, {'strong': (0.54, 0.1)}),
    (('nearly that of a shallow one',), {}, {'weak': 0.5}, {'weak': (0.8, 0.1)}),
    (('smaller β',), {}, {'weak': 0.5}, {'weak': (0.64, 0.1)}),
    (('looks-linear',), {}, {'linear': 0.3}, {'linear': (1e-4, SPREAD + 1.5)}),
    *(((f'2^-L: {depth} layers',), {}, {'halved': 3.0}, {'halved': (1.4, 0.8)}) for depth in (1, 2, 4, 6)),
    (('more than twice',), {}, {'uncentred': 1.0}, {'uncentred': (2.0, 0.5)}),
    (('3/4', 'no BN'), {}, {'three_quarters': 3.0}, {'three_quarters': (1.2, 0.2)}),
    (('3/4', 'centred,'), {}, {'three_quarters': 3.0}, {'three_quarters': (1.2, 0.2)}),
    *PRODUCTS,
    (('one over the root',), {'root': 0.5}, {'root': 1.5}, {'root': (0.6, 0.1)}),
    (('shatter with depth',), {}, {'plain8': 0.0, 'plain56': 0.5}, {'plain8': (0.0, 0.1)}),
    (('plain convolutional network', '56'), {}, {'plain56': 0.5}, {'plain56': (0.1, 0.1)}),
    (('shatter less',), {}, {'resnet56': -0.3}, {'resnet56': (0.0, 0.1)}),
]


@pytest.mark.parametrize(
    ('words', 'supported', 'refuted', 'undecided'), VERDICTS, ids=[' '.join(v[0]) for v in VERDICTS]
)
def test_each_claim_can_be_supported_refuted_and_undecided(words, supported, refuted, undecided):
    for expected, different in (('supported', supported), ('refuted', refuted), ('undecided', undecided)):
        found = {claim.statement: claim.verdict for claim in shattered.claims(made(**different), CONFIG)}
        assert the(found, *words) == expected


def test_every_claim_is_in_the_test_above_and_has_a_figure():
    found = verdicts(shattered, made(), CONFIG)
    assert len(found) == len(VERDICTS)
    data = {claim.data for claim in shattered.claims(made(), CONFIG)}
    assert data == {'synthetic', 'digits'}


@pytest.fixture(scope='module')
def small():
    """Everything, on the smallest networks."""
    config = shattered.get_config('cpu')
    config.update(width=8, points=16, draws=3, linear_draws=4, depths=(2, 10, 24, 30), lags=6, sparse=2, wide=12,
                  inputs=10, wide_draws=2, line_depths=(8,), line_draws=2, line_batch=12)  # fmt: skip
    return config, shattered.measure(None, config, silent)


def test_what_is_measured_has_the_axes_that_are_told(small):
    config, arrays = small
    sizes = {
        'kind': 6, 'draw': 3, 'linear_draw': 4, 'depth': 4, 'depth_from_1': 30, 'shallow_depth_from_1': 10, 'lag': 6,
        'point': 8, 'other_point': 8, 'position': 16, 'independent_kind': 7, 'independent_draw': 2, 'deep_kind': 2,
        'line_depth': 1, 'line_draw': 2, 'plain_or_residual': 2,
    }  # fmt: skip
    for name, array in arrays.items():
        assert array.values.shape == tuple(sizes[axis] for axis in array.axes), name
        assert array.values.dtype.kind == 'U' or np.isfinite(array.values).all(), name
    measured = [Measured(None, '', 0, arrays)]
    assert len(verdicts(shattered, measured, config)) == len(VERDICTS)
    assert the(verdicts(shattered, measured, config), 'looks-linear') == 'supported'


def test_all_kinds_have_the_same_draws(small):
    _, arrays = small
    # The first layer, hence the network of one layer, has the same gradient with BN whatever comes behind.
    by_kind = dict(zip(ON_GRID, arrays['autocorrelation'].values[:, :, 0], strict=True))
    np.testing.assert_allclose(by_kind['feed-forward, BN'], by_kind['residual, BN, β = 1'], atol=1e-5)
    assert np.abs(by_kind['feed-forward, BN'] - by_kind['feed-forward']).max() > 1e-3
