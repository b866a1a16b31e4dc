"""The launcher for Ray, on a real cluster of a head and two nodes, on loopback and with a token."""

import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from resnet_jax.sweep import state
from tests.faults.conftest import in_full
from tests.slurm import ROOT
from tests.sweep.conftest import WAIT

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(importlib.util.find_spec('ray') is None, reason='needs Ray: pip install "resnet-jax[ray]"'),
]
LAUNCHER = """
import sys
from pathlib import Path
from resnet_jax.sweep import ray, state
from resnet_jax.sweep.local import heeding_signals
from resnet_jax.sweep.work import Stop, Task

sweep, stop = state.read(Path(sys.argv[1])), Stop()
state.uncancel(sweep)
stop.heed_cancellation(sweep.path)
ray.check(sys.argv[2], 1, 0.0)
tasks = [Task(sweep.path, name, tuple(sys.argv[3:])) for name in state.left(sweep)]
with heeding_signals(stop):
    for line in ray.launch(sweep, tasks, stop, 1, 0.0):
        print(line, end='')
assert 'jax' not in sys.modules
"""
TOGETHER = 4  # runs at a time, on the two nodes


@pytest.fixture(scope='module')
def environment():
    """Of whoever talks with the cluster; what Ray keeps goes where a socket's name is short."""
    with tempfile.TemporaryDirectory(prefix='ray') as folder:
        yield os.environ | {
            'RAY_AUTH_MODE': 'token', 'RAY_AUTH_TOKEN': secrets.token_hex(32), 'RAY_TMPDIR': folder,
            'RAY_USAGE_STATS_ENABLED': '0', 'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER': '0',  # 0: on loopback
        }  # fmt: skip


@pytest.fixture(scope='module')
def cluster(environment):
    """(its address, `lose()`: one of the nodes dies)."""
    with subprocess.Popen(
        [sys.executable, '-m', 'tests.sweep.ray_cluster'], cwd=ROOT, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout
        orders = process.stdin.fileno()
        try:
            yield process.stdout.readline().decode().strip(), lambda: os.write(orders, b'\n')
            process.stdin.close()
            process.wait(timeout=60)
        finally:
            process.kill()


@pytest.fixture
def begin(cluster, environment):
    """`begin(sweep, command)` -> the process of a launcher."""
    begun = []

    def go(sweep, command=WAIT):
        begun.append(subprocess.Popen(
            [sys.executable, '-c', LAUNCHER, sweep.path, cluster[0], *command], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ))  # fmt: skip
        return begun[-1]

    yield go
    for process in begun:
        process.kill()
        process.communicate()


def until(condition, process=None):
    last = time.monotonic() + 90
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < last
        time.sleep(0.02)


def up(sweep):
    return sum(found.state == 'running' for found in sweep.statuses().values())


def states(sweep):
    return [found.state for found in sweep.statuses().values()]


def ended(process):
    """That it ended well and said nothing, of which Ray would say much."""
    assert (*process.communicate(timeout=90), process.returncode) == ('', '', 0)


@pytest.mark.parametrize('how', ['Ctrl-C', *in_full('cancel', 'the launcher is killed')])
def test_runs_that_are_to_stop_are_saved_and_the_same_command_does_them(begin, make_sweep, how):
    sweep = make_sweep(TOGETHER + 2)
    launcher = begin(sweep)
    until(lambda: len(list(sweep.path.glob('*/begun'))) == TOGETHER, launcher)
    if how == 'cancel':
        state.cancel(sweep)
    else:
        launcher.send_signal(signal.SIGINT if how == 'Ctrl-C' else signal.SIGKILL)
    if how == 'the launcher is killed':
        until(lambda: not up(sweep))
    else:
        ended(launcher)
    assert states(sweep) == ['pending'] * (TOGETHER + 2)
    assert len(list(sweep.path.glob('*/saved'))) == TOGETHER

    (sweep.path / 'go').touch()
    ended(begin(sweep))
    assert states(sweep) == ['done'] * (TOGETHER + 2)


@pytest.mark.parametrize('token', ['', 'wrong'])
def test_without_the_token_of_the_cluster_nothing_begins(cluster, environment, tmp_path, token):
    said = subprocess.run(
        [sys.executable, '-m', 'resnet_jax.cli', 'sweep', 'seeds:digits', '--dir', tmp_path / 'sweep',
         '--launcher', 'ray', '--address', cluster[0]],
        cwd=ROOT, env=environment | {'RAY_AUTH_TOKEN': token, 'HOME': str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert said.stderr.startswith(f'resnet-jax: the Ray cluster at {cluster[0]} does not take this token')
    assert said.stderr.count('\n') == 1 and (said.stdout, said.returncode) == ('', 2)
    assert not (tmp_path / 'sweep').exists()


def test_a_node_is_lost_and_every_run_is_done_exactly_once(cluster, begin, make_sweep, figure):
    sweep = make_sweep(20)
    launcher = begin(sweep)
    until(lambda: len(list(sweep.path.glob('*/begun'))) == TOGETHER, launcher)
    cluster[1]()
    until(lambda: up(sweep) == TOGETHER // 2, launcher)
    (sweep.path / 'go').touch()
    ended(launcher)
    assert states(sweep) == ['done'] * 20
    begun = sorted(len((sweep.run(name) / 'begun').read_text().splitlines()) for name in sweep.runs)
    assert begun == [1] * (20 - TOGETHER // 2) + [2] * (TOGETHER // 2)
    figure('a sweep of 20 runs on Ray, a node lost', f'{TOGETHER // 2} runs begun again, each done once')
