"""Ctrl-C, SIGTERM and SIGUSR1 (SLURM's warning before the time limit) ask a run to stop: it saves and exits 75.

A second one of another kind than the first acts as it would have without us, and so does a second Ctrl-C: it ends the
run at once. SIGTERM twice is once: who shuts a machine down and who started the run both send it.
"""

import contextlib
import signal
from collections.abc import Iterator

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """`number` is that of the signal that asked for a stop; 0: none has."""

    number: int = 0


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Turns these signals into a request to stop while the context lasts; afterwards they act as before."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in ASKING}

    def ask(number: int, frame: object) -> None:
        request.number = number
        for each, handler in before.items():
            if each == signal.SIGINT or each != number:
                signal.signal(each, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
