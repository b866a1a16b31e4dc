"""A trained run: what training leaves in its directory, and what is had from it, in a notebook and by commands."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import resnet_jax
from resnet_jax import cli, spec
from resnet_jax import config as configuration
from resnet_jax.errors import UserError
from resnet_jax.models import counts
from resnet_jax.models.gates import Gates
from resnet_jax.report import findings
from resnet_jax.run import Run
from resnet_jax.runtime import directory

TINY = f'{Path(__file__).parent}/tiny.py:preact_resnet14'  # six blocks, three of them entry blocks
LAST, BLOCKS = 13, 6


def call(*arguments):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = cli.main([str(argument) for argument in arguments])
    return SimpleNamespace(code=code, out=out.getvalue(), error=error.getvalue())


def train(run_dir, *overrides):
    return call('train', '--config', TINY, '--run', run_dir, '--config.run.eval_batch=360', *overrides)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(directory, output) of `train --then lesion`."""
    run_dir = tmp_path_factory.mktemp('runs') / 'tiny'
    done = train(run_dir, '--then', 'lesion')
    assert (done.code, done.error) == (0, '')
    return run_dir, done.out


@pytest.fixture(scope='module')
def run_dir(trained):
    return trained[0]


@pytest.fixture(scope='module')
def run(run_dir):
    return resnet_jax.load(run_dir)


def last_test(run_dir):
    return [record for record in directory.read_metrics(run_dir) if record['kind'] == 'test'][-1]


# What training leaves


def test_training_says_what_it_trains_what_came_of_it_and_what_the_experiment_found(trained, run):
    run_dir, out = trained
    arch = spec.architecture(run.config)
    title = configuration.title(run.config.network)
    assert title.startswith('preact_resnet14-')
    assert f'{title} on digits: {counts.parameters(arch):,} parameters, 13 steps of 128' in out
    assert f'step 13: test error {last_test(run_dir)["error"]:.2f} %' in out
    finding = findings.load(run_dir, 'lesion')
    assert finding.title in out and f'report: {run_dir}/report.html' in out
    assert all(claim.statement[:40] in out and claim.verdict in out for claim in finding.claims)  # its line is broken
    assert all(label in out for label in finding.summary)


def test_the_directory_holds_config_environment_records_checkpoints_finding_figures_and_report(run_dir, run):
    assert {path.name for path in run_dir.glob('[!.]*')} == {
        'config.json', 'preprocessing.json', 'environment.json', 'metrics.jsonl', 'checkpoints', 'findings', 'figures',
        'measured', 'report.html', 'result.json',
    }  # fmt: skip
    assert {path.name for path in (run_dir / 'checkpoints').iterdir()} == {'0', '12', '13'}
    assert {path.name for path in (run_dir / 'findings').iterdir()} == {'lesion.json', 'lesion.npz'}
    finding = findings.load(run_dir, 'lesion')
    (subject,) = finding.runs
    assert (subject.identity, subject.step, finding.data) == (spec.identity(run.config), LAST, 'digits')
    page = (run_dir / 'report.html').read_text()
    assert finding.figures and finding.claims
    for name in finding.figures:
        assert (run_dir / 'figures' / f'{name}.svg').is_file() and (run_dir / 'figures' / f'{name}.png').is_file()
    assert finding.title in page and all(claim.statement in page for claim in finding.claims)
    assert json.loads((run_dir / 'environment.json').read_text())['devices'] == jax.device_count()


def test_the_finding_agrees_with_deleting_the_blocks_one_by_one(run_dir, run):
    finding = findings.load(run_dir, 'lesion')
    right = finding.arrays['run1.single_right'].values
    errors = dict(zip(finding.arrays['run1.block'].values, 100 * (1 - right.mean(axis=1)), strict=True))
    assert sorted(errors) == list(range(1, BLOCKS + 1))
    for block in (1, 2, 5):
        assert errors[block] == pytest.approx(run.lesion([block]).error)


# In a notebook


def test_a_run_is_opened_at_its_newest_checkpoint_or_at_the_one_asked_for(run_dir, run):
    assert (run.path, run.step, run.config.data.dataset) == (run_dir, LAST, 'digits')
    start = resnet_jax.load(str(run_dir), step=0)
    assert start.step == 0 == int(start.state.step)
    assert int(run.state.step) == LAST and run.variables.keys() == {'params', 'batch_stats'}
    kernels = [each.variables['params']['stem']['conv1']['kernel'] for each in (start, run)]
    assert not np.array_equal(*kernels)


def test_evaluation_is_what_training_recorded_last(run_dir, run):
    result, recorded = run.evaluate(), last_test(run_dir)
    assert recorded['step'] == LAST
    assert (result.correct, result.examples) == (recorded['correct'], recorded['examples']) == (result.correct, 359)
    assert result.loss == recorded['loss'] and result.error == recorded['error']


def test_other_splits_are_evaluated_and_an_empty_or_unknown_one_is_refused(run):
    assert run.evaluate('train').examples == 1438
    with pytest.raises(UserError, match=r'selection split of .* is empty'):
        run.evaluate('selection')
    with pytest.raises(UserError, match="no split 'val'; there are train, selection, test"):
        run.evaluate('val')


@pytest.fixture(scope='module')
def by_hand(run):
    """`by_hand(residual, shortcut)`: right answers on the test split under gates written down one by one."""
    ones = jnp.ones(BLOCKS, jnp.float32)
    images = run.dataset.test.images.astype(jnp.float32) / 255
    normalization = run.dataset.normalization
    images = (images - normalization.mean) / normalization.deviation

    def correct(residual):
        gates = Gates(ones, jnp.asarray(residual, jnp.float32), ones, ones)
        logits = run.network.apply(run.variables, images, gates, train=False)
        return int((np.argmax(logits, axis=1) == run.dataset.test.labels).sum())

    return correct


def test_a_lesion_is_the_network_with_these_residual_gates_closed(run, by_hand):
    assert run.lesion([3, 5]).correct == by_hand([1, 1, 0, 1, 0, 1])
    assert run.lesion([]).correct == by_hand([1, 1, 1, 1, 1, 1]) == run.evaluate().correct
    correct = {run.lesion([block]).correct for block in range(1, BLOCKS + 1)}
    assert len(correct) > 1  # deleting is felt, so that agreeing is no accident


def test_blocks_that_cannot_be_deleted_are_refused(run):
    for block in (0, BLOCKS + 1, -1):
        with pytest.raises(UserError, match=f'block {block} does not exist; this network has blocks 1 to {BLOCKS}'):
            run.lesion([1, block])
    plain = Run(run.path, configuration.load(TINY.replace('preact_resnet', 'plain')), LAST)
    with pytest.raises(UserError, match=r'block 3 cannot be deleted.* blocks that can be: 1-2, 4, 6'):
        plain.lesion([3])


def test_the_chunks_of_a_split_hold_every_example_once_as_the_network_takes_them(run, by_hand):
    config = run.config.copy_and_resolve_references().unlock()
    config.run.eval_batch = 100
    chunks = list(Run(run.path, config, LAST).chunks('test'))
    assert [len(labels) for _, labels in chunks] == [100, 100, 100, 59]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in chunks]), run.dataset.test.labels)
    logits = run.network.apply(run.variables, jnp.concatenate([images for images, _ in chunks]), train=False)
    assert int((np.argmax(logits, axis=1) == run.dataset.test.labels).sum()) == by_hand([1] * BLOCKS)


def test_probabilities_are_the_softmax_whatever_the_batch(run, by_hand):
    images, labels = run.dataset.test.images, run.dataset.test.labels
    p = run.predict(images)
    assert p.shape == (359, 10) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert int((p.argmax(axis=1) == labels).sum()) == run.evaluate().correct
    assert -np.log(p[np.arange(359), labels]).mean() == pytest.approx(run.evaluate().loss, rel=1e-4)
    config = run.config.copy_and_resolve_references().unlock()
    config.run.eval_batch = 100
    np.testing.assert_allclose(Run(run.path, config, LAST).predict(np.asarray(images)), p, atol=1e-5)
    lesioned = run.predict(images, [3, 5])
    assert int((lesioned.argmax(axis=1) == labels).sum()) == by_hand([1, 1, 0, 1, 0, 1])
    assert not np.allclose(lesioned, p, atol=1e-3)


def test_features_come_by_name_and_those_of_a_lesion_differ_behind_it(run):
    images = run.dataset.test.images
    found = run.features(['logits', 'stem', 'block:3'], images)
    assert list(found) == ['logits', 'stem', 'block:3']
    assert [each.shape for each in found.values()] == [(359, 10), (359, 8, 8, 4), (359, 4, 4, 8)]
    exponents = np.exp(found['logits'] - found['logits'].max(axis=1, keepdims=True))
    np.testing.assert_allclose(exponents / exponents.sum(axis=1, keepdims=True), run.predict(images), atol=1e-5)
    lesioned = run.features(['stem', 'block:3'], images, [3])
    np.testing.assert_array_equal(lesioned['stem'], found['stem'])
    assert not np.allclose(lesioned['block:3'], found['block:3'])
    with pytest.raises(UserError, match="no feature 'block:7'; there are stem"):
        run.features(['block:7'], images)


def test_of_no_images_there_are_no_rows(run):
    images = run.dataset.test.images[:0]
    none = run.predict(images)
    assert none.shape == (0, 10) and none.dtype == np.float32
    assert run.features(['block:3'], images)['block:3'].shape == (0, 4, 4, 8)


def test_features_that_would_not_fit_the_memory_are_refused(run):
    endless = np.broadcast_to(np.zeros((1, 8, 8, 1), np.uint8), (10**12, 8, 8, 1))
    with pytest.raises(UserError, match=r'stem, pool of 1,000,000,000,000 images: .* GB, .*; .* the largest is stem'):
        run.features(['stem', 'pool'], endless)


def test_evaluation_needs_no_training_image(run_dir):
    fresh = resnet_jax.load(run_dir)
    fresh.evaluate()
    assert 'test' in vars(fresh.dataset) and 'train' not in vars(fresh.dataset)
    assert fresh.classes == tuple('0123456789')
    for ours, theirs in zip(fresh.normalization, fresh.dataset.normalization, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_or_checkpoint_that_is_not_there_is_refused(run_dir, tmp_path):
    with pytest.raises(UserError, match='holds no run'):
        resnet_jax.load(tmp_path)
    with pytest.raises(UserError, match=r'no checkpoint of step 7 \(it has: 0, 12, 13\)'):
        resnet_jax.load(run_dir, step=7)


def test_reading_a_run_writes_nothing_into_it(run_dir):
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob('*')}
    resnet_jax.load(run_dir).lesion([2])
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob('*')} == before


# By commands


def test_the_command_evaluates_as_the_notebook_does(run_dir, run):
    for arguments, result, said in (
        ([], run.evaluate(), 'test error'),
        (['--delete', '3,5'], run.lesion([3, 5]), 'without block 3,5'),
        (['--split', 'train'], run.evaluate('train'), 'train error'),
        (['--step', 0], resnet_jax.load(run_dir, 0).evaluate(), 'at step 0'),
    ):
        done = call('evaluate', '--run', run_dir, *arguments)
        assert done.code == 0 and said in done.out
        assert f'{result.error:.2f} % ({result.examples - result.correct} of {result.examples} wrong)' in done.out


def test_probabilities_and_features_are_written_with_the_labels(run_dir, run, tmp_path):
    written = ['--probabilities', tmp_path / 'p.npz', '--features', 'pool,block:2', '--out', tmp_path / 'f.npz']
    done = call('evaluate', '--run', run_dir, '--delete', '3', *written)
    assert done.code == 0 and f'probabilities: float32 (359, 10) in {tmp_path}/p.npz' in done.out
    assert f'block:2: float32 (359, 8, 8, 4) in {tmp_path}/f.npz' in done.out
    images, labels = run.dataset.test.images, run.dataset.test.labels
    for name, expected in (('p', {'probabilities': run.predict(images, [3])}),
                           ('f', run.features(['pool', 'block:2'], images, [3]))):  # fmt: skip
        arrays = np.load(tmp_path / f'{name}.npz')
        assert set(arrays) == {*expected, 'labels'}
        np.testing.assert_array_equal(arrays['labels'], labels)
        for key, values in expected.items():
            np.testing.assert_array_equal(arrays[key], values)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--features', 'stem'], '--features NAME[,NAME] and --out FILE go together'),
        (['--out', 'f.npz'], '--features NAME[,NAME] and --out FILE go together'),
        (['--features', 'stem,poll', '--out', 'f.npz'], "no feature 'poll'; there are stem, stage1, stage2, stage3"),
        (['--features', 'stem', '--out', 'f.npz', '--probabilities', './f.npz'], 'are both f.npz; give two files'),
        (['--probabilities', '.'], 'cannot write . (Is a directory); give another file'),
        (['--probabilities', '/dev/null/p.npz'], 'cannot write /dev/null/p.npz (File exists); give another file'),
    ],
)
def test_what_cannot_be_written_or_named_is_one_line(run_dir, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call('evaluate', '--run', run_dir, *arguments)
    assert done.code == 2 and said in done.error and done.error.count('\n') == 1
    assert done.out == '' and list(tmp_path.iterdir()) == []  # before it was evaluated


def test_a_second_start_says_that_the_run_is_complete_and_does_nothing_again(run_dir):
    watched = [run_dir / 'metrics.jsonl', run_dir / 'findings' / 'lesion.npz', *(run_dir / 'checkpoints').iterdir()]
    before = [path.stat().st_mtime_ns for path in watched]
    for done in (train(run_dir, '--then', 'lesion'), call('train', '--run', run_dir, '--then', 'lesion')):
        assert done.code == 0
        assert 'this run is complete' in done.out and 'measured before' in done.out
    assert [path.stat().st_mtime_ns for path in watched] == before


def test_the_report_is_written_anew(run_dir):
    page = (run_dir / 'report.html').read_text()
    (run_dir / 'report.html').unlink()
    done = call('report', '--run', run_dir)
    assert done.code == 0 and f'report: {run_dir}/report.html' in done.out
    assert (run_dir / 'report.html').read_text() == page


def test_a_complete_run_goes_on_when_its_steps_are_raised(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / 'copy')
    done = train(tmp_path / 'copy', '--config.run.steps=15')
    assert (done.code, done.error) == (0, '')
    assert 'resumed exactly at step 13' in done.out
    assert last_test(tmp_path / 'copy')['step'] == 15 == resnet_jax.load(tmp_path / 'copy').step
