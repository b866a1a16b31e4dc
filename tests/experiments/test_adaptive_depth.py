"""The adaptive-depth experiment: what it claims of measurements made up here, and what it measures on a tiny run."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments._adaptive_depth_measure import apart, fewest, kinds, label, removable, tasks
from experiments._networks import network
from resnet_jax import config as configuration
from resnet_jax import experiment, spec
from resnet_jax.data import sources
from resnet_jax.errors import UserError
from resnet_jax.experiment import Measured
from resnet_jax.report.findings import Array, Finding
from resnet_jax.run import load
from resnet_jax.train.loop import train

TINY = Path(__file__).parents[1] / 'tiny.py'
adaptive_depth = experiment.find('adaptive_depth')
CONFIG = adaptive_depth.get_config('cpu')
MAIN, SHALLOW, DEEP = 'preact_resnet56', 'preact_resnet20', 'preact_resnet110'


# Measurements made up


def made(
    name=MAIN, seed=0, *, data=None, needs=10, error=2.0, cut=50.0, size=None, tier='cpu', values=None, **network_
):
    """A run that needs so many blocks; every curve falls, but for those in `values`."""
    config = network(tier, name, seed, **network_)
    config.data.update(data or {})
    blocks = spec.architecture(config).blocks
    length = blocks // 3
    falling = np.linspace(1, 0.1, blocks)
    removal = np.where(np.arange(blocks + 1) <= blocks - needs, error, 60.0)
    arrays = {
        'size': np.full(blocks, size or 10 / blocks),
        'change': np.full(blocks, 0.2),
        'cosine': -np.linspace(0.01, 0.1, blocks),
        'estimate_mean': np.full(blocks, 0.01),
        'estimate_spread': falling,
        'gain': np.full(blocks, np.nan if config.network.gain == 'none' else 0.3),
        'read_out_error': 50 * falling[-length:],
        'probe_error': np.linspace(60, 2, blocks + 1),
        'order': np.tile(np.arange(1, blocks + 1), (3, 1)),
        'selection_error': removal,
        'test_error': np.tile(removal, (3, 1)),
        'cut_error': np.append(np.full(length - 1, cut), error),
    } | (values or {})  # fmt: skip
    named = {key: Array(value, tuple('ab'[: value.ndim]), '') for key, value in arrays.items()}
    return Measured(config, name, 330, named)


def seeds(*values, name=MAIN, argument='needs', **given):
    return [made(name, seed, **given, **{argument: value}) for seed, value in enumerate(values)]


def curves(**by_seed):
    """Three seeds of the main network with such arrays, a list of them each."""
    return [made(seed=seed, values={key: rows[seed] for key, rows in by_seed.items()}) for seed in range(3)]


def cosines(*shares):
    """With so many of 25 blocks pointing uphill (27, two of which change the shape), by seed."""
    rows = []
    for count in shares:
        row = -np.linspace(0.01, 0.1, 27)
        row[:count] *= -1
        row[[9, 18]] = np.nan
        rows.append(row)
    return curves(cosine=rows)


def ranks(array, length, *orders):
    """1: falling, -1: rising, by seed."""
    return curves(**{array: [np.linspace(50, 2, length)[::order] for order in orders]})


def spreads(*orders):
    return curves(estimate_spread=[np.tile(np.linspace(1, 0.1, 9)[::order], 3) for order in orders])


def three_depths(exponent, noise=0.0):
    """Sizes that fall with this power of the number of blocks."""
    rng = np.random.default_rng(0)
    blocks = {SHALLOW: 9, MAIN: 27, DEEP: 54}
    order = [(MAIN, 0), (MAIN, 1), (MAIN, 2), (SHALLOW, 0), (SHALLOW, 1), (SHALLOW, 2), (DEEP, 0)]
    return [
        made(name, seed, size=float(blocks[name] ** exponent * np.exp(noise * rng.normal()))) for name, seed in order
    ]


def against(other, **given):
    """Three seeds of the main network, which needs 10 of 27 blocks, and of another kind."""
    return [*seeds(10, 10, 10), *seeds(*other, **given)]


def elsewhere(*worse):
    """The test error is by so much higher where blocks are removed."""
    return curves(test_error=[np.tile(np.where(np.arange(28) == 0, 2.0, 2.0 + more), (3, 1)) for more in worse])


def two_tasks(*easy):
    hard, few = ({'classes': classes, 'examples': 128, 'selection': 1580 // classes} for classes in (10, 2))
    return [made(), *seeds(10, 10, 10, data=hard), *seeds(*easy, data=few)]


def cut(*errors):
    """Cut to three blocks a stage, with these errors by seed; trained so it is 2 %."""
    return [*seeds(*errors, argument='cut'), *seeds(9, 9, 9, name=SHALLOW)]


VERDICTS = {  # statement: what makes it supported, refuted and undecided
    'Blocks step downhill': (partial(cosines, 0, 1, 2), partial(cosines, 5, 9, 20), partial(cosines, 0, 0, 9)),
    'Later blocks point more against': (
        partial(cosines, 0, 0, 0),
        lambda: curves(cosine=[np.linspace(-0.1, -0.01, 27)] * 3),
        lambda: curves(cosine=[np.linspace(*ends, 27) for ends in ((-0.1, -0.01), (-0.01, -0.1), (-0.01, -0.1))]),
    ),
    'estimates that of its stage': tuple(
        partial(curves, estimate_mean=[np.full(27, value) for value in values])
        for values in ((0.02, -0.05, 0.01), (0.3, -0.2, 0.2), (0.02, 0.02, -0.2))
    ),
    'the estimates improve': (partial(spreads, 1, 1, 1), partial(spreads, -1, -1, -1), partial(spreads, 1, 1, -1)),
    'the more a linear probe can tell': tuple(
        partial(ranks, 'probe_error', 28, *orders) for orders in ((1, 1, 1), (-1, -1, -1), (1, 1, -1))
    ),
    'errs less and less': tuple(
        partial(ranks, 'read_out_error', 9, *orders) for orders in ((1, 1, 1), (-1, -1, -1), (1, 1, -1))
    ),
    'the less each adds': tuple(partial(three_depths, *given) for given in ((-1.0, 0.05), (0.0, 0.05), (-1.0, 1.0))),
    'keep the accuracy on images': tuple(partial(elsewhere, *given) for given in ((0, 0.5, 1), (5, 6, 4), (0, 0.5, 3))),
    'needs a smaller share': tuple(
        partial(against, values, name=SHALLOW) for values in ((8, 7, 8), (1, 2, 1), (3, 9, 1))
    ),
    'An easier task uses fewer': tuple(partial(two_tasks, *easy) for easy in ((5, 4, 6), (15, 16, 17), (9, 11, 9))),
    'Trained with stochastic depth': tuple(
        partial(against, values, survival=0.5) for values in ((5, 4, 6), (15, 16, 17), (9, 11, 9))
    ),
    'A network cut to a depth is worse': tuple(
        partial(cut, *errors) for errors in ((40.0, 50.0, 60.0), (1.0, 0.5, 0.8), (2.0, 9.0, 1.0))
    ),
}  # fmt: skip


@pytest.mark.parametrize('statement', VERDICTS)
@pytest.mark.parametrize(('place', 'expected'), [(0, 'supported'), (1, 'refuted'), (2, 'undecided')])
def test_each_claim_can_be_supported_refuted_and_undecided(statement, place, expected):
    (claim,) = (
        claim for claim in adaptive_depth.claims(VERDICTS[statement][place](), CONFIG) if statement in claim.statement
    )
    assert claim.interval.low <= claim.measured <= claim.interval.high
    assert claim.verdict == expected


def everything(tier='cpu'):
    """A measurement of every run that the experiment asks for."""
    config = adaptive_depth.get_config(tier)
    found = []
    for each in adaptive_depth.runs(config):
        name = {9: SHALLOW, 27: MAIN, 54: DEEP}[spec.architecture(each).blocks]
        values = made(name, each.seed, tier=tier, gain=each.network.gain, norm=each.network.norm).arrays
        found.append(Measured(each, name, 330, values))
    return found, config


@pytest.mark.parametrize('tier', experiment.TIERS)
def test_a_finding_is_made_of_all_its_runs_with_every_claim_of_the_test_above(tier):
    measured, config = everything(tier)
    claims, drawn = adaptive_depth.claims(measured, config), adaptive_depth.figures(measured, config)
    assert len(claims) == len(VERDICTS)
    for claim in claims:
        assert sum(part in claim.statement for part in VERDICTS) == 1 and claim.form == 'shape'
    assert {claim.figure for claim in claims} == {f'adaptive_depth_{name}' for name in drawn if name != 'gates'}
    for each in drawn.values():
        assert len({len(column) for column in each.numbers.values()}) == 1
    finding = Finding(
        experiment='adaptive_depth', title=adaptive_depth.TITLE, question='?', tier=tier, settings={}, code='',
        runs=(), data=measured[0].data, summary=adaptive_depth.summary(measured, config), claims=tuple(claims),
        arrays={},
        figures={f'adaptive_depth_{name}': each.caption for name, each in drawn.items()},
        notes=tuple(adaptive_depth.notes(measured, config)),
    )  # fmt: skip
    images = config.task_examples
    assert '10, 10, 10 of 27' in str(finding.summary[f'56 layers, 2 classes, {images} images, fewest blocks'])


def test_a_run_alone_claims_what_its_blocks_do_and_nothing_of_other_networks():
    alone = [made()]
    assert len(adaptive_depth.claims(alone, CONFIG)) == 7
    assert 'cut' not in adaptive_depth.figures(alone, CONFIG)
    assert any('without --run, they are' in note for note in adaptive_depth.notes(alone, CONFIG))


def test_a_stage_of_two_blocks_claims_nothing_of_estimates_that_improve():
    config = network('cpu', SHALLOW)
    config.network.stage_blocks = (2, 2, 2)
    short = Measured(config, 'some', 330, {
        name: Array(array.values[..., :6] if array.values.shape[-1] == 9 else array.values, array.axes, '')
        for name, array in made(SHALLOW, needs=5).arrays.items()
    })  # fmt: skip
    assert not any('improve' in claim.statement for claim in adaptive_depth.claims([short], CONFIG))


# Runs


def test_tasks_differ_in_classes_alone_with_as_many_images():
    measured, _ = everything()
    groups = tasks(measured)
    assert [label(group[0]) for group in groups] == [
        f'56 layers, {classes} classes, 128 images' for classes in (2, 5, 10)
    ]
    assert apart(groups[0][0], groups[1][0]) == {'data.classes', 'data.selection'}
    configs = [group[0].config for group in groups]
    found = [sources.load(config.data) for config in configs if config is not None]
    assert {(len(each.train), len(each.selection)) for each in found} == {(128, 158)}
    assert [int(each.train.labels.max()) + 1 for each in found] == [2, 5, 10]


def test_kinds_are_runs_that_differ_in_their_seed_alone_the_main_one_first():
    measured, _ = everything()
    found = kinds(measured)
    assert [len(group) for group in found] == [3, 3, 1, 3, 1, 1, 3, 3, 1]
    assert found[0][0] is measured[0] and len({label(group[0]) for group in found}) == 9


def test_the_fewest_blocks_are_those_within_the_bound_also_behind_a_bump():
    errors = np.array([2.0, 2.5, 9.0, 3.0, 3.1, 80.0] + [90.0] * 4)
    run = made(SHALLOW, values={'selection_error': errors})
    assert removable(run, 1.0) == 3 and fewest(run, 1.0) == 6 and fewest(run, 0.4) == 9


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'shortcut': 'none'}, "shortcut 'none' and join 'add' adds nothing"),
        ({'join': 'concatenate'}, "join 'concatenate' adds nothing"),
        ({'stage_blocks': (1, 1, 1)}, 'enter a stage'),
    ],
)
def test_a_main_network_that_adds_nothing_or_has_no_body_is_refused(make_arch, changes, said):
    with pytest.raises(UserError, match=said) as error:
        adaptive_depth.check([make_arch(**changes), make_arch()])
    assert '\n' not in str(error.value)
    adaptive_depth.check([make_arch(), make_arch(**changes)])


# Measured


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    config = configuration.load(f'{TINY}:preact_resnet20')
    config.network.update(stem_width=4, widths=(4, 8, 16), stage_blocks=(2, 3, 2))
    config.data.selection = 60
    path = tmp_path_factory.mktemp('runs') / 'some'
    train(config, path, lambda record: None)
    return load(path)


def test_it_measures_a_run_and_makes_claims_of_it(run):
    told = []
    arrays = adaptive_depth.measure(run, CONFIG, lambda *what: told.append(what[0]))
    measured = Measured(run.config, run.title, run.step, arrays)
    for array in arrays.values():
        assert array.values.ndim == len(array.axes)
    whole, selected = 100 - 100 * run.evaluate('test').correct / 359, run.evaluate('selection')
    np.testing.assert_allclose(measured['test_error'][:, 0], whole, atol=1e-9)
    np.testing.assert_allclose(measured['selection_error'][0], 100 * (1 - selected.correct / 60), atol=1e-9)
    np.testing.assert_allclose([measured['cut_error'][-1], measured['read_out_error'][-1]], whole, atol=1e-9)
    after_two = run.lesion(measured['order'][0, :2].tolist())
    np.testing.assert_allclose(measured['test_error'][0, 2], 100 * (1 - after_two.correct / 359), atol=1e-9)
    assert sorted(measured['order'][2]) == list(range(1, 8)) and measured['probe_error'].shape == (8,)
    np.testing.assert_array_equal(np.isnan(measured['cosine']), [False, False, True, False, False, True, False])
    assert {'removing blocks', 'deleting blocks', 'probing blocks'} <= set(told)
    assert adaptive_depth.claims([measured], CONFIG) and adaptive_depth.figures([measured], CONFIG)
    assert adaptive_depth.summary([measured], CONFIG)


def test_a_run_without_a_selection_split_is_refused(run):
    class Without:
        path = run.path

        class dataset:
            class selection:
                labels = np.zeros(0)

    with pytest.raises(UserError, match='has no selection split'):
        adaptive_depth.measure(Without, CONFIG, lambda *_: None)
