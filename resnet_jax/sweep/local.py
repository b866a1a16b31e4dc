"""The launcher for this machine: a queue over slots, each a GPU or some cores; one process a slot."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import NamedTuple

from resnet_jax.cores import cores
from resnet_jax.errors import UserError
from resnet_jax.runtime.cluster import gpus
from resnet_jax.sweep import work
from resnet_jax.sweep.work import Stop, Task

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Slot(NamedTuple):
    """What one run at a time has of this machine."""

    environment: dict[str, str]
    cores: tuple[int, ...]


def slots(count: int) -> list[Slot]:
    """So many slots; 0: one a GPU or, where there is none, one a core.

    Raises:
      UserError: there are fewer GPUs, or cores, than that.
    """
    own = cores()
    there, what = (gpus(os.environ), 'GPUs') if gpus(os.environ) else (len(own), 'cores')
    count = count or there
    if not 1 <= count <= there:
        raise UserError(f'--slots is {count}; it must be from 1 to the {there} {what} of this machine')
    visible = (os.environ.get('CUDA_VISIBLE_DEVICES') or ','.join(map(str, range(there)))).split(',')
    made = []
    for number in range(count):
        told = {'CUDA_VISIBLE_DEVICES': ','.join(visible[number::count])} if what == 'GPUs' else {}
        made.append(Slot(told, tuple(own[number::count]) if hasattr(os, 'sched_setaffinity') else ()))
    return made


def launch(tasks: Sequence[Task], made: Sequence[Slot], stop: Stop) -> Iterator[str]:
    """Carries out all tasks, in order, as slots are free. Yields '' now and then, to be shown; ends when all have.

    What another launcher is at is waited for.
    """
    free: SimpleQueue[Slot] = SimpleQueue()
    for slot in made:
        free.put(slot)

    def one(task: Task) -> Task | None:
        if stop.asked.is_set():
            return None
        slot = free.get()
        try:
            return None if work.carry_out(task, stop, slot.environment, slot.cores) else task
        finally:
            free.put(slot)

    with ThreadPoolExecutor(len(made)) as pool:
        while tasks and not stop.asked.is_set():
            unfinished: set[Future[Task | None]] = {pool.submit(one, task) for task in tasks}
            tasks = []
            try:
                since = time.monotonic()
                while unfinished:
                    ended, unfinished = wait(unfinished, timeout=work.pause(since))
                    tasks += [task for each in ended if (task := each.result())]
                    since = time.monotonic()
                    yield ''
            except BaseException:  # it cannot be written down how they stand: what runs is to end too
                stop.ask()
                raise
            if tasks:
                stop.asked.wait(work.LOOK)


@contextmanager
def heeding_signals(stop: Stop) -> Iterator[None]:
    """While it lasts Ctrl-C and SIGTERM stop the runs, saved; a second one ends them at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        stop.ask()

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
