"""The lesion experiment: what it claims of measurements made up."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments._lesion_measure import interaction
from resnet_jax import experiment, spec
from resnet_jax.errors import UserError
from resnet_jax.report.findings import Array
from tests.experiments.made_up_lesion import CONFIG, EXAMPLES, PAPER, made, right

lesion = experiment.find('lesion')


def verdict(measured, statement):
    (claim,) = (claim for claim in lesion.claims(measured, CONFIG) if statement in claim.statement)
    assert claim.interval.low <= claim.measured <= claim.interval.high
    return claim.verdict


VERDICTS = {  # statement, the measurements, then what makes it supported, refuted and undecided
    'Deleting one block typically costs little': (
        lambda **said: [made(**said)], {'inner': 6.4}, {'inner': 30.0}, {'inner': 14.4},
    ),
    'costs more than deleting any other': (
        lambda **said: [made(**said)],
        {'inner': 6.4, 'entry': 12.0}, {'inner': 40.0, 'entry': 12.0}, {'inner': 30.0, 'entry': 30.05},
    ),
    'hardly changes the error': (
        lambda **said: [made(data='cifar10', **said)], {'inner': 6.4}, {'inner': 12.0}, {'inner': 7.0},
    ),
    'is felt': (
        lambda **said: [made(data='cifar10', **said)], {'entry': 20.0}, {'entry': 7.0}, {'entry': 11.0},
    ),
    'grows smoothly': (
        lambda **said: [made(**said)],
        {'medians': PAPER}, {'medians': PAPER[::-1]}, {'medians': PAPER, 'spread': 10.0},
    ),
    'Deleting 5 blocks': (
        lambda **said: [made(data='cifar10', **said)],
        {'medians': PAPER}, {'medians': (20.0,) * 10}, {'medians': (14.0,) * 10, 'spread': 2.0},
    ),
    'Deleting 10 blocks': (
        lambda **said: [made(data='cifar10', **said)],
        {'medians': PAPER}, {'medians': (60.0,) * 10}, {'medians': (12.0,) * 10, 'spread': 2.0},
    ),
    'Deleting 20 blocks': (
        lambda **said: [made(data='cifar10', **said)],
        {'medians': PAPER}, {'medians': (20.0,) * 10}, {'medians': (75.0,) * 10, 'spread': 2.0},
    ),
    'Resilience grows with depth': (
        lambda **said: [made(), made(20, intact=8.0, inner=31.0), made(56, **said)],
        {'intact': 7.0, 'inner': 10.0}, {'intact': 7.0, 'inner': 40.0}, {'intact': 6.0, 'inner': 6.45},
    ),
    'A shallow residual network is hurt': (
        lambda **said: [made(data='cifar10'), made(20, data='cifar10', **said)],
        {'inner': 31.0}, {'inner': 10.0}, {'inner': 15.0},
    ),
    'Without shortcuts a deletion costs more': (
        lambda **said: [made(), made(20, 'resnet', 'none', **said)],
        {'inner': 80.0}, {'inner': 6.0}, {'inner': 6.45},
    ),
    'does not survive losing one layer': (
        lambda **said: [made(20, 'resnet', 'none', data='cifar10', **said)],
        {'inner': 89.0}, {'inner': 50.0}, {'inner': 80.0},
    ),
    'Applying one block twice': (
        lambda **said: [made(**said)], {'twice': 6.4}, {'twice': 30.0}, {'twice': 14.4},
    ),
    'with fresh statistics more than half of the loss remains': (
        lambda **said: [made(**said)],
        {'fresh': PAPER}, {'fresh': (6.5,) * 10}, {'fresh': (12.5,) * 10, 'spread': 3.0},
    ),
    'they stand in for one another': (
        lambda **said: [made(**said)], {'together': 2.0}, {'together': -4.0, 'inner': 10.0}, {'together': 0.0},
    ),
    'Blocks of one stage stand in': (
        lambda **said: [made(**said)],
        {'together': 2.0, 'between': 0.0}, {'together': 0.0, 'between': 2.0}, {'together': 0.6, 'between': 0.4},
    ),
    'is worth more than most others': (
        lambda **said: [made(**said)],
        {'entry_worth': 20.0}, {'entry_worth': 0.1}, {'entry_worth': 2.5, 'noise': 5.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize('statement', VERDICTS)
@pytest.mark.parametrize(('place', 'expected'), [(0, 'supported'), (1, 'refuted'), (2, 'undecided')])
def test_each_claim_can_be_supported_refuted_and_undecided(statement, place, expected):
    make, *cases = VERDICTS[statement]
    assert verdict(make(**cases[place]), statement) == expected


def claimed(*measured):
    return [(claim.statement, claim.form) for claim in lesion.claims(measured, CONFIG)]


def by_seed(inner, plain):
    """ResNet-110 and ResNet-20 with and without shortcuts, of three seeds, by their errors after a deletion."""
    return [
        run for seed in range(3)
        for run in (made(seed=seed, inner=6.4 + seed), made(20, seed=seed, intact=8.0, inner=inner[seed]),
                    made(20, shortcut='none', seed=seed, inner=plain[seed]))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('inner', 'plain', 'verdict'),
    [
        ((31.0, 20.0, 40.0), (80.0, 60.0, 90.0), 'supported'),
        ((8.0, 8.0, 8.0), (6.0, 6.0, 6.0), 'refuted'),
        ((31.0, 8.0, 40.0), (80.0, 6.0, 90.0), 'undecided'),
    ],
)
def test_networks_are_compared_seed_by_seed_where_there_are_three_of_each(inner, plain, verdict):
    found = {claim.statement: claim for claim in lesion.claims(by_seed(inner, plain), CONFIG)}
    compared = [claim for claim in found.values() if claim.n == '3 seeds']
    assert [claim.verdict for claim in compared] == [verdict] * 2
    assert not any('one seed each' in statement for statement in found)
    fewer = lesion.claims(by_seed(inner, plain)[:6], CONFIG)
    assert sum('one seed each' in claim.statement for claim in fewer) == 2


def test_every_claim_that_can_be_made_is_in_the_test_above():
    data = {'data': 'cifar10'}
    statements = claimed(made(**data), made(20, **data), made(110, 'resnet', 'none', **data))
    assert len(statements) == len(VERDICTS)
    for statement, _ in statements:
        assert sum(part in statement for part in VERDICTS) == 1


def test_numbers_are_held_against_the_papers_on_the_papers_data_and_network_alone():
    forms = [form for _, form in claimed(made(data='cifar10'))]
    assert forms.count('number') == 5 and forms.count('shape') == 8
    others = (
        {}, {'data': 'cifar100'}, {'data': 'cifar10', 'depth': 56}, {'data': 'cifar10', 'block': 'resnet'},
        {'data': 'cifar10', 'shortcut': 'B'},
    )  # fmt: skip
    for fields in others:
        run = made(**fields)
        assert [form for _, form in claimed(run)] == ['shape'] * 8
        assert any('only the shape of a claim is tested' in note for note in lesion.notes([run], CONFIG))


def test_a_plain_network_alone_claims_nothing_but_on_the_papers_data():
    assert claimed(made(20, 'resnet', 'none')) == []
    assert claimed(made(20, 'resnet', 'none', data='cifar10')) == [
        ('A plain network (plain 20) does not survive losing one layer', 'number')
    ]


def test_depths_of_one_kind_are_compared_and_each_plain_network_with_the_residual_one_nearest_to_it():
    others = [made(56), made(20), made(20, 'resnet', 'none'), made(56, 'resnet', 'none'), made(110, 'resnet')]
    statements = [statement for statement, _ in claimed(made(44), *others)]
    depths = '(preact ResNet 20, preact ResNet 44, preact ResNet 56); one seed each'
    assert f'Resilience grows with depth: a deletion costs less in each deeper network {depths}' in statements
    for depth in (20, 56):
        said = f'plain {depth} against preact ResNet {depth}; one seed each'
        assert f'Without shortcuts a deletion costs more: {said}' in statements
    assert len(lesion.notes([made(44), *others], CONFIG)) < len(lesion.notes([made(44)], CONFIG))


def test_an_error_that_never_changes_does_not_grow():
    assert verdict([made(medians=(90.0,) * 10, spread=0.0)], 'grows smoothly') == 'refuted'


def test_a_network_that_cannot_be_recalibrated_claims_nothing_of_it():
    run = made()
    for name in [name for name in run.arrays if name.startswith('fresh')]:
        del run.arrays[name]
    assert not any('fresh' in statement for statement, _ in claimed(run))
    assert lesion.figures([run], CONFIG) and not any('fresh' in label for label in lesion.summary([run], CONFIG))


def test_the_interval_is_that_of_paired_examples():
    """One block alone: the increase is a mean of paired differences, whose standard error is known."""
    intact, deleted = right(6.0), np.random.default_rng(0).permutation(right(10.0))
    run, config = made(data='cifar10'), ConfigDict(CONFIG.to_dict())
    inner = ~run['is_entry'] & (run['block'] != 2)
    rows = run['single_right'].copy()
    rows[~run['is_entry']] = deleted
    run.arrays['single_right'] = Array(rows, ('lesion', 'example'), '')
    config.resamples = 2000
    (claim,) = (claim for claim in lesion.claims([run], config) if 'hardly' in claim.statement)
    differences = 100 * (intact.astype(float) - deleted)
    error = differences.std() / np.sqrt(EXAMPLES)
    assert inner.any() and claim.measured == pytest.approx(4.0)
    assert claim.interval.low == pytest.approx(4 - 1.96 * error, abs=0.15 * error)
    assert claim.interval.high == pytest.approx(4 + 1.96 * error, abs=0.15 * error)


def test_the_interaction_is_what_two_cost_beyond_each_alone():
    run = made(20, intact=6.0, inner=10.0, entry=40.0, together=3.0, between=1.0)
    found, pairs = interaction(run).mean(axis=1), run['pair'] - 1
    stages = np.array(run.arch.stage_of)
    alike = stages[pairs[:, 0]] == stages[pairs[:, 1]]
    np.testing.assert_allclose(found, np.where(alike, 3.0, 1.0), atol=0.3)  # 500 examples: steps of 0.2 points


def test_claims_repeat():
    assert lesion.claims([made()], CONFIG) == lesion.claims([made()], CONFIG)


KINDS = [(block, shortcut) for block in ('resnet', 'preact_resnet') for shortcut in ('A', 'B', 'C', 'none')]


@pytest.mark.parametrize('others', [(), KINDS], ids=['alone', 'compared'])
def test_every_figure_has_its_numbers_and_every_claim_its_figure(others):
    measured = [made(44, data='cifar10'), *(made(20, *kind, data='cifar10') for kind in others)]
    drawings = lesion.figures(measured, CONFIG)
    for drawing in drawings.values():
        assert len({len(column) for column in drawing.numbers.values()}) == 1
    assert {claim.figure for claim in lesion.claims(measured, CONFIG)} <= {f'lesion_{name}' for name in drawings}
    said = [label for label in lesion.summary(measured, CONFIG) if label.endswith('one block deleted, median')]
    assert len(said) == 1 + len(others)


def test_the_papers_curve_is_drawn_block_for_block_or_by_relative_position():
    published = lesion.figures.__globals__['published']
    places, errors, label = published(made(110))
    np.testing.assert_allclose(places, np.arange(1, 55))
    assert errors[0] == 42.15 and errors[18] == 12.22 and '110' in label  # entry blocks 1 and 19
    places, errors, label = published(made(20))
    assert len(errors) == 9 and errors[0] == 69.98 and label.startswith('paper, preact 20')
    places, errors, _ = published(made(56))  # 27 blocks
    assert len(errors) == 9 and places[0] == 2 and places[-1] == 26
    assert published(made(56, shortcut='none')) is None


def test_the_short_table_says_what_was_measured():
    summary = lesion.summary([made(inner=6.5, entry=40.0, data='cifar10')], CONFIG)
    assert summary['test error, intact'] == '6.00 % (120 of 2000)'
    assert summary['one block deleted, median'] == '6.50 % (51 blocks, entry blocks apart)'
    assert summary['one block deleted, median by stage'] == '6.50 %, 6.50 %, 6.50 %'
    assert summary['an entry block deleted'] == '40.0 % (block 1), 40.0 % (block 19), 40.0 % (block 37)'
    assert set(summary) > {'5 blocks deleted, median', '10 blocks deleted, median', '20 blocks deleted, median'}


def test_networks_without_a_block_to_lose_are_refused_before_anything_is_computed(make_arch):
    lesion.check([make_arch(stage_blocks=(1, 2, 1)), make_arch(stage_blocks=(1, 1, 1))])  # only the main one counts
    with pytest.raises(UserError) as refused:
        lesion.check([make_arch(stage_blocks=(1, 1, 1))])
    assert str(refused.value) == (
        'all blocks of this network (stage_blocks [1, 1, 1]) enter a stage; lesions need a stage of two blocks or '
        'more, as of 14 layers'
    )


@pytest.mark.parametrize('tier', experiment.TIERS)
def test_it_names_networks_of_three_depths_and_plain_ones(tier):
    archs = [spec.architecture(config) for config in lesion.runs(lesion.get_config(tier))[::3]]  # of three seeds
    assert [arch.blocks for arch in archs][:5] == [54, 27, 9, 27, 9]
    assert [arch.plain for arch in archs][:5] == [False] * 3 + [True] * 2
