"""Computing again in the backward pass what is not kept: what of a scanned body is."""

from collections.abc import Callable
from typing import TypeVar

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

KEPT = 'kept'

T = TypeVar('T')


def keep(x: T) -> T:
    """Marks what costs much to compute and little to keep: results of convolutions, statistics of a batch."""
    return checkpoint_name(x, KEPT)


def sparing(run: Callable) -> Callable:
    """The body of a scan in training: on a CPU it keeps for its backward pass what is marked. All else is cheap to
    compute again there, and dear to keep, for a scan copies it into arrays of all its steps, which begin as zeros, and
    out again. Elsewhere it keeps all: what is faster was not measured."""
    if jax.default_backend() != 'cpu':
        return run
    # What a loop computes forwards, and what backwards, XLA cannot take for the same.
    return nn.remat(run, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(KEPT))
