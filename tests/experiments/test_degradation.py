"""The degradation experiment: what it claims of measurements made up, and which networks it names."""

import itertools

import numpy as np
import pytest

from resnet_jax import experiment, spec, validity
from resnet_jax.errors import UserError
from resnet_jax.models import counts
from resnet_jax.report.findings import Array
from tests.experiments.made_up import failed, the, trained, verdicts

degradation = experiment.find('degradation')
CONFIG = degradation.get_config('cpu')


def measured(plain=(1, 2, 60), residual=(3, 2, 1), plain_bare=(3, 90), residual_bare=(3, 4), *, spread=0.1, **fields):
    """All runs of the cpu tier with these training errors by depth, a little different from seed to seed."""
    runs = []
    for seed, (family, errors, bare) in itertools.product(
        CONFIG.seeds, (('resnet', residual, residual_bare), ('plain', plain, plain_bare))
    ):
        gain = 'skipinit' if family == 'resnet' else 'none'
        for depth, error in zip(CONFIG.depths, errors, strict=True):
            runs.append(trained(f'{family}{depth}', seed, training=error + spread * seed, test=error + 1, **fields))
        for depth, error in zip(CONFIG.depths_without_norm, bare, strict=True):
            runs.append(trained(f'{family}{depth}', seed, training=error, test=error, norm='none', gain=gain, **fields))
        wide = {'stem_width': 14, 'widths': (14, 28, 57)}
        runs.append(trained(f'{family}20', seed, training=0, test=1 + spread * seed, **wide, **fields))
    return runs


def test_what_the_paper_found_is_supported():
    found = verdicts(degradation, measured(), CONFIG)
    assert len(found) == 7
    assert set(found.values()) == {'supported'}


def test_the_opposite_is_refuted():
    found = verdicts(degradation, measured((60, 50, 1), (1, 2, 3), (90, 3), (3, 90)), CONFIG)
    for words in (('Of plain',), ('Of residual',), ('With shortcuts',), ('BN cures',), ('without BN too',)):
        assert the(found, *words) == 'refuted', words


def test_seeds_that_disagree_leave_it_undecided():
    one = trained('plain56', 1, training=1.0, test=1.0)
    runs = [one if (run.title, run.seed) == ('plain56', 1) else run for run in measured()]
    assert the(verdicts(degradation, runs, CONFIG), 'Of plain') == 'undecided'


def test_a_plain_network_that_diverged_counts_as_chance():
    runs = [failed('plain56', run.seed) if run.title == 'plain56' else run for run in measured()]
    found = verdicts(degradation, runs, CONFIG)
    assert the(found, 'Of plain') == the(found, 'With shortcuts') == 'supported'


@pytest.mark.parametrize(('error', 'verdict'), [(6.9, 'supported'), (9.0, 'refuted'), (7.47, 'undecided')])
def test_the_papers_number_is_held_against_its_data_alone(error, verdict):
    settings = degradation.get_config('paper')
    runs = [
        trained(f'{family}{depth}', seed, training=depth, test=error + 0.05 * seed, tier='paper')
        for family in ('resnet', 'plain') for depth in settings.depths for seed in settings.seeds
    ]  # fmt: skip
    assert the(verdicts(degradation, runs, settings), 'ResNet-56 reaches') == verdict
    assert not any('reaches' in statement for statement in verdicts(degradation, measured(), CONFIG))


@pytest.mark.parametrize('tier', ['cpu', 'paper'])
def test_twins_have_the_same_parameters_and_the_wide_ones_those_of_the_deep(tier):
    settings = degradation.get_config(tier)
    configs = degradation.runs(settings)
    assert len({spec.identity(config) for config in configs}) == len(configs)
    sizes = {}
    for config in configs:
        validity.check(config)
        arch = spec.architecture(config)
        if arch.norm != 'none':
            wide = arch.widths != spec.architecture(configs[0]).widths
            sizes.setdefault((wide, counts.depth(arch)), set()).add(counts.parameters(arch))
    assert all(len(found) == 1 for found in sizes.values())
    (deep,), (wide,) = sizes[False, settings.deep], sizes[True, settings.shallow]
    assert abs(wide / deep - 1) < 0.05


def test_one_kind_alone_is_refused_with_what_to_do():
    archs = [run.arch for run in measured() if not run.arch.plain]
    with pytest.raises(UserError, match='0 plain and 3 residual ones: leave out --run'):
        degradation.check(archs)


def test_where_no_error_is_left_residual_networks_are_compared_by_the_loss():
    runs = measured(residual=(0, 0, 0), spread=0.0)
    for run in runs:
        if not run.arch.plain and run.depth == 56 and run.arch.norm != 'none':
            run.arrays['training_loss'] = Array(np.array(-0.1), (), 'nats')
    found = verdicts(degradation, runs, CONFIG)
    assert the(found, 'Of residual', 'lower training loss') == 'supported'


def test_other_networks_beside_them_are_left_out():
    others = [
        trained(f'{family}20', seed, training=50, **settings)
        for seed in (0, 5) for family, settings in (
            ('resnet', {'norm': 'none', 'gain': 'fixup'}), ('resnet', {'gain': 'zero_gamma'}),
            ('resnet', {'shortcut': 'B'}), ('preact_resnet', {}), ('preact_resnet', {'shortcut': 'none'}),
            ('resnet', {'stem_width': 20, 'widths': (20, 40, 80)}),
        )
    ]  # fmt: skip
    alone = measured()
    assert degradation.claims([*alone, *others], CONFIG) == degradation.claims(alone, CONFIG)


def test_kinds_without_a_common_seed_are_not_compared():
    runs = [run for run in measured() if run.arch.plain or run.seed == 0]
    found = degradation.claims([run for run in runs if not run.arch.plain or run.seed > 0], CONFIG)
    assert not any('With shortcuts' in claim.statement or 'without BN too' in claim.statement for claim in found)
