"""Ctrl-C and SIGTERM ask a run to stop: it saves and exits 75. A second Ctrl-C ends it at once."""

import contextlib
import signal
from collections.abc import Iterator


class StopRequest:
    """True once a stop was asked for; `reason` is the signal's name."""

    reason: str | None = None

    def __bool__(self) -> bool:
        return self.reason is not None


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a request to stop while the context lasts; afterwards they act as before."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        request.reason = signal.Signals(number).name
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
