import subprocess
import sys

import pytest

from resnet_jax import cli, spec
from resnet_jax.errors import UserError
from resnet_jax.runtime import directory
from resnet_jax.sweep import Sweep, axis, conditions, plan, product, seeds


def test_every_point_is_a_checked_config_that_differs_from_the_base_in_its_settings_alone(base):
    grid = product(conditions('network', {'residual': {}, 'plain': {'network.shortcut': 'none'}}), seeds(2, first=5))
    planned = plan.plan(Sweep(base, grid), {'train.batch_size': '32'})
    assert [run.name for run in planned] == [
        'network-residual_seed-5', 'network-residual_seed-6', 'network-plain_seed-5', 'network-plain_seed-6',
    ]  # fmt: skip
    wanted = spec.flatten(base) | {'train.batch_size': 32, 'network.shortcut': 'none', 'seed': 6}
    assert spec.flatten(planned[3].config) == wanted


def test_all_runs_may_keep_their_checkpoints_in_one_place_elsewhere(base):
    grid = product(axis('train.batch_size', [8, 16]), seeds(3))
    planned = plan.plan(Sweep(base, grid), {'run.checkpoints': '/elsewhere'})
    assert len({directory.own_place(run.config) for run in planned}) == len(planned) == 6


@pytest.mark.parametrize(
    ('grid', 'says'),
    [
        ((), 'the grid of this sweep is empty'),
        (axis('train.bach_size', [8]), 'run bach_size-8: no setting is called config.train.bach_size; the nearest is '),
        (axis('train.batch_size', ['8']), "run batch_size-8: config.train.batch_size is a int, as 128 is; got '8'"),
        (axis('train.batch_size', [8, 0]), 'run batch_size-0: config.train.batch_size is 0; it must be at least 1'),
        (axis('network.shortcut', ['A', 'D']), 'run shortcut-D: config.network.shortcut is '),
        (axis('data.dataset', ['no/where']), "run of this sweep 'dataset-no/where': a name has 1 to 128"),
        (axis('seed', [1, 1]), 'two runs of this sweep have one name: seed=1 and seed=1'),
        (axis('run.steps', [1, 2]), 'two runs of this sweep are one run: they differ in nothing that defines one: '),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_what_cannot_be_is_refused_with_the_run(base, grid, says):
    with pytest.raises(UserError) as error:
        plan.plan(Sweep(base, grid), {})
    assert str(error.value).startswith(says) and '\n' not in str(error.value)


def test_seeds_that_are_trained_twice_are_refused(base):
    grid = axis('train.seeds', [4])
    assert len(plan.plan(Sweep(base, grid), {})) == 1
    with pytest.raises(UserError, match=r'^two runs of this sweep are one run'):
        plan.plan(Sweep(base, product(grid, seeds(2))), {})


@pytest.mark.parametrize(
    ('made', 'says'),
    [
        ('None', 'gives a NoneType; it is to give a resnet_jax'),
        ('Sweep(ConfigDict({"seed": 0}), seeds(2))', 'the base of this sweep lacks config'),
    ],
)
def test_a_definition_that_is_none_is_refused(tmp_path, made, says):
    path = tmp_path / 'mine.py'
    path.write_text('from ml_collections import ConfigDict\nfrom resnet_jax.sweep import Sweep, seeds\n'
                    f'def get_sweep():\n    return {made}\n')  # fmt: skip
    with pytest.raises(UserError, match=says):
        plan.plan(plan.find(str(path)), {})


def test_what_is_varied_cannot_be_overridden_too(base):
    with pytest.raises(UserError, match=r'config\.seed is varied by this sweep: leave out --config\.seed'):
        plan.plan(Sweep(base, seeds(2)), {'seed': '1'})


@pytest.mark.parametrize('name', plan.names())
def test_every_sweep_of_the_checkout_can_be_planned(name):
    sweep = plan.find(name)
    assert len(plan.plan(sweep, {})) == len(sweep.grid) > 1


def test_a_dry_run_shows_every_run_and_begins_none_and_imports_no_jax(tmp_path):
    """With what each has of parameters and multiply-adds: those of `describe`."""
    code = (
        'import sys; from resnet_jax import cli; code = cli.main(sys.argv[1:]); '
        'assert "jax" not in sys.modules; sys.exit(code)'
    )
    ended = subprocess.run(
        [sys.executable, '-c', code, 'sweep', 'digits_depth', '--dry-run', '--dir', str(tmp_path / 'sweep')],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = ended.stdout.splitlines()
    (row,) = [line.split() for line in lines if line.startswith('network-residual_depth-110_seed-2 ')]
    assert row[1:4] == ['434,146', '3,949,376', '330']
    assert sum(line.startswith('network-') for line in lines) == 30 and '30 runs, about ' in lines[-1]
    assert not (tmp_path / 'sweep').exists()


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        (['digits_dept'], "there is no sweep 'digits_dept'; there are "),
        (['digits_depth', 'resume'], 'digits_depth is no action on a sweep; actions are status, '),
        (['status'], 'sweep status needs the sweep: its name, or its directory'),
        (['status', 'nowhere'], 'nowhere holds no sweep (no sweep.json)'),
        (['digits_depth', '--then', 'lesio'], "there is no experiment 'lesio'"),
        (['digits_depth', '--slots', '999'], '--slots is 999; it must be from 1 to the '),
        (['digits_depth', '--config', 'configs/digits.py'], '--config configs/digits.py: '),
        (['retry', 'nowhere', '--config.seed=1'], 'sweep retry does not take --config.seed=1'),
        (['resume', 'nowhere', '--dry-run'], 'sweep resume does not take --dry-run'),
        (['status', 'nowhere', '--then', 'lesion'], 'sweep status does not take --then'),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_a_mistake_is_one_line_and_nothing_is_begun(line, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['sweep', *line]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'resnet-jax: {says}') and error.count('\n') == 1
    assert not list(tmp_path.iterdir())
