"""The cores that this process may run on: in a slot of a sweep, or of a cluster's job, fewer than the machine has."""

import os


def cores() -> list[int]:
    """Their numbers."""
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
