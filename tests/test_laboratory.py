"""Experiments on the runs that they name: trained once, measured once, whatever is done again or interrupted."""

import json
import shutil
from pathlib import Path

import pytest

from resnet_jax import cli, experiment, laboratory, spec
from resnet_jax.report import findings
from resnet_jax.run import load
from resnet_jax.runtime import directory

COUNTING = Path(__file__).with_name('counting.py')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    """A laboratory in which the counting was done once."""
    lab = tmp_path_factory.mktemp('lab')
    assert cli.main(['experiment', str(COUNTING), '--lab', str(lab)]) == 0
    return lab


@pytest.fixture
def lab(done, tmp_path):
    """A copy of it."""
    return shutil.copytree(done, tmp_path / 'lab')


def perform(lab, *arguments):
    return cli.main(['experiment', str(COUNTING), '--lab', str(lab), *arguments])


def ages(lab, pattern):
    """When the files of a laboratory were written."""
    return {path.name: path.stat().st_mtime_ns for path in lab.glob(pattern)}


def test_every_named_run_is_trained_and_measured(done):
    finding = findings.load(done, 'counting')
    assert [(run.title.split('-')[0], run.seed, run.step) for run in finding.runs] == [
        ('resnet8', 0, 13),
        ('resnet8', 1, 13),
    ]
    assert finding.question == 'How many blocks has a network?'
    assert finding.settings == {'seeds': [0, 1], 'rates': [0.1], 'least': 1}
    assert finding.summary == {'runs': 2, 'depth': 8}
    assert finding.arrays.keys() == {'run1.blocks', 'run2.blocks'}
    assert (done / 'figures' / 'counting_blocks.csv').read_text() == 'seed\n0\n1\n'
    assert len(ages(done, '*/config.json')) == 1 and len(list(done.glob('*/config.json'))) == 2


def test_done_again_nothing_is_trained_or_measured(lab, capsys):
    before = ages(lab, 'findings/*') | ages(lab, 'measured/*') | ages(lab, '*/metrics.jsonl')
    assert perform(lab) == 0
    assert ages(lab, 'findings/*') | ages(lab, 'measured/*') | ages(lab, '*/metrics.jsonl') == before
    assert 'measured before; to measure anew: rm' in capsys.readouterr().out


def test_with_another_setting_it_is_measured_anew_on_the_same_runs(lab):
    trained = ages(lab, '*/checkpoints/*')
    assert perform(lab, '--config.least=4') == 0
    assert findings.load(lab, 'counting').claims[0].verdict == 'refuted'
    assert ages(lab, '*/checkpoints/*') == trained
    assert len(ages(lab, 'measured/*')) == 4


def test_a_run_that_is_missing_alone_is_trained(lab):
    gone = next(
        path.parent for path in lab.glob('*/config.json') if json.loads(path.read_text())['config']['seed'] == 1
    )
    kept = next(path.parent for path in lab.glob('*/config.json') if path.parent != gone)
    shutil.rmtree(gone)
    before = ages(kept, 'metrics.jsonl')
    assert perform(lab) == 0
    assert (gone / 'config.json').is_file() and ages(kept, 'metrics.jsonl') == before


def test_a_run_under_another_name_is_found_by_what_defines_it(lab):
    path = next(lab.glob('*/config.json')).parent
    path.rename(lab / 'renamed')
    module = experiment.find(str(COUNTING))
    assert laboratory.missing(lab, module.runs(module.get_config('cpu'))) == []


def test_what_was_measured_before_an_interruption_is_kept(lab, monkeypatch, capsys):
    for path in [*lab.glob('findings/*'), *lab.glob('measured/*')]:
        path.unlink()
    monkeypatch.setenv('STOP_AT_SEED', '1')
    assert perform(lab) == 130
    first = ages(lab, 'measured/*')
    assert len(first) == 1 and not list(lab.glob('findings/*'))
    monkeypatch.delenv('STOP_AT_SEED')
    assert perform(lab) == 0
    assert first.items() <= ages(lab, 'measured/*').items()
    assert len(findings.load(lab, 'counting').runs) == 2


def test_a_run_that_diverges_is_left_out_and_said(tmp_path, capsys):
    assert perform(tmp_path, '--config.seeds=0', '--config.rates=0.1,1e30') == 0
    finding = findings.load(tmp_path, 'counting')
    assert finding.summary['runs'] == 1
    assert any(note.startswith('Left out, for its training diverged: resnet8') for note in finding.notes)
    runs = {path.parent for path in tmp_path.glob('*/config.json')}
    assert sorted(directory.diverged(run) for run in runs) == [False, True]
    metrics = [(run / 'metrics.jsonl').read_bytes() for run in sorted(runs)]
    assert perform(tmp_path, '--config.seeds=0', '--config.rates=0.1,1e30') == 0
    assert [(run / 'metrics.jsonl').read_bytes() for run in sorted(runs)] == metrics  # not tried again
    assert 'diverged' in (tmp_path / 'report.html').read_text()


def test_where_the_main_run_diverges_it_is_one_line(tmp_path, capsys):
    assert perform(tmp_path, '--config.seeds=0', '--config.rates=1e30') == 2
    assert 'diverged: there is no trained network to measure counting on' in capsys.readouterr().err


def test_the_report_begins_with_the_ledger(lab):
    page = (lab / 'report.html').read_text()
    assert page.index('id="ledger"') < page.index('id="claims"') < page.index('id="finding-counting"')
    assert 'How many blocks has a network?' in page and 'href="#finding-counting"' in page


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['all', '--run', 'somewhere'], 'leave out --run'),
        (['all', '--config.seeds=1'], 'leave out --run'),
        ([str(COUNTING), '--config.seed=1'], 'no setting is called config.seed; the nearest is config.seeds'),
        ([str(COUNTING), '--config', 'configs/digits.py'], 'have their own config'),
        ([str(Path(__file__))], 'has no TITLE'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, arguments, said, capsys):
    assert cli.main(['experiment', *arguments, '--lab', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1


def test_a_run_of_ones_own_is_measured_with_those_beside_it(lab):
    own = next(lab.glob('*/config.json')).parent
    assert cli.main(['experiment', str(COUNTING), '--run', str(own)]) == 0
    finding = findings.load(own, 'counting')
    assert len(finding.runs) == 2
    assert finding.runs[0].identity == spec.identity(directory.read_config(own))


def test_a_run_whose_training_is_not_finished_is_refused(lab, capsys):
    own = next(lab.glob('*/config.json')).parent
    (own / 'checkpoints' / '13').rename(lab / 'set aside')
    assert cli.main(['experiment', str(COUNTING), '--run', str(own)]) == 2
    error = capsys.readouterr().err
    assert 'is at step 12 of 13; finish it first' in error and error.count('\n') == 1
    assert not (own / 'findings').exists()


def test_what_needs_no_run_is_not_done_on_one(lab, capsys):
    own = next(lab.glob('*/config.json')).parent
    assert cli.main(['experiment', 'identity', '--run', str(own)]) == 2
    assert f'identity needs no trained network: leave out --run {own}' in capsys.readouterr().err


def test_what_another_version_found_is_said_and_found_anew(lab, capsys):
    path = lab / 'findings' / 'counting.json'
    path.write_text(path.read_text().replace('"schema": 3', '"schema": 2'))
    assert cli.main(['report', '--run', str(lab)]) == 0
    assert 'counting, found by another version' in (lab / 'report.html').read_text()
    assert perform(lab) == 0
    assert 'found by another version' not in (lab / 'report.html').read_text()
    assert findings.load(lab, 'counting').summary['runs'] == 2


def test_other_code_measures_anew(lab, tmp_path, monkeypatch):
    before = ages(lab, 'measured/*')
    changed = tmp_path / 'counting.py'
    changed.write_text(COUNTING.read_text() + '# another\n')
    shutil.copy(COUNTING.with_name('tiny.py'), tmp_path)
    assert cli.main(['experiment', str(changed), '--lab', str(lab)]) == 0
    assert before.items() < ages(lab, 'measured/*').items() and len(ages(lab, 'measured/*')) == 4
    assert len(list(lab.glob('*/config.json'))) == 2


def test_a_run_that_diverged_is_beside_the_others(tmp_path):
    assert perform(tmp_path, '--config.seeds=0,1') == 0
    own, other = sorted(tmp_path.glob('*/config.json'))
    with (other.parent / 'metrics.jsonl').open('a') as file:
        file.write('{"kind": "diverged", "step": 13}\n')
    shutil.rmtree(other.parent / 'checkpoints' / '13')
    (found,) = laboratory.beside(load(own.parent))
    assert found.diverged and found.path == other.parent


def test_other_claims_are_judged_anew_of_what_was_measured(lab, tmp_path):
    before = ages(lab, 'measured/*')
    for name in ('counting.py', 'tiny.py'):
        shutil.copy(COUNTING.with_name(name), tmp_path)
    changed = ['experiment', str(tmp_path / 'counting.py'), '--lab', str(lab)]
    assert cli.main(changed) == 0
    first = ages(lab, 'findings/*')
    (tmp_path / '_beside.py').write_text('# another\n')
    assert cli.main(changed) == 0
    assert ages(lab, 'measured/*') == before
    assert all(first[name] < age for name, age in ages(lab, 'findings/*').items())
