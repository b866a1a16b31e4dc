"""What the same layer is computed on: some operations have a way of their own there."""

import jax


def on_one_cpu() -> bool:
    """Is this process a CPU and nothing else? What XLA makes of several devices is not tuned for here."""
    return jax.default_backend() == 'cpu' and jax.device_count() == 1


def compiler_options() -> dict[str, str]:
    """Options of `jax.jit` for a program that trains a network.

    For the CPU XLA begins by removing barriers. Then it takes what stands behind one to be computed again for what was
    computed first, and keeps that; and reads the copies that a product is made of where they come from, many times
    over. Here it leaves them.
    """
    return {'xla_disable_hlo_passes': 'cse_barrier_expander'} if jax.default_backend() == 'cpu' else {}
