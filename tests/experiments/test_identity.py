"""The identity experiment: what is claimed of measurements made up here, and what is measured on small stacks."""

import numpy as np
import pytest

from resnet_jax import experiment
from resnet_jax.analysis.identity import KINDS
from resnet_jax.experiment import Measured
from resnet_jax.progress import silent
from resnet_jax.report.findings import Array
from tests.experiments.made_up import the, verdicts

identity = experiment.find('identity')
CONFIG = identity.get_config('cpu')
DEPTHS, STEPS = np.array(CONFIG.depths), np.array(CONFIG.steps)
SEEDS = np.array([0.9, 0.95, 1.0, 1.05, 1.1])


def made(*, residual=0.1, plain=2.0, control=0.1, grows=1.0, change=-1.0, plain_change=1.4, late=0.0, seeds=SEEDS):
    """Ends of all kinds. `grows`: the plain error's power of the depth; `change`: of the residual blocks' own;
    `late`: by how much residual stacks are further away than plain ones before the last step; `seeds`: factors."""
    error = np.ones((3, len(DEPTHS), len(seeds), len(STEPS)))
    error[0], error[2] = residual * seeds[:, None], control * SEEDS[:, None]
    error[1] = plain * DEPTHS[:, None, None] ** grows * SEEDS[::-1, None]
    if late:
        error[0, :, :, :-1] = late * error[1, :, :, :-1]
    changed = np.ones_like(error)
    changed[0] = 0.1 * DEPTHS[:, None, None] ** change * seeds[:, None]
    changed[1] = plain_change * SEEDS[:, None]
    arrays = {
        'kind': np.array(KINDS), 'depth': DEPTHS, 'step': STEPS, 'rate': np.full((3, len(DEPTHS)), 0.01),
        'tuning_error': np.ones((3, len(DEPTHS), 5, 2)), 'error': error, 'change': changed,
    }  # fmt: skip
    return [Measured(None, '', 0, {name: Array(each, ('axis',) * each.ndim, '') for name, each in arrays.items()})]


MIXED = np.array([0.01, 0.1, 1.0, 10, 100])
# Words of the statement, then what makes it supported, refuted and undecided.
VERDICTS = [
    (('ends nearer to an optimum',), {}, {'residual': 1e3}, {'residual': 5.0}),
    (('all the way',), {}, {'late': 5.0, 'residual': 1e3}, {'late': 5.0}),
    (('The deeper a plain stack',), {}, {'grows': -1.0}, None),
    (('does not even come as near',), {}, {'plain': 0.001}, {'plain': 1 / 32}),
    (('comes nearer than the identity',), {}, {'residual': 5.0}, {'residual': 1.0}),
    (('blocks of a trained residual stack',), {}, {'plain_change': 1e-4}, {'plain_change': 0.01}),
    (('The more residual blocks',), {}, {'change': 1.0}, None),
    (('starts as a residual one',), {}, {'control': 1e3}, {'control': 5.0}),
    (('no more than where',), {}, {'control': 10.0}, {'control': 0.2, 'seeds': MIXED}),
]


@pytest.mark.parametrize(('words', 'supported', 'refuted', 'undecided'), VERDICTS, ids=[v[0][0] for v in VERDICTS])
def test_each_claim_can_be_supported_refuted_and_undecided(words, supported, refuted, undecided):
    cases = {'supported': supported, 'refuted': refuted, 'undecided': undecided}
    for expected, different in cases.items():
        if different is not None:
            assert the(verdicts(identity, made(**different), CONFIG), *words) == expected


@pytest.mark.parametrize(
    ('name', 'kind', 'words'), [('error', 1, 'The deeper a plain stack'), ('change', 0, 'The more residual blocks')]
)
def test_an_order_that_differs_from_seed_to_seed_leaves_it_undecided(name, kind, words):
    (one,) = made()
    one[name][kind, :, ::2] = one[name][kind, ::-1, ::2]
    assert the(verdicts(identity, [one], CONFIG), words) == 'undecided'


def test_every_claim_is_in_the_test_above():
    assert len(verdicts(identity, made(), CONFIG)) == len(VERDICTS)


def test_what_diverged_counts_as_it_was_at_the_start():
    (one,) = made(grows=0.0)
    one['error'][0, :, :, 0] = 7.0
    one['error'][0, -1, :, 1:] = np.inf
    found = {claim.statement: claim for claim in identity.claims([one], CONFIG)}
    (claim,) = (claim for statement, claim in found.items() if 'comes nearer than the identity' in statement)
    assert claim.measured == pytest.approx(7.0) and claim.verdict == 'refuted'
    assert any('5 of 90 stacks diverged' in note for note in identity.notes([one], CONFIG))


def test_the_table_says_from_how_many_blocks_on_the_shortcut_helps():
    key = 'residual nearer than plain in all seeds'
    assert identity.summary(made(), CONFIG)[key] == 'from 1 blocks on'
    assert identity.summary(made(residual=5.0), CONFIG)[key] == 'from 4 blocks on'
    assert key not in identity.summary(made(residual=1e3), CONFIG)


def test_small_stacks_are_measured_and_the_rate_is_that_of_the_other_seeds():
    config = identity.get_config('cpu')
    config.update(width=2, depths=(1, 3), steps=(0, 2, 40), batch=4, inputs=20, rates=(0.05, 1e-6, 1e4), seeds=3)
    arrays = identity.measure(None, config, silent)
    sizes = {'kind': 3, 'depth': 2, 'seed': 3, 'step': 3, 'rate': 3}
    for name, array in arrays.items():
        expected = tuple(sizes[axis] for axis in array.axes)
        assert array.values.shape == ((3, 2, 3, 2) if name == 'tuning_error' else expected), name
    assert np.isinf(arrays['tuning_error'].values[:, :, 2]).all()
    assert (arrays['rate'].values == 0.05).all()
    error = arrays['error'].values
    assert np.median(error[..., -1] / error[..., 0]) < 0.5
    measured = [Measured(None, '', 0, arrays)]
    assert len(verdicts(identity, measured, config)) == len(VERDICTS)
