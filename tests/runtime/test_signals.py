"""The first signal asks, the second ends."""

import os
import signal

import pytest

from resnet_jax.runtime.signals import stop_request

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def foreground():
    """Ctrl-C interrupts, as in a terminal: a shell's background jobs, which the tests may be of, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('number', NUMBERS)
def test_a_signal_asks_to_stop_and_says_which_it_was(number):
    with stop_request() as stop:
        assert stop.number == 0
        os.kill(os.getpid(), number)
        assert stop.number == number


@pytest.mark.parametrize('first', NUMBERS)
def test_a_second_ctrl_c_ends_at_once(first):
    with stop_request():
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_twice_is_once():
    """Of a machine that is shut down, and of whoever started the run there and hears of it too."""
    with stop_request() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM


@pytest.mark.parametrize('signals', [[], [signal.SIGINT]], ids=['none', 'one'])
def test_afterwards_signals_act_as_before(signals):
    before = [signal.getsignal(number) for number in NUMBERS]
    with stop_request():
        for number in signals:
            os.kill(os.getpid(), number)
    assert [signal.getsignal(number) for number in NUMBERS] == before
