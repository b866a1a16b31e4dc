"""Several processes that train together: what they compute, and what they leave when some of them die.

One run is stopped and broken in every way, and goes on each time; another is left in peace. They must agree.
"""

import os
import shutil
import signal
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import default
from resnet_jax import run as runs
from resnet_jax.runtime import directory
from resnet_jax.train import loop
from resnet_jax.train.start import stored_state
from tests.faults.conftest import alive, in_full, members, needs_faults, same, saved, steps
from tests.faults.together import BREAKS, HEARTBEAT, ONE_DEVICE, SETTINGS, SLACK, TOGETHER
from tests.records import records

pytestmark = ONE_DEVICE

FIRST, *OTHERS = BREAKS  # the others with --faults alone


def trained_here(settings, run_dir, last):
    """The same run in this process, on its one device."""
    config = default.get_config()
    config.update_from_flattened_dict({**settings, 'run.steps': last})
    loop.train(config, run_dir, lambda record: None)


@pytest.fixture(scope='module')
def story(start, settings, command, faults_full, tmp_path_factory):
    """What happened to a run of two processes of two devices, and the runs that were left in peace."""
    folder = tmp_path_factory.mktemp('story')
    told = SimpleNamespace(run=folder / 'broken', peace=folder / 'peace', one=folder / 'one', broken={}, asked={})
    endless = command(told.run, 1_000_000)

    def begin():
        reached = max(steps(told.run), default=0)
        process = start(*TOGETHER, *endless)
        process.until(lambda: max(steps(told.run), default=0) > reached)
        return process

    def asked(supervisor, pid):
        os.kill(pid, signal.SIGTERM)
        return SimpleNamespace(ended=supervisor.ended(), saved=max(saved(told.run)), reached=max(steps(told.run)))

    process = begin()
    told.second = start(*(TOGETHER if faults_full else ()), *endless).ended()
    for name in BREAKS if faults_full else [FIRST]:
        told.broken[name] = _break(process, told.run, *BREAKS[name])
    told.asked['one process'] = asked(process, members(process)[1])
    if faults_full:
        process = begin()
        told.asked['the supervisor'] = asked(process, process.pid)
        told.supervisor_killed = _kill_supervisor(begin(), told.run)
        told.interrupted_twice = _interrupt_twice(begin())
    every = SETTINGS['run.save_every']
    told.last = (max(steps(told.run)) // every + 3) * every - 1  # as far behind a save as can be
    peaceful = start(*TOGETHER, *command(told.peace, told.last))
    finishing = start(*TOGETHER, *command(told.run, told.last))
    trained_here(settings, told.one, told.last)
    told.finished, told.peaceful = finishing.ended(), peaceful.ended()
    return told


def _break(supervisor, run_dir, number, fault):
    """Does that to one of the processes; until all were started again, and have come further than before."""
    before = members(supervisor)
    supervisor.until(lambda: max(steps(run_dir)) > max(saved(run_dir)) + 1)  # something is to be lost
    since = time.monotonic()
    os.kill(before[number], fault)
    supervisor.until(lambda: not any(map(alive, before.values())))
    gone, reached, newest = time.monotonic() - since, max(steps(run_dir)), max(saved(run_dir))
    supervisor.until(lambda: max(saved(run_dir)) > newest and max(steps(run_dir)) > reached)
    return SimpleNamespace(gone=gone, lost=reached - newest, newest=newest)


def _kill_supervisor(supervisor, run_dir):
    pids, since = members(supervisor).values(), time.monotonic()
    supervisor.kill()
    while any(map(alive, pids)) and time.monotonic() < since + 60:
        time.sleep(0.02)
    gone = time.monotonic() - since
    supervisor.ended()
    return SimpleNamespace(gone=gone, saved=max(saved(run_dir)), reached=max(steps(run_dir)))


def _interrupt_twice(supervisor):
    pids, since = members(supervisor).values(), time.monotonic()
    os.kill(supervisor.pid, signal.SIGINT)
    time.sleep(0.05)  # two that come at once are one to the system
    os.kill(supervisor.pid, signal.SIGINT)
    ended = supervisor.ended()
    return SimpleNamespace(ended=ended, seconds=time.monotonic() - since, left=[pid for pid in pids if alive(pid)])


def losses(run_dir):
    return np.array([record['loss'] for record in directory.read_metrics(run_dir) if record['kind'] == 'train'])


def test_broken_and_stopped_a_run_ends_with_the_bits_of_one_left_in_peace(story):
    assert story.finished[0] == story.peaceful[0] == 0, (story.finished, story.peaceful)
    assert story.finished[2] == story.peaceful[2] == ''
    assert same(stored_state(story.run), stored_state(story.peace))
    assert int(stored_state(story.run).step) == story.last


def test_every_step_is_recorded_once_as_in_the_run_left_in_peace(story):
    assert records(story.run) == records(story.peace)
    seen = [(record['kind'], record['step']) for record in records(story.run)]
    assert len(set(seen)) == len(seen)
    assert [step for kind, step in seen if kind == 'train'] == [*range(1, story.last + 1)]


@pytest.mark.parametrize('who', ['one process', *in_full('the supervisor')])
def test_asked_to_stop_all_save_at_the_step_where_they_are_and_nothing_is_lost(story, who, figure):
    found = story.asked[who]
    code, _, error = found.ended
    said = f'resnet-jax: stopped by SIGTERM at step {found.saved:,}, saved; the same command goes on from there\n'
    assert code == 75 and error.endswith(said) and error.count('stopped by') == 1
    assert found.saved == found.reached
    figure(f'two processes, SIGTERM to {who}', f'{found.reached - found.saved} steps lost')


@pytest.mark.parametrize('name', [FIRST, *in_full(*OTHERS)])
def test_when_one_dies_all_are_started_again_from_the_newest_checkpoint(story, name, figure):
    found = story.broken[name]
    _, out, error = story.asked['one process'].ended
    assert f'resumed exactly at step {found.newest:,}\n' in out
    assert error.count('; all start again from the newest checkpoint\n') == len(story.broken)
    assert 0 < found.lost < 2 * SETTINGS['run.save_every']  # one save may be under way, the next waits for it
    assert found.gone < HEARTBEAT + SLACK
    figure(f'two processes, {name}', f'{found.lost} steps lost, all gone after {found.gone:.1f} s, 1 restart')


@needs_faults
def test_a_supervisor_that_is_killed_takes_its_processes_with_it_saved(story, figure):
    found = story.supervisor_killed
    lost = found.reached - found.saved
    assert found.gone < HEARTBEAT + SLACK and lost == 0
    figure('two processes, the supervisor killed', f'{lost} steps lost, all gone after {found.gone:.1f} s')


@needs_faults
def test_a_second_ctrl_c_ends_all_at_once(story, figure):
    found = story.interrupted_twice
    assert found.ended[0] == 130 and found.ended[2] == 'resnet-jax: interrupted\n'
    assert found.seconds < 1 and not found.left
    figure('two processes, two Ctrl-C', f'all gone after {found.seconds:.1f} s')


def test_a_second_start_in_the_directory_of_a_run_is_refused_and_changes_nothing(story):
    code, out, error = story.second
    assert code == 2 and out == ''
    assert error.startswith('resnet-jax: another process works on') and error.count('\n') == 1


# ---- what they compute


def test_the_first_step_of_two_processes_is_that_of_one_device(story):
    """Within 5e-6 of the largest number of each leaf: sums of a batch are split in four (test_devices.py)."""
    several, one = (stored_state(path, 1) for path in (story.peace, story.one))
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(several), jax.tree.leaves(one), strict=True):
        leaf, other = np.asarray(leaf, np.float64), np.asarray(other, np.float64)
        assert np.abs(leaf - other).max() <= 5e-6 * max(1e-3, np.abs(other).max()), jax.tree_util.keystr(path)


def test_the_shares_that_two_processes_read_are_the_batches_of_one(story):
    """The losses of all steps, and epochs; a batch in another order would show: each has a loss of its own."""
    several, one = losses(story.peace), losses(story.one)
    np.testing.assert_allclose(several, one, rtol=1e-5)
    assert np.median(np.abs(np.diff(one)) / one[1:]) > 1e-3
    epochs = [[record.get('epoch') for record in records(path)] for path in (story.peace, story.one)]
    assert epochs[0] == epochs[1]


@pytest.mark.parametrize('devices', [1, *in_full(2, 4, 8)])
def test_a_run_of_two_processes_goes_on_in_one_with_the_same_examples(
    story, start, settings, command, devices, tmp_path, figure
):
    """Whatever devices that one has; from the checkpoint before the last."""
    run_dir = tmp_path / 'run'
    shutil.copytree(story.peace, run_dir)
    before, last = sorted(saved(run_dir))[-2:]
    shutil.rmtree(run_dir / 'checkpoints' / str(last))
    if devices == 1:
        trained_here(settings, run_dir, story.last)
    else:
        code, out, _ = start(*command(run_dir, story.last), JAX_NUM_CPU_DEVICES=str(devices)).ended()
        assert code == 0 and f'at step {before:,}' in out and 'processes 2 -> 1' in out
    assert runs.load(run_dir).step == story.last > before
    assert records(run_dir)[:before] == records(story.peace)[:before]
    np.testing.assert_allclose(losses(run_dir), losses(story.peace), rtol=1e-5)
    figure(f'two processes, gone on in one of {devices} devices', f'{story.last - before} steps, the same examples')
