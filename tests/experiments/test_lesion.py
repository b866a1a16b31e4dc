"""The lesion experiment: what it claims of measurements made up here, and what it measures on a real network."""

import dataclasses
import functools
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import default
from experiments._lesion_measure import Measurement, Singles
from resnet_jax import config as configuration
from resnet_jax import experiment, spec
from resnet_jax.analysis.lesion import delete, deletion
from resnet_jax.data import sources
from resnet_jax.errors import UserError
from resnet_jax.models import zoo
from resnet_jax.report.findings import Finding
from resnet_jax.run import Run

EXPERIMENTS = Path(__file__).parents[2] / 'experiments'
lesion = experiment.find('lesion')
EXAMPLES, DRAWS = 2000, 40
CONFIG = lesion.get_config('cpu')
CONFIG.update(draws=DRAWS, resamples=200)


def test_every_experiment_has_a_test_and_is_what_the_runner_takes():
    assert experiment.names() == sorted(path.stem[5:] for path in Path(__file__).parent.glob('test_*.py'))
    for name in experiment.names():
        module = experiment.find(name)
        assert module.__doc__ and isinstance(module.TITLE, str)
        for function in ('get_config', 'measure', 'arrays', 'claims', 'figures', 'summary', 'notes'):
            assert callable(getattr(module, function))
        for tier in experiment.TIERS:
            assert isinstance(module.get_config(tier), ConfigDict)


# Measurements made up


def singles(depth=110, block='preact_resnet', shortcut='A', *, intact=6.0, inner=6.4, entry=40.0):
    """Single deletions with errors of these percentages. Some examples are harder than others, for every network."""
    blocks = (depth - 2) // 2
    enters = np.isin(np.arange(blocks), (0, blocks // 3, 2 * blocks // 3))
    there = np.array([index not in (blocks // 3, 2 * blocks // 3) for index in range(blocks)])
    kept = there if shortcut == 'none' else np.ones(blocks, bool)
    errors = np.where(enters, entry, inner)[kept]
    return Singles(
        *kind(depth, block, shortcut), blocks=np.flatnonzero(kept) + 1, entry=enters[kept],
        intact=right(intact), right=np.stack([right(each) for each in errors]),
    )  # fmt: skip


def kind(depth, family, shortcut):
    """The name and the architecture of a network."""
    config = default.get_config()
    config.network.update(zoo.settings(f'{family}{depth}'))
    config.network.shortcut = shortcut
    return configuration.title(config.network), spec.architecture(config)


def right(percent):
    """All examples but the hardest, of which there are this many percent."""
    return np.arange(EXAMPLES) >= round(EXAMPLES * percent / 100)


# Veit et al. 2016, figure 5: medians for k = 1, 2, 3, 5, 7, 10, 12, 15, 18, 20.
PAPER = (6.5, 7.0, 7.7, 9.4, 11.2, 19.0, 24.9, 33.2, 51.7, 57.7)


def measurement(network=None, others=(), *, data='digits', medians=PAPER, spread=0.2):
    """Deletions of many blocks: draws about these medians."""
    draws = np.asarray(medians)[:, None] + spread * np.random.default_rng(0).normal(size=(len(medians), DRAWS))
    return Measurement(
        data=data, config=CONFIG, network=network or singles(), others=tuple(others), counts=np.array(CONFIG.counts),
        without_entry=draws, with_entry=np.minimum(100, 2 * draws),
    )  # fmt: skip


def verdict(measured, statement):
    (claim,) = (claim for claim in lesion.claims(measured) if statement in claim.statement)
    assert claim.interval.low <= claim.measured <= claim.interval.high
    return claim.verdict


VERDICTS = {  # statement, then what makes it supported, refuted and undecided
    'costs little of what there is to lose': (
        lambda **made: measurement(singles(**made)),
        {'inner': 6.4}, {'inner': 30.0}, {'inner': 14.4},
    ),
    'A shallow residual network is hurt': (
        lambda **made: measurement(singles(), [singles(20, **made)], data='cifar10'),
        {'inner': 31.0}, {'inner': 10.0}, {'inner': 15.0},
    ),
    'costs more than deleting any other': (
        lambda **made: measurement(singles(**made)),
        {'inner': 6.4, 'entry': 12.0}, {'inner': 40.0, 'entry': 12.0}, {'inner': 30.0, 'entry': 30.1},
    ),
    'hardly changes the error': (
        lambda **made: measurement(singles(**made), data='cifar10'),
        {'inner': 6.4}, {'inner': 12.0}, {'inner': 7.0},
    ),
    'is felt': (
        lambda **made: measurement(singles(**made), data='cifar10'),
        {'entry': 20.0}, {'entry': 7.0}, {'entry': 11.0},
    ),
    'grows smoothly': (
        lambda **made: measurement(**made),
        {'medians': PAPER}, {'medians': PAPER[::-1]}, {'medians': PAPER, 'spread': 10.0},
    ),
    'Deleting 5 blocks': (
        lambda **made: measurement(data='cifar10', **made),
        {'medians': PAPER}, {'medians': (20.0,) * 10}, {'medians': (14.0,) * 10, 'spread': 2.0},
    ),
    'Deleting 10 blocks': (
        lambda **made: measurement(data='cifar10', **made),
        {'medians': PAPER}, {'medians': (60.0,) * 10}, {'medians': (12.0,) * 10, 'spread': 2.0},
    ),
    'Deleting 20 blocks': (
        lambda **made: measurement(data='cifar10', **made),
        {'medians': PAPER}, {'medians': (20.0,) * 10}, {'medians': (75.0,) * 10, 'spread': 2.0},
    ),
    'Resilience grows with depth': (
        lambda **made: measurement(singles(), [singles(20, **made)]),
        {'intact': 8.0, 'inner': 31.0}, {'intact': 8.0, 'inner': 8.0}, {'intact': 8.0, 'inner': 8.4},
    ),
    'Without shortcuts a deletion costs more': (
        lambda **made: measurement(singles(), [singles(20, 'resnet', 'none', **made)]),
        {'inner': 80.0}, {'inner': 6.0}, {'inner': 6.5},
    ),
    'does not survive losing one layer': (
        lambda **made: measurement(singles(20, 'resnet', 'none', **made), data='cifar10'),
        {'inner': 89.0}, {'inner': 50.0}, {'inner': 80.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize('statement', VERDICTS)
@pytest.mark.parametrize(('place', 'expected'), [(0, 'supported'), (1, 'refuted'), (2, 'undecided')])
def test_each_claim_can_be_supported_refuted_and_undecided(statement, place, expected):
    make, *cases = VERDICTS[statement]
    assert verdict(make(**cases[place]), statement) == expected


def made_claims(*arguments, **more):
    return [(claim.statement, claim.form) for claim in lesion.claims(measurement(*arguments, **more))]


def test_every_claim_that_can_be_made_is_in_the_test_above():
    made = made_claims(singles(), [singles(20), singles(110, 'resnet', 'none')], data='cifar10')
    assert len(made) == len(VERDICTS)
    for statement, _ in made:
        assert sum(part in statement for part in VERDICTS) == 1


def test_numbers_are_held_against_the_papers_on_the_papers_data_and_network_alone():
    forms = [form for _, form in made_claims(data='cifar10')]
    assert forms.count('number') == 5 and forms.count('shape') == 3
    for network, data in [
        (singles(), 'digits'),
        (singles(), 'cifar100'),
        (singles(56), 'cifar10'),
        (singles(110, 'resnet'), 'cifar10'),
        (singles(110, shortcut='B'), 'cifar10'),
    ]:
        assert [form for _, form in made_claims(network, data=data)] == ['shape'] * 3
        notes = lesion.notes(measurement(network, data=data))
        assert any('only the shape of a claim is tested' in note for note in notes)


def test_a_plain_network_alone_claims_nothing_but_on_the_papers_data():
    plain = singles(20, 'resnet', 'none')
    assert made_claims(plain) == []
    assert made_claims(plain, data='cifar10') == [
        ('A plain network (plain20) does not survive losing one layer', 'number')
    ]


def test_depths_of_one_kind_are_compared_and_a_plain_network_with_the_residual_one_nearest_to_it():
    others = [
        singles(56),
        singles(20),
        singles(20, 'resnet', 'none'),
        singles(56, 'resnet', 'none'),
        singles(110, 'resnet'),
    ]
    statements = [statement for statement, _ in made_claims(singles(44), others)]
    assert 'Resilience grows with depth: a deletion costs preact_resnet20 more than preact_resnet56' in statements
    assert 'Without shortcuts a deletion costs more: plain56 against preact_resnet56' in statements
    assert len(lesion.notes(measurement(singles(44), others))) < len(lesion.notes(measurement(singles(44))))


def test_an_error_that_never_changes_does_not_grow():
    constant = dataclasses.replace(measurement(), without_entry=np.full((10, DRAWS), 90.0))
    assert verdict(constant, 'grows smoothly') == 'refuted'


def test_the_interval_is_that_of_paired_examples():
    """One block alone: the increase is a mean of paired differences, whose standard error is known."""
    intact, deleted = right(6.0), np.random.default_rng(0).permutation(right(10.0))
    network = Singles(
        *kind(110, 'preact_resnet', 'A'), blocks=np.array([1, 2]), entry=np.array([True, False]), intact=intact,
        right=np.stack([np.zeros(EXAMPLES, bool), deleted]),
    )  # fmt: skip
    measured = dataclasses.replace(measurement(network, data='cifar10'), config=ConfigDict(CONFIG.to_dict()))
    measured.config.resamples = 4000
    (claim,) = (claim for claim in lesion.claims(measured) if 'hardly' in claim.statement)
    differences = 100 * (intact.astype(float) - deleted)
    error = differences.std() / np.sqrt(EXAMPLES)
    assert claim.measured == pytest.approx(4.0)
    assert claim.interval.low == pytest.approx(4 - 1.96 * error, abs=0.15 * error)
    assert claim.interval.high == pytest.approx(4 + 1.96 * error, abs=0.15 * error)


def test_claims_repeat():
    assert lesion.claims(measurement()) == lesion.claims(measurement())


KINDS = [(block, shortcut) for block in ('resnet', 'preact_resnet') for shortcut in ('A', 'B', 'C', 'none')]


def test_no_two_kinds_of_network_share_a_name():
    names = {singles(20, *kind).name for kind in KINDS}
    assert len(names) == len(KINDS) and {'resnet20', 'preact_resnet20', 'plain20', 'resnet20-shortcut-B'} < names


@pytest.mark.parametrize('others', [(), tuple(singles(20, *kind) for kind in KINDS)], ids=['alone', 'compared'])
def test_a_finding_is_made_of_it_as_the_runner_makes_it(others):
    measured = measurement(singles(44), others, data='cifar10')
    drawings = lesion.figures(measured)
    finding = Finding(
        experiment='lesion', title=lesion.TITLE, run='0' * 16, step=1, tier='cpu', compared=(), data=measured.data,
        summary=lesion.summary(measured), claims=tuple(lesion.claims(measured)), arrays=lesion.arrays(measured),
        figures={f'lesion_{name}': caption for name, (_, caption, _) in drawings.items()},
        notes=tuple(lesion.notes(measured)),
    )  # fmt: skip
    axes = {'lesion': 21, 'example': EXAMPLES, 'count': 10, 'draw': DRAWS}
    for name, array in finding.arrays.items():
        if not name.startswith('single_error_'):
            assert array.values.shape == tuple(axes[axis] for axis in array.axes), name
    assert sum(name.startswith('single_error_') for name in finding.arrays) == len(others)
    assert len([label for label in finding.summary if label.endswith('one block deleted, median')]) == 1 + len(others)
    for _, _, numbers in drawings.values():
        assert len({len(column) for column in numbers.values()}) == 1


def test_the_short_table_says_what_was_measured():
    summary = lesion.summary(measurement(singles(inner=6.5, entry=40.0), data='cifar10'))
    assert summary['test error, intact'] == '6.00 % (120 of 2000)'
    assert summary['one block deleted, median'] == '6.50 % (51 blocks, entry blocks apart)'
    assert summary['an entry block deleted'] == '40.0 % (block 1), 40.0 % (block 19), 40.0 % (block 37)'
    assert set(summary) > {'5 blocks deleted, median', '10 blocks deleted, median', '20 blocks deleted, median'}


# Measured


@functools.cache
def classify(network):
    return jax.jit(lambda *given: jnp.argmax(network.apply(*given, train=False), axis=-1))


def run_of(network, variables) -> Run:
    """What `measure` takes of a run: sixty of the digits' test images."""
    data = ConfigDict({'dataset': 'digits', 'data_dir': '', 'selection': 0})
    test = sources.load(data).test
    images = (jnp.asarray(test.images[:60], jnp.float32) - 5) / 6
    labels = jnp.where(jnp.arange(60) % 3 == 0, test.labels[:60], classify(network)(variables, images))
    chunks = [(images, labels)]
    config = ConfigDict({'data': data})
    path = Path('runs/some')
    run: Run = SimpleNamespace(
        network=network, variables=variables, config=config, chunks=lambda split: chunks, path=path, title='tiny'
    )  # pyright: ignore[reportAssignmentType]
    return run


def test_measuring_deletes_every_block_and_as_many_together_as_there_are(make_network):
    network, variables = make_network('float32', stage_blocks=(2, 2, 2))
    run = run_of(network, variables)
    shallow = run_of(*make_network('float32', stage_blocks=(1, 1, 1)))  # all its blocks enter a stage: left out
    other = run_of(network, jax.tree.map(lambda leaf: 1.1 * leaf, variables))
    config = lesion.get_config('cpu')
    config.draws = 5
    measured = lesion.measure(run, [shallow, other], config, lambda *_: None)
    ((images, labels),) = run.chunks('test')

    def found(lesions):
        return np.asarray(classify(network)(variables, images, delete(network.intact_gates(), lesions)) == labels)

    assert measured.data == 'digits' and measured.network.name == 'tiny'
    np.testing.assert_array_equal(measured.network.blocks, range(1, 7))
    np.testing.assert_array_equal(measured.network.entry, [True, False] * 3)
    np.testing.assert_array_equal(measured.network.intact, found(deletion(network.arch, [])))
    for number in (1, 4):
        np.testing.assert_array_equal(measured.network.right[number - 1], found(deletion(network.arch, [number])))
    assert len(measured.others) == 1 and measured.others[0].right.shape == (6, 60)
    np.testing.assert_array_equal(measured.counts, [1, 2, 3])  # no more than three blocks enter no stage
    assert measured.without_entry.shape == measured.with_entry.shape == (3, 5)
    all_inner = 100 * (1 - found(deletion(network.arch, [2, 4, 6])).mean())
    np.testing.assert_allclose(measured.without_entry[2], all_inner)
    again = lesion.measure(run, [], config, lambda *_: None)
    np.testing.assert_array_equal(again.with_entry, measured.with_entry)
    assert lesion.claims(measured) and lesion.figures(measured)
    with pytest.raises(UserError, match='all blocks of runs/some enter a stage; lesions need a network of 14 layers'):
        lesion.measure(shallow, [], config, lambda *_: None)
