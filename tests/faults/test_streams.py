"""A streamed run whose worker processes are interrupted with it, or killed: nothing is lost, and no bit changes."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from resnet_jax import run as runs
from tests.faults.conftest import alive, needs_faults, same, saved, steps

pytestmark = needs_faults  # a minute; tests/train/test_streaming.py stops and goes on with streams too

NETWORK = ('--config.network.stage_blocks=1,1,1', '--config.network.widths=4,8,16', '--config.network.stem_width=4')
DATA = ('--config.train.batch_size=10', '--config.data.jitter=0.2,0.2,0.2,0.05', '--config.run.log_every=1')


def workers(pid):
    """The processes that decode, and not Python's own helper beside them."""
    found = ' '.join(map(read, Path(f'/proc/{pid}/task').glob('*/children'))).split()
    return [int(child) for child in found if '--multiprocessing-fork' in read(Path(f'/proc/{child}/cmdline'))]


def read(path):
    """Nothing, where the process has ended meanwhile: a run has short-lived children too."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ''


@pytest.fixture(scope='module')
def story(start, write_copy, tmp_path_factory):
    """What happened to a streamed run in three processes, and a run from the device's memory in one."""
    folder = tmp_path_factory.mktemp('story')
    write_copy(folder / 'tfds')

    def command(run_dir, last, *more):
        return ('train', '--config', 'configs/cifar10.py', '--run', run_dir, f'--config.data.data_dir={folder}/tfds',
                f'--config.run.steps={last}', *NETWORK, *DATA, *more)  # fmt: skip

    told = SimpleNamespace(run=folder / 'streamed', other=folder / 'resident')
    stream = command(told.run, 1_000_000, '--config.run.placement=stream', '--config.run.workers=2')

    process = start(*stream)
    process.until(lambda: len(steps(told.run)) > 2)
    for pid in (*workers(process.pid), process.pid):  # as a terminal does it
        os.kill(pid, signal.SIGINT)
    told.interrupted = process.ended()
    told.then = max(steps(told.run))

    process = start(*stream)
    process.until(lambda: max(steps(told.run)) > told.then + 2)
    told.workers = workers(process.pid)
    os.kill(told.workers[0], signal.SIGKILL)
    told.killed = process.ended()
    told.reached, told.saved = max(steps(told.run)), max(saved(told.run))

    process = start(*stream)
    process.until(lambda: len(workers(process.pid)) == 2)
    told.left = workers(process.pid)
    process.kill()
    told.gone = process.ended()  # not before they have ended too, who hold its output
    told.orphans = [pid for pid in told.left if alive(pid)]

    told.last = max(steps(told.run)) + 5
    told.finished = start(*command(told.run, told.last, '--config.run.placement=stream')).ended()
    told.resident = start(*command(told.other, told.last, '--config.run.placement=device')).ended()
    return told


def test_ctrl_c_in_a_terminal_stops_the_run_saved(story):
    code, _, error = story.interrupted
    assert code == 75 and error.startswith('resnet-jax: stopped by SIGINT at step') and error.count('\n') == 1


def test_a_killed_worker_ends_the_run_saved_with_one_line(story, figure):
    code, _, error = story.killed
    assert len(story.workers) == 2
    assert code == 2 and error.count('\n') == 1
    assert 'a worker process that decodes images was ended from outside (exit code -9)' in error
    assert not any(map(alive, story.workers))
    assert story.saved == story.reached > story.then
    figure('a worker process killed', f'{story.reached - story.saved} steps lost, the run saved and ended')


def test_workers_end_with_a_run_that_is_killed(story, figure):
    assert story.gone[0] == -signal.SIGKILL and story.orphans == []
    gone = len(story.left) - len(story.orphans)
    figure('a run with worker processes killed', f'{gone} of {len(story.left)} workers gone with it')


def test_without_workers_it_goes_on_and_ends_with_the_bits_of_a_resident_run_left_in_peace(story):
    assert story.finished[0] == story.resident[0] == 0, (story.finished, story.resident)
    assert 'resumed exactly' in story.finished[1]
    one, other = (runs.load(path) for path in (story.run, story.other))
    assert one.step == other.step == story.last
    assert steps(story.run) == steps(story.other) == [*range(1, story.last + 1), story.last]  # evaluated at the end
    assert same(one.state, other.state)
