"""A run's directory: whose it is, one process at a time, and records that survive a crash."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs import digits
from resnet_jax import spec
from resnet_jax.runtime import directory
from tests.mistakes import refused


@pytest.fixture
def config():
    return digits.get_config()


def hold(run_dir):
    with directory.held(run_dir):
        pass


# Whose it is


def test_a_config_comes_back_as_it_was_tuples_and_all(config, tmp_path):
    directory.create(tmp_path / 'deep' / 'run', config)
    assert directory.read_config(tmp_path / 'deep' / 'run').to_dict() == config.to_dict()


def test_how_a_run_is_carried_out_may_change(config, tmp_path):
    directory.check(tmp_path, config)
    directory.create(tmp_path, config)
    config.run.steps, config.data.data_dir = 7, 'elsewhere'
    directory.check(tmp_path, config)
    directory.create(tmp_path, config)
    assert directory.read_config(tmp_path).run.steps == 7


@pytest.mark.parametrize('ask', [directory.create, directory.check])
def test_another_runs_directory_is_refused_and_left_as_it_is(config, tmp_path, ask):
    directory.create(tmp_path, config)
    before = (tmp_path / 'config.json').read_bytes()
    config.train.batch_size, config.seed, config.run.steps = 64, 5, 9
    message = refused(ask, tmp_path, config)
    assert 'holds another run: its seed is 0, here 5; give another directory' in message
    assert (tmp_path / 'config.json').read_bytes() == before


@pytest.mark.parametrize('elsewhere', [False, True])
def test_checkpoints_that_nothing_says_whose_they_are_are_refused(config, tmp_path, elsewhere):
    config.run.checkpoints = str(tmp_path / 'elsewhere') if elsewhere else ''
    folder = tmp_path / 'elsewhere' / spec.identity(config) if elsewhere else tmp_path / 'run' / 'checkpoints'
    (folder / '7').mkdir(parents=True)
    assert f'{folder} has checkpoints, but {tmp_path}/run no config.json' in refused(
        directory.check, tmp_path / 'run', config
    )


def test_runs_that_share_a_place_elsewhere_have_each_their_own_there_and_others_checkpoints_are_none(config, tmp_path):
    config.run.checkpoints = str(tmp_path / 'elsewhere')
    places = {directory.own_place(config)}
    (directory.checkpoints(tmp_path / 'run', directory.own_place(config)) / '7').mkdir(parents=True)
    for key, value in {'seed': 5, 'train.batch_size': 64, 'network.shortcut': 'none'}.items():
        config.update_from_flattened_dict({key: value})
        places.add(directory.own_place(config))
        directory.check(tmp_path / 'run', config)
    assert len(places) == 4 and {str(Path(place).parent) for place in places} == {config.run.checkpoints}
    config.run.update(steps=7, keep=9)  # it is the same run
    assert directory.own_place(config) in places


def test_a_place_is_found_again_from_another_folder_than_it_was_named_in(config, tmp_path, monkeypatch):
    config.run.checkpoints = 'relative'
    monkeypatch.chdir(tmp_path)
    directory.create(tmp_path / 'run', config)
    monkeypatch.chdir('/')
    there = directory.read_config(tmp_path / 'run')
    assert there.run.checkpoints == f'{tmp_path}/relative' and config.run.checkpoints == 'relative'
    assert not directory.has_checkpoint(tmp_path / 'run', 7)
    step = tmp_path / 'relative' / spec.identity(config) / '7'
    step.mkdir(parents=True)
    (step / 'manifest.json').touch()
    assert directory.has_checkpoint(tmp_path / 'run', 7)


def test_a_damaged_record_is_named(config, tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('{"kind": "train", "step": 1}\n\0\0\0\n')
    assert 'metrics.jsonl has a damaged line' in refused(directory.read_metrics, tmp_path)


def test_the_identity_written_down_is_that_of_the_config(config, tmp_path):
    directory.create(tmp_path, config)
    assert json.loads((tmp_path / 'config.json').read_text())['identity'] == spec.identity(config)


def test_what_is_no_runs_directory_is_refused(config, tmp_path):
    assert f'{tmp_path} holds no run' in refused(directory.read_config, tmp_path)
    (tmp_path / 'config.json').write_text('{"schema": 4, "conf')
    assert 'config.json cannot be read' in refused(directory.read_config, tmp_path)
    assert 'config.json cannot be read' in refused(directory.create, tmp_path, config)
    (tmp_path / 'config.json').write_text('{"schema": 1}')
    assert 'is not of schema 4' in refused(directory.read_config, tmp_path)


def test_a_directory_that_cannot_be_written_is_refused(config, tmp_path):
    (tmp_path / 'file').write_text('')
    for run_dir in (tmp_path / 'file', tmp_path / 'file' / 'run'):
        for ask in (lambda path: directory.create(path, config), hold):
            assert f'cannot write to {run_dir}' in refused(ask, run_dir)


@pytest.mark.parametrize('shape', [(1, 1, 3), (8, 8, 1)])
def test_preprocessing_comes_back_to_the_bit(tmp_path, shape):
    mean = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    directory.write_preprocessing(tmp_path, (mean, mean**2), ['tench', 'ünïcode', '0'], 'abc')
    (read, squares), classes = directory.read_preprocessing(tmp_path)
    assert classes == ('tench', 'ünïcode', '0') and read.dtype == squares.dtype == np.float32
    np.testing.assert_array_equal(read, mean, strict=True)
    np.testing.assert_array_equal(squares, mean**2, strict=True)


def test_preprocessing_that_is_missing_or_damaged_is_named(tmp_path):
    assert f'there is no {tmp_path}/preprocessing.json' in refused(directory.read_preprocessing, tmp_path)
    (tmp_path / 'preprocessing.json').write_text('{"schema": 1}')
    assert 'is not of schema 4' in refused(directory.read_preprocessing, tmp_path)


# One process at a time


def test_a_directory_is_held_by_one_and_free_again_afterwards(tmp_path):
    with directory.held(tmp_path / 'run'):
        assert 'another process works on' in refused(hold, tmp_path / 'run')
        hold(tmp_path / 'other')
    hold(tmp_path / 'run')


def test_a_directory_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), directory.held(tmp_path):
        raise ZeroDivisionError
    hold(tmp_path)


# Records


@pytest.fixture
def recorded(tmp_path):
    for step in (5, 6, 10):
        directory.append_metrics(tmp_path, {'kind': 'train', 'step': step, 'loss': 1 / step})
    return tmp_path


def steps(run_dir):
    return [record['step'] for record in directory.read_metrics(run_dir)]


def test_records_come_back_as_they_were_in_their_order(recorded, tmp_path_factory):
    assert directory.read_metrics(recorded)[1] == {'kind': 'train', 'step': 6, 'loss': 1 / 6}
    assert steps(recorded) == [5, 6, 10]
    assert directory.read_metrics(tmp_path_factory.mktemp('none')) == []


@pytest.mark.parametrize('broken', ['{"kind": "tr', '{"kind": "train", "step": 11}'])
def test_a_line_cut_off_by_a_crash_is_left_out_and_gone_when_the_run_goes_on(recorded, broken):
    with (recorded / 'metrics.jsonl').open('a') as file:
        file.write(broken)
    assert steps(recorded) == [5, 6, 10]
    directory.keep_metrics_until(recorded, 6)
    directory.append_metrics(recorded, {'kind': 'train', 'step': 7})
    assert steps(recorded) == [5, 6, 7]
    assert [json.loads(line)['step'] for line in (recorded / 'metrics.jsonl').read_text().splitlines()] == [5, 6, 7]


def test_records_of_steps_that_will_be_done_again_are_dropped(recorded):
    assert [record['step'] for record in directory.keep_metrics_until(recorded, 6)] == [5, 6] == steps(recorded)


def test_an_environment_comes_back_and_is_empty_where_nothing_has_begun(tmp_path):
    assert directory.read_environment(tmp_path) == {}
    directory.write_environment(tmp_path, {'jax': '0.10.2', 'devices': 4})
    assert directory.read_environment(tmp_path) == {'schema': 4, 'jax': '0.10.2', 'devices': 4}
