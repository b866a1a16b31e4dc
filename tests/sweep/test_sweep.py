"""A real sweep, from the command line to its report: two seeds of a tiny network, one that diverges, one that fails."""

import csv

import pytest

from resnet_jax import cli
from resnet_jax import run as runs
from resnet_jax.runtime import directory
from resnet_jax.sweep import state

MIXED = """
import importlib.util

from resnet_jax.sweep import Sweep, chain, conditions, product, seeds

def get_sweep():
    found = importlib.util.spec_from_file_location('tiny', {tiny!r})
    tiny = importlib.util.module_from_spec(found)
    found.loader.exec_module(tiny)
    config = tiny.get_config()
    config.network.update(stage_blocks=(2,), widths=(4,))
    config.run.update(steps=2, eval_every=0, save_every=2, log_every=2)
    tame = conditions('network', {{'tame': {{}}}})
    odd = conditions('network', {{
        'wild': {{'train.schedule.learning_rate': 1e30, 'train.schedule.warmup': 'none'}},
        'lost': {{'train.start_from': '/no/such/run'}},
    }})
    return Sweep(config, chain(product(tame, seeds(2)), product(odd, seeds(1))), then='lesion:beyond=False:draws=2')
"""
NAMES = ['network-tame_seed-0', 'network-tame_seed-1', 'network-wild_seed-0', 'network-lost_seed-0']


@pytest.fixture(scope='module')
def swept(tmp_path_factory, pytestconfig):
    """(its definition, its directory, the exit code)"""
    folder = tmp_path_factory.mktemp('swept')
    definition = folder / 'mixed.py'
    definition.write_text(MIXED.format(tiny=str(pytestconfig.rootpath / 'tests' / 'tiny.py')))
    code = cli.main(['sweep', str(definition), '--dir', str(folder / 'sweep')])
    return definition, folder / 'sweep', code


def states(path):
    return [found.state for found in state.read(path).statuses().values()]


def table(path):
    with (path / 'runs.csv').open() as file:
        return {row['run']: row for row in csv.DictReader(file)}


def test_every_run_is_tried_and_the_one_that_cannot_be_is_said(swept):
    _, path, code = swept
    assert code == 2
    assert dict(zip(NAMES, states(path), strict=True)) == dict(
        zip(NAMES, ['done', 'done', 'done', 'failed'], strict=True)
    )
    said = state.read(path).statuses()[NAMES[3]].lines
    assert any('/no/such/run holds no run' in line for line in said) and said[-1] == '(exit code 2)'


def test_its_table_has_what_each_run_came_to(swept):
    found = table(swept[1])
    assert list(found) == NAMES
    for name in NAMES[:2]:
        run = runs.load(swept[1] / name)
        assert float(found[name]['test_error']) == run.evaluate().error
        assert found[name]['diverged'] == 'False' and found[name]['network'] == 'tame'
    assert found[NAMES[2]]['diverged'] == 'True'
    claimed = [key for key in found[NAMES[0]] if key.startswith('lesion: ')]
    assert claimed and all(found[NAMES[0]][key] for key in claimed)


def test_experiments_are_done_on_each_run_alone(swept):
    from resnet_jax.report import findings

    for name in NAMES[:2]:
        finding = findings.load(swept[1] / name, 'lesion')
        assert len(finding.runs) == 1 and finding.settings['draws'] == 2
    assert not (swept[1] / NAMES[2] / 'findings').exists()


def test_done_again_it_trains_nothing_and_a_retry_does_what_failed(swept, capsys):
    definition, path, _ = swept
    metrics = [path / name / 'metrics.jsonl' for name in NAMES[:3]]
    before = [file.stat().st_mtime_ns for file in metrics]
    assert cli.main(['sweep', str(definition), '--dir', str(path)]) == 2
    assert [file.stat().st_mtime_ns for file in metrics] == before
    assert cli.main(['sweep', 'retry', str(path)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith('resnet-jax: 1 of 4 runs failed; once that is mended: resnet-jax sweep retry ')
    assert [file.stat().st_mtime_ns for file in metrics] == before
    assert cli.main(['sweep', 'status', str(path)]) == 0
    assert '3 done, 1 failed' in capsys.readouterr().out


def test_its_directory_is_a_laboratory_whose_runs_are_found_by_what_defines_them(swept):
    from resnet_jax import laboratory

    configs = [directory.read_config(swept[1] / name) for name in NAMES]
    assert [config.train.start_from for config in laboratory.missing(swept[1], configs)] == ['/no/such/run']
