"""The shortcuts experiment: what it claims of measurements made up, and which networks it names."""

import pytest

from resnet_jax import experiment
from resnet_jax.errors import UserError
from tests.experiments.made_up import failed, the, trained, verdicts

shortcuts = experiment.find('shortcuts')
CONFIG = shortcuts.get_config('cpu')


def measured(identity=1.0, other=3.0, spread=0.1, tier='cpu', depth=32):
    return [
        trained(
            f'resnet{depth}', seed, test=identity if form.startswith('A') else other + spread * seed, tier=tier, **kind
        )
        for form, (kind, _) in shortcuts.FORMS.items() for seed in CONFIG.seeds
    ]  # fmt: skip


def test_a_better_identity_is_supported_against_every_form_of_the_paper():
    found = verdicts(shortcuts, measured(), CONFIG)
    assert len(found) == 11
    assert the(found, 'Projections everywhere') == 'refuted'  # two points worse
    assert [verdict for statement, verdict in found.items() if 'identity gives' in statement] == ['supported'] * 10


def test_a_worse_identity_is_refuted():
    found = verdicts(shortcuts, measured(identity=5.0), CONFIG)
    assert {verdict for statement, verdict in found.items() if 'identity gives' in statement} == {'refuted'}


def test_what_depends_on_the_seed_is_undecided():
    found = verdicts(shortcuts, measured(other=0.9), CONFIG)
    assert set(found.values()) == {'undecided', 'supported'}
    assert the(found, 'Projections everywhere') == 'supported'


def test_what_fails_counts_as_chance():
    runs = [
        failed('resnet32', run.seed, shortcut='dropout') if run.arch.shortcut == 'dropout' else run
        for run in measured(1.0, 0.5)
    ]
    found = verdicts(shortcuts, runs, CONFIG)
    assert the(found, 'dropout') == 'supported' and the(found, '1x1') == 'refuted'


@pytest.mark.parametrize(('error', 'verdict'), [(6.5, 'supported'), (30.0, 'refuted')])
def test_the_papers_numbers_are_held_against_its_network_alone(error, verdict):
    found = verdicts(shortcuts, measured(identity=error, other=error, tier='paper', depth=110), CONFIG)
    assert the(found, 'A: identity', 'error of the paper') == verdict
    assert the(found, 'dropout', 'error of the paper') == ('refuted' if error < 20 else 'supported')
    assert not any('error of the paper' in statement for statement in verdicts(shortcuts, measured(), CONFIG))


def test_without_the_identity_it_is_refused():
    archs = [run.arch for run in measured() if run.arch.shortcut != 'A']
    with pytest.raises(UserError, match=r'compares networks with identity shortcuts .* leave out --run'):
        shortcuts.check(archs)


def test_other_networks_beside_them_are_left_out():
    others = [
        trained('resnet32', seed, test=50, **settings) for seed in (0, 3)
        for settings in ({'norm': 'none', 'gain': 'skipinit'}, {'stem_width': 14, 'widths': (14, 28, 56)},
                         {'placement': 'full_preactivation'}, {'shortcut': 'none'})
    ]  # fmt: skip
    assert shortcuts.claims([*measured(), *others], CONFIG) == shortcuts.claims(measured(), CONFIG)
