"""Sweeps: from named axes to many runs, their states and their launchers. Nothing here imports JAX."""

from resnet_jax.sweep.grid import Grid, Point, Sweep, axis, chain, conditions, networks, product, seeds, zipped

__all__ = ['Grid', 'Point', 'Sweep', 'axis', 'chain', 'conditions', 'networks', 'product', 'seeds', 'zipped']
