"""Two processes of which one cannot read what it is to feed: both end, or go on, and every image is named once."""

import os
import signal

import numpy as np
import pytest
from PIL import Image

from resnet_jax.data.order import order
from resnet_jax.runtime import directory
from tests.faults.conftest import ROOT, members, needs_faults, saved, steps
from tests.faults.test_streams import workers
from tests.faults.together import ONE_DEVICE, SETTINGS, TOGETHER

pytestmark = ONE_DEVICE
EXAMPLES, BATCH = 40, SETTINGS['train.batch_size']  # of each split
UNEVEN = 12  # of the last of its batches, 4 examples, the second process has none
BAD = order(0, 0, EXAMPLES)[2 * BATCH + BATCH // 2 :][0]  # is of the share of the second process, in the third batch


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Photographs of two classes, in two splits of which the BADth example is broken."""
    path, random = tmp_path_factory.mktemp('photographs'), np.random.default_rng(0)
    for split in ('train', 'test'):
        for number in range(EXAMPLES):
            place = path / split / f'class{number // 20}' / f'{number:02}.png'
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(place)
    return path


def write(image, data):
    """Into a folder that is indexed anew then."""
    image.write_bytes(data)
    os.utime(image.parent)


@pytest.fixture
def train(folder, start, tmp_path):
    """`train(last, split, **settings)` -> a supervisor; an image of that split is broken."""
    broken = []

    def go(last, split=None, **more):
        if split:
            broken.append(folder / split / f'class{BAD // 20}' / f'{BAD:02}.png')
            broken.append(broken[0].read_bytes())
            write(broken[0], broken[1][:60])
        own = {'run.save_every': 1000, 'data.dataset': 'folder', 'data.data_dir': folder, 'data.pixels': 8}
        given = {**SETTINGS, **own, 'run.steps': last, 'run.eval_batch': UNEVEN, **more}
        return start(*TOGETHER, 'train', '--config', ROOT / 'configs' / 'default.py', '--run', tmp_path / 'run',
                     *(f'--config.{key}={value}' for key, value in given.items()))  # fmt: skip

    yield go
    if broken:
        write(*broken)


@needs_faults
def test_a_broken_image_in_the_share_of_one_ends_all_saved_in_one_line(train, tmp_path, figure):
    code, _, error = train(50, 'train').ended()
    assert code == 2 and error.count('\n') == 1 and f'{BAD:02}.png' in error
    assert max(saved(tmp_path / 'run')) == max(steps(tmp_path / 'run')) == 2
    figure('a corrupt image that one of two processes reads', 'named, 0 steps lost')


def test_a_broken_image_that_is_skipped_is_named_and_counted_once(train, tmp_path):
    code, said, error = train(11, 'train', **{'data.corrupt': 'skip'}).ended()  # into the third epoch
    assert (code, error) == (0, '')
    assert said.count(f'{BAD:02}.png') == 1
    trained = [record for record in directory.read_metrics(tmp_path / 'run') if record['kind'] == 'train']
    assert [record.get('skipped', 0) for record in trained] == [0, 0, *[1] * 9]


@pytest.mark.parametrize(
    ('corrupt', 'counted'), [pytest.param('stop', None, marks=needs_faults), ('skip', EXAMPLES - 1)]
)
def test_a_broken_image_of_the_test_split_is_heard_by_all(train, tmp_path, figure, corrupt, counted):
    code, said, error = train(2, 'test', **{'data.corrupt': corrupt}).ended()
    found = [record for record in directory.read_metrics(tmp_path / 'run') if record['kind'] == 'test']
    assert (said + error).count(f'{BAD:02}.png') == 1
    if counted:
        assert code == 0 and [(each['examples'], each['skipped']) for each in found] == [(counted, 1)]
        figure('an evaluation whose last batch leaves a process without examples', 'each example counted once')
    else:
        assert code == 2 and error.count('\n') == 1 and not found


@needs_faults
def test_a_worker_killed_in_one_ends_all_saved_in_one_line(train, tmp_path, figure):
    supervisor = train(1_000_000, **{'run.workers': 1})
    supervisor.until(lambda: max(steps(tmp_path / 'run'), default=0) > 2)
    (worker,) = workers(members(supervisor)[1])
    os.kill(worker, signal.SIGKILL)
    code, _, error = supervisor.ended()
    assert code == 2 and error.count('\n') == 1 and 'was ended from outside (exit code -9)' in error
    assert max(saved(tmp_path / 'run')) == max(steps(tmp_path / 'run')) > 2
    figure('a worker process of one of two processes killed', 'one line, 0 steps lost')
