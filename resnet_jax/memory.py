"""What fits the machine's memory, known before it is tried."""

import os

from resnet_jax.errors import UserError

SHARE = 0.5  # of the machine's memory: the rest is for the system, the network and a copy on the device


def check_fits(what: str, needed: int, advice: str) -> None:
    """Refuses what would not fit.

    Args:
      needed: bytes.
      advice: what to do where it does not.

    Raises:
      UserError: with what it takes and what there is.
    """
    there = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if needed > SHARE * there:
        raise UserError(
            f'{what}: {needed / 1e9:,.1f} GB, more than half of the {there / 1e9:,.1f} GB of memory here; {advice}'
        )
