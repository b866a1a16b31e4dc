import time

import pytest

from resnet_jax.errors import UserError
from resnet_jax.runtime import directory, result
from resnet_jax.sweep import Sweep, axis, plan, seeds, state
from resnet_jax.sweep.state import Status


def test_a_sweep_reads_as_it_was_written_and_its_runs_have_their_configs(make_sweep):
    sweep = make_sweep(3)
    assert state.read(sweep.path) == sweep
    assert sweep.runs == {f'seed-{seed}': {'seed': seed} for seed in range(3)}
    assert [directory.read_config(sweep.run(name)).seed for name in sweep.runs] == [0, 1, 2]
    assert set(sweep.statuses().values()) == {Status()}


def test_a_sweep_may_grow_and_what_it_has_stays(base, make_sweep):
    sweep = make_sweep(2)
    state.write_status(sweep.run('seed-1'), Status('done'))
    grown = state.create(sweep.path, 'seeds', '', plan.plan(Sweep(base, seeds(3)), {}))
    assert [(name, found.state) for name, found in grown.statuses().items()] == [
        ('seed-0', 'pending'), ('seed-1', 'done'), ('seed-2', 'pending'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('grid', 'overrides', 'says'),
    [
        (seeds(1), {}, 'its run seed-1 is none of this one'),
        (seeds(2), {'train.batch_size': '8'}, 'its run seed-0 has settings of its own there'),
        (axis('train.batch_size', [8, 16]), {}, 'its run seed-0 is none of this one'),
    ],
    ids=['fewer', 'changed', 'other axes'],
)
def test_the_directory_of_another_sweep_is_refused_and_stays_as_it_is(base, make_sweep, grid, overrides, says):
    sweep = make_sweep(2)
    before = {path: path.read_bytes() for path in sweep.path.rglob('*') if path.is_file()}
    with pytest.raises(UserError, match=f'holds another sweep: {says}; give another directory with --dir'):
        state.create(sweep.path, 'seeds', '', plan.plan(Sweep(base, grid), overrides))
    assert {path: path.read_bytes() for path in sweep.path.rglob('*') if path.is_file()} == before


def test_a_directory_of_something_else_is_refused(base, tmp_path):
    (tmp_path / 'thesis.tex').touch()
    with pytest.raises(UserError, match='is there, and holds no sweep'):
        state.create(tmp_path, 'seeds', '', plan.plan(Sweep(base, seeds(1)), {}))


def test_one_process_at_a_time_has_the_claim_and_a_run_that_nobody_holds_is_not_running(make_sweep):
    run_dir = make_sweep(1).run('seed-0')
    with state.claim(run_dir) as claimed:
        assert claimed is not None
        state.write_status(run_dir, Status('running', 'here', 1))
        assert state.status(run_dir).state == 'running'
        with state.claim(run_dir) as second:
            assert second is None
    assert state.status(run_dir) == Status('pending', 'here', 1)
    assert state.read_status(run_dir).state == 'running'


@pytest.mark.parametrize('text', ['', '{}', '[]', '{"state": "dead", "lines": []}', '{"state": "done"'])
def test_a_damaged_status_is_one_line_and_stops_nobody_who_looks(make_sweep, text):
    run_dir = make_sweep(1).run('seed-0')
    (run_dir / 'status.json').write_text(text)
    with pytest.raises(UserError, match=r'status\.json .*; delete it: the run is looked at anew') as error:
        state.read_status(run_dir)
    assert state.status(run_dir) == Status('failed', lines=(str(error.value),))


def test_a_longer_run_is_written_down_though_it_is_the_same_run(base, make_sweep):
    sweep = make_sweep(1)
    state.create(sweep.path, 'seeds', '', plan.plan(Sweep(base, seeds(1)), {'run.steps': '9'}))
    assert directory.read_config(sweep.run('seed-0')).run.steps == 9


def test_a_sweep_that_was_not_written_to_its_end_is_written_on(base, make_sweep):
    sweep = make_sweep(3)
    (sweep.run('seed-2') / 'config.json').unlink()
    (sweep.run('seed-2') / 'ready.json').unlink()
    sweep.run('seed-2').rmdir()
    state.create(sweep.path, 'seeds', '', plan.plan(Sweep(base, seeds(3)), {}))
    assert (sweep.run('seed-2') / 'config.json').exists()


def test_the_statuses_of_ten_thousand_runs_are_read_in_a_second(tmp_path):
    """The machine may have other work, so the least of three counts."""
    runs = {f'run-{number}': {'seed': number} for number in range(10_000)}
    for name in runs:
        (tmp_path / name).mkdir()
        (tmp_path / name / 'status.json').write_text('{"state": "done", "host": "here", "pid": 1, "lines": []}')
    sweep, taken = state.Directory(tmp_path, 'large', '', runs), []
    for _ in range(3):
        since = time.perf_counter()
        assert {found.state for found in sweep.statuses().values()} == {'done'}
        taken.append(time.perf_counter() - since)
    assert min(taken) < 1.0


def test_a_result_that_is_damaged_or_another_runs_is_none(tmp_path):
    result.write(tmp_path, 'a', {'test_error': 1.5, 'test_loss': float('nan'), 'diverged': False})
    assert result.read(tmp_path, 'a') == {'test_error': 1.5, 'test_loss': None, 'diverged': False}
    assert result.read(tmp_path, 'b') is None
    path = tmp_path / 'result.json'
    whole = path.read_text()
    for damaged in (whole.replace('1.5', '1.4'), whole[:-9], '[]', ''):
        path.write_text(damaged)
        assert result.read(tmp_path, 'a') is None
    path.unlink()
    assert result.read(tmp_path, 'a') is None
