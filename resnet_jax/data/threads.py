"""Work on many images at once: decoders let go of Python's lock, so that threads are enough."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from resnet_jax.cores import cores


def parallel(function: Callable, *columns: Iterable) -> Iterable:
    """`map`, on all cores; in a worker process, of which there are many, on one."""
    if multiprocessing.parent_process():
        return map(function, *columns)
    return _threads().map(function, *columns)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(cores()))
