"""How fast training goes."""

import time

# A call to the device lasts about this long, so that a stop is noticed and the display moves.
CALL_SECONDS = 1.0


class Clock:
    """Measures the steps themselves (evaluations and checkpoints apart), and sizes the calls by it."""

    def __init__(self, seconds: float = 0.0):
        """Goes on from so many seconds, of a run that was stopped."""
        self.rate, self.seconds, self._calls = 0.0, seconds, 0
        self._since = time.perf_counter()

    def pause(self) -> None:
        self._since = time.perf_counter()

    def count(self, steps: int) -> None:
        """Takes in a call of so many steps that has just ended; the first one compiled, and counts for no rate."""
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        self.seconds, self._calls = self.seconds + elapsed, self._calls + 1
        if self._calls > 1:
            latest = steps / elapsed
            self.rate = latest if self._calls == 2 else 0.7 * self.rate + 0.3 * latest

    def steps_a_call(self) -> int:
        return max(1, int(self.rate * CALL_SECONDS))
