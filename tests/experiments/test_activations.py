"""The activations experiment: what it claims of measurements made up, and which networks it names."""

import pytest

from resnet_jax import experiment
from resnet_jax.errors import UserError
from tests.experiments.made_up import the, trained, verdicts

activations = experiment.find('activations')
CONFIG = activations.get_config('cpu')


def measured(full=(-0.2, -1.0), others=1.0, relu=0.1, spread=0.1, tier='cpu', depths=(20, 56)):
    """Errors of 5 % with the original unit; of the others this much more, at each of the depths."""
    more = {'original': (0, 0), 'full_preactivation': full, 'relu_only_preactivation': (relu, relu)}

    def error(placement, index, seed):
        return 5 + more.get(placement, (others, others))[index] + (spread * seed if placement != 'original' else 0)

    return [
        trained(f'resnet{depth}', seed, test=error(placement, index, seed), placement=placement, tier=tier)
        for index, depth in enumerate(depths) for placement in activations.ERRORS for seed in CONFIG.seeds
    ]  # fmt: skip


def test_what_the_paper_found_is_supported():
    found = verdicts(activations, measured(spread=0.01), CONFIG)
    assert len(found) == 9 and set(found.values()) == {'supported'}


def test_the_opposite_is_refuted():
    found = verdicts(activations, measured(full=(1.0, 3.0), others=-1.0, relu=1.0, spread=0.01), CONFIG)
    assert set(found.values()) == {'refuted'}


def test_what_depends_on_the_seed_is_undecided():
    found = verdicts(activations, measured(full=(-0.1, -0.1), others=-0.1, relu=0.45), CONFIG)
    assert {verdict for statement, verdict in found.items() if 'original' in statement} == {'undecided'}


def test_the_papers_numbers_are_held_against_its_data_alone():
    settings = activations.get_config('paper')
    found = verdicts(activations, measured(others=1.4, tier='paper', depths=(110, 164)), settings)
    assert the(found, '110 layers with the original unit') == 'refuted'  # 5 % against 6.61
    assert the(found, '164 layers with BN after the addition') == 'supported'  # 6.5 % against 6.50
    assert not any('the error of the paper' in statement for statement in verdicts(activations, measured(), CONFIG))


def test_one_placement_alone_is_refused():
    with pytest.raises(UserError, match='here are only original: leave out --run'):
        activations.check([run.arch for run in measured() if run.arch.placement == 'original'])


def test_other_networks_beside_them_are_left_out():
    others = [
        trained('resnet20', seed, test=50, **settings) for seed in (0, 3)
        for settings in ({'norm': 'none', 'gain': 'skipinit'}, {'stem_width': 14, 'widths': (14, 28, 56)},
                         {'shortcut': 'B'}, {'shortcut': 'none'})
    ]  # fmt: skip
    alone = measured(spread=0.01)
    assert activations.claims([*alone, *others], CONFIG) == activations.claims(alone, CONFIG)


def test_only_seeds_that_both_have_are_compared():
    some = [run for run in measured(spread=0.01) if run.seed < 2 or run.arch.placement == 'original']
    assert {claim.n for claim in activations.claims(some, CONFIG)} == {'2 seeds'}
    none = [run for run in some if run.seed == 2 or run.arch.placement != 'original']
    assert activations.claims(none, CONFIG) == []
