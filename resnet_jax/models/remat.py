"""Computing again in the backward pass what is not kept: what XLA has to be told for it."""

import jax


def compiler_options(remat: str) -> dict[str, str]:
    """Options of `jax.jit` for a program that differentiates a network of this `remat`.

    What is computed again stands behind a barrier, or XLA would take it for what was computed first, and keep that.
    For the CPU XLA begins by removing barriers; here it leaves them.
    """
    if remat == 'none' or jax.default_backend() != 'cpu':
        return {}
    return {'xla_disable_hlo_passes': 'cse_barrier_expander'}
