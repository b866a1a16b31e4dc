"""What the same layer is computed on: some operations have a way of their own there."""

import jax


def on_one_cpu() -> bool:
    """Is this process a CPU and nothing else? What XLA makes of several devices is not tuned for here."""
    return jax.default_backend() == 'cpu' and jax.device_count() == 1
