"""What fits the memory, known before it is tried."""

import os

from resnet_jax.errors import UserError

SHARE = 0.5  # of the memory there is: the rest is for the system, the network and what is computed with


def check_fits(what: str, needed: int, advice: str) -> None:
    """Refuses what would not fit the machine's memory.

    Args:
      needed: bytes.
      advice: what to do where it does not.

    Raises:
      UserError: with what it takes and what there is.
    """
    if needed > SHARE * (there := _machine()):
        raise UserError(
            f'{what}: {needed / 1e9:,.1f} GB, more than half of the {there / 1e9:,.1f} GB of memory here; {advice}'
        )


def room() -> int:
    """Bytes that arrays on the device may take together: a share of its memory, or of the machine's where it has none.

    Imports JAX.
    """
    import jax

    statistics = jax.local_devices()[0].memory_stats() or {}
    return int(SHARE * statistics.get('bytes_limit', _machine()))


def _machine() -> int:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
