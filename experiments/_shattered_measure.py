"""The measurement of the shattered gradients: on a grid, on independent inputs, on lines between images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments._networks import network, recipe
from resnet_jax import spec
from resnet_jax.analysis import shattering
from resnet_jax.analysis.shattering import Layers
from resnet_jax.data.augment import normalize
from resnet_jax.models.resnet import ResNet
from resnet_jax.progress import Progress
from resnet_jax.report.findings import Array
from resnet_jax.runtime import mesh
from resnet_jax.train.splits import place_dataset

PLAIN = {
    'feed-forward': Layers('none', 'he', 0.0, 1.0),
    'feed-forward, centred': Layers('centre', 'he', 0.0, 1.0),
    'feed-forward, BN': Layers('batch', 'he', 0.0, 1.0),
}
BARE_RESIDUAL = {'residual, no BN': Layers('none', 'he', 1.0, 1.0)}
RESIDUAL = {
    'residual, BN, β = 1': Layers('batch', 'he', 1.0, 1.0),
    'residual, BN, β = 0.1': Layers('batch', 'he', 1.0, 0.1),
}
ON_GRID = PLAIN | BARE_RESIDUAL | RESIDUAL
INDEPENDENT = ON_GRID | {'residual, centred': Layers('centre', 'he', 1.0, 1.0)}
LOOKS_LINEAR = Layers('none', 'looks_linear', 0.0, 1.0)


def measure(run: None, config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """All gradients, and what of them is kept."""
    return _on_grid(config, progress) | _on_independent_inputs(config, progress) | _on_lines(config, progress)


def grid(points: int) -> tuple[np.ndarray, np.ndarray]:
    """The inputs (x, 1), x evenly on [-2, 2], and the direction in which x grows.

    With no input that is 1, all kinks of a network without centring would be at x = 0.
    """
    x = np.linspace(-2, 2, points, dtype=np.float32)
    return np.stack([x, np.ones_like(x)], axis=1), np.array([1, 0], np.float32)


def grid_gradients(layers: Layers, draw: int, config: ConfigDict, depth: int) -> np.ndarray:
    """Of one draw of weights: df/dx of the networks of depth 1 to `depth`, (depth, points)."""
    of_weights, of_readout = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), draw))
    readout = shattering.random_readout(of_readout, config.width, jnp.float32)
    inputs, direction = map(jnp.asarray, grid(config.points))
    return np.asarray(shattering.gradients(layers, of_weights, inputs, direction, readout, depth=depth))[:, 0]


def _on_grid(config: ConfigDict, progress: Progress) -> dict[str, Array]:
    shown = np.array(config.depths) - 1

    def gradients(layers: Layers, draw: int) -> np.ndarray:
        return grid_gradients(layers, draw, config, config.depths[-1]).astype(np.float64)

    curved = _each('gradients on the grid', [*ON_GRID.values()], config.draws, progress, gradients)
    (linear,) = _each('looks-linear gradients', [LOOKS_LINEAR], config.linear_draws, progress, gradients)
    sparse = shattering.covariance(curved[:, :, shown])[..., :: config.sparse, :: config.sparse].mean(axis=1)
    white, brown = (
        shattering.expected_autocorrelation(noise, config.lags)
        for noise in (np.eye(config.points), shattering.brown_covariance(config.points))
    )
    by_depth = ('kind', 'draw', 'depth_from_1')
    return {
        'kind': Array(np.array([*ON_GRID]), ('kind',), ''),
        'depth': Array(np.array(config.depths), ('depth',), 'layers'),
        'autocorrelation': Array(shattering.autocorrelation(curved, config.lags), (*by_depth, 'lag'), ''),
        'white': Array(white, ('lag',), ''),
        'brown': Array(brown, ('lag',), ''),
        'covariance': Array(sparse.astype(np.float32), ('kind', 'depth', 'point', 'other_point'), ''),
        'gradient': Array(curved[:, 0][:, shown].astype(np.float32), ('kind', 'depth', 'position'), ''),
        'looks_linear_gradient': Array(linear[0, shown].astype(np.float32), ('depth', 'position'), ''),
        'looks_linear_variation': Array(shattering.variation(linear), ('linear_draw', 'depth_from_1'), ''),
    }


def _on_independent_inputs(config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Normal inputs of as many dimensions as the networks are wide, of length about 1; every unit is a function."""
    width = config.wide

    def correlation(layers: Layers, draw: int, depth: int) -> np.ndarray:
        of_weights, of_inputs = jax.random.split(jax.random.fold_in(jax.random.key(config.seed + 1), draw))
        inputs = jax.random.normal(of_inputs, (config.inputs, width)) / jnp.sqrt(width)
        direction, readout = jnp.eye(width)[0], jnp.eye(width)
        found = shattering.gradients(layers, of_weights, inputs, direction, readout, depth=depth)
        return shattering.correlation(np.asarray(found, np.float64))

    shallow, deep = (
        _each(
            f'correlations to depth {depth}', [*kinds.values()], config.wide_draws, progress,
            lambda layers, draw, depth=depth: correlation(layers, draw, depth),
        )
        for kinds, depth in ((INDEPENDENT, config.shallow), (RESIDUAL, config.depths[-1]))
    )  # fmt: skip
    return {
        'independent_kind': Array(np.array([*INDEPENDENT]), ('independent_kind',), ''),
        'correlation': Array(shallow, ('independent_kind', 'independent_draw', 'shallow_depth_from_1'), ''),
        'deep_kind': Array(np.array([*RESIDUAL]), ('deep_kind',), ''),
        'deep_correlation': Array(deep, ('deep_kind', 'independent_draw', 'depth_from_1'), ''),
    }


def _each(
    what: str, kinds: list[Layers], draws: int, progress: Progress, see: Callable[[Layers, int], np.ndarray]
) -> np.ndarray:
    """(kind, draw, …): the same draws for every kind."""
    rows = []
    for number, layers in enumerate(kinds):
        rows.append([see(layers, draw) for draw in range(draws)])
        progress(what, number + 1, len(kinds))
    return np.array(rows)


def _on_lines(config: ConfigDict, progress: Progress) -> dict[str, Array]:
    """Plain and residual networks alike see the same lines, and the same batch for BN."""
    splits = place_dataset(recipe(config.tier), mesh.whole(mesh.all_devices()), progress)
    train = splits.train
    rng = np.random.default_rng(config.seed)
    batches = [
        normalize(train.images[rng.choice(len(train.labels), config.line_batch, replace=False)], splits.normalization)
        for _ in range(config.line_draws)
    ]
    names = [f'{family}{depth}' for depth in config.line_depths for family in ('plain', 'resnet')]
    positions, rows = jnp.linspace(0, 1, config.points), []
    for number, name in enumerate(names):
        arch = spec.architecture(network(config.tier, name))
        gradients = [
            shattering.line_gradients(ResNet(arch), jax.random.key(draw), batch, batch[:2], positions)
            for draw, batch in enumerate(batches)
        ]
        rows.append(shattering.autocorrelation(np.asarray(jax.device_get(gradients), np.float64), config.lags))
        progress('gradients on lines between images', number + 1, len(names))
    shape = (len(config.line_depths), 2, config.line_draws, config.lags)
    return {
        'line_depth': Array(np.array(config.line_depths), ('line_depth',), 'layers'),
        'line_data': Array(np.array(splits.dataset.data.dataset), (), ''),
        'line_autocorrelation': Array(
            np.array(rows).reshape(shape), ('line_depth', 'plain_or_residual', 'line_draw', 'lag'), ''
        ),
    }
