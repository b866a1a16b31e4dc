"""One job of SLURM, as submitit calls it: a run, which is queued again as often as it takes."""

import signal
import subprocess
import threading
from types import FrameType
from typing import Any

from resnet_jax.sweep import state, work
from resnet_jax.sweep.work import Stop, Task


class Job:
    """Carries a run out. Warned of its time limit, or preempted, the run saves and the job is queued again.

    SLURM signals all processes of a job. Its warning, SIGUSR2, is for this one, which then asks the run; SIGTERM the
    run has had itself.
    """

    def __init__(self, task: Task):
        self.task, self._stop = task, Stop()
        self._thread = threading.Thread(target=self._carry_out)  # a handler of signals must not wait for a process

    def __reduce__(self) -> tuple:
        return Job, (self.task,)

    def __call__(self) -> None:
        signal.signal(signal.SIGTERM, self._terminated)
        self._stop.heed_cancellation(self.task.sweep)
        self._thread.start()
        self._thread.join()
        if self._stop.asked.is_set() and not state.cancelled(self.task.sweep) and _wanted():
            signal.raise_signal(signal.SIGUSR2)  # preempted: what ended by itself SLURM would not queue again

    def checkpoint(self) -> Any:
        """What submitit calls at SIGUSR2, before it queues the job again."""
        from submitit.helpers import DelayedSubmission

        if not self._stop.asked.is_set():
            self._stop.ask()
        if self._thread.ident:
            self._thread.join()
        return DelayedSubmission(self)

    def _carry_out(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})  # of this thread, and of what it starts
        work.wait_for_others(self.task, self._stop)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self._stop.asked.set()


def _wanted() -> bool:
    """Does SLURM still count this job as running? Given time before it is preempted it does; cancelled it does not."""
    from submitit import JobEnvironment

    command = ('squeue', '--noheader', '--format=%T', '--jobs', JobEnvironment().job_id)
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() == 'RUNNING'
