"""A laboratory for residual networks: train them, then find out why they work."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_jax.run import Run, load

__all__ = ['Run', 'load']


def __getattr__(name: str) -> object:
    """`load` and `Run` bring JAX with them; importing the package alone does not."""
    if name in __all__:
        from resnet_jax import run

        return getattr(run, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
