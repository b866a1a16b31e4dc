"""Two processes of one run that nobody supervises: where one is missing or dies, the other ends by itself."""

import signal
import socket
import time

import pytest

from resnet_jax.train.start import stored_state
from tests.faults.conftest import in_full, needs_faults, saved, steps
from tests.faults.together import BREAKS, HEARTBEAT, ONE_DEVICE, SLACK, free_port

pytestmark = ONE_DEVICE

MISSING = 4  # seconds that one waits for another at the start


def by_hand(start, number, port, *command):
    """Process `number` of two, which nobody supervises."""
    place = {'COORDINATOR': f'localhost:{port}', 'PROCESSES': '2', 'PROCESS': str(number)}
    told = {f'RESNET_JAX_{name}': value for name, value in place.items()}
    return start(*command, **told, JAX_NUM_CPU_DEVICES='2')


def listening(port):
    with socket.socket() as one:
        return one.connect_ex(('127.0.0.1', port)) == 0


@pytest.mark.parametrize('number', [0, *in_full(1)])
def test_where_one_is_missing_the_other_ends_with_one_line(start, command, number, tmp_path, figure):
    port = free_port()
    process = by_hand(start, number, port, *command(tmp_path / 'run', 9), '--heartbeat', MISSING)
    if number == 0:
        process.until(lambda: listening(port))
    since = time.monotonic()
    code, out, error = process.ended()
    seconds = time.monotonic() - since
    assert code == 75 and out == ''
    assert error.startswith(f'resnet-jax: the processes of this run did not come together within {MISSING} s; ')
    assert error.count('\n') == 1
    assert seconds < MISSING + SLACK
    figure(f'process {1 - number} of two missing', f'the other gone after {seconds:.1f} s, of a heartbeat of {MISSING}')


@needs_faults
@pytest.mark.parametrize('name', BREAKS)
def test_when_one_dies_the_others_end_within_the_heartbeat(start, command, name, tmp_path, figure):
    number, fault = BREAKS[name]
    run_dir, port = tmp_path / 'run', free_port()
    both = [by_hand(start, each, port, *command(run_dir, 1_000_000)) for each in (0, 1)]
    both[0].until(lambda: max(steps(run_dir), default=0) > 5)
    since = time.monotonic()
    both[number].send_signal(fault)
    code, _, _ = both[1 - number].ended()
    if fault == signal.SIGSTOP:
        both[number].send_signal(signal.SIGCONT)
    both[number].ended()
    seconds = time.monotonic() - since
    assert code not in (0, 75) and seconds < HEARTBEAT + SLACK
    assert int(stored_state(run_dir).step) == max(saved(run_dir))  # the newest is whole
    figure(f'two processes by hand, {name}', f'all gone after {seconds:.1f} s, exit code {code}')
