"""The gradients of small untrained networks on a grid of one dimension, of every depth to DEPTH, on a first start.

./launch.sh bench grid [DEPTH]

The paper's sizes (Balduzzi et al. 2017): width 200, 256 points, 20 draws of weights. Each kind is timed once, with its
compilation.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from resnet_jax.analysis import shattering
from resnet_jax.analysis.shattering import Layers

WIDTH, POINTS, DRAWS = 200, 256, 20
KINDS = {
    'feed-forward, centred': Layers('centre', 'he', 0.0, 1.0),
    'residual, BN': Layers('batch', 'he', 1.0, 1.0),
}


def main(depth: int) -> None:
    rows, begun = [], time.perf_counter()
    for name, layers in KINDS.items():
        start = time.perf_counter()
        found = np.stack([_gradients(layers, draw, depth) for draw in range(DRAWS)])
        seconds = time.perf_counter() - start
        lag = shattering.autocorrelation(found[:, -1].astype(np.float64), 2)[:, 1].mean()
        rows.append((name, f'{seconds:.1f} s', f'{lag:.2f}'))
    rows.append(('together', f'{time.perf_counter() - begun:.1f} s', ''))
    timing.show(
        f'Gradients at {POINTS} points, depths 1 to {depth:,}, {DRAWS} draws of weights, width {WIDTH}',
        ('kind', 'time', f'autocorrelation at lag 1, depth {depth:,}'),
        rows,
        how='one time each',
    )


def _gradients(layers: Layers, draw: int, depth: int) -> np.ndarray:
    """(depth, points)"""
    of_weights, of_readout = jax.random.split(jax.random.key(draw))
    line = jnp.stack([jnp.linspace(-2, 2, POINTS), jnp.ones(POINTS)], axis=1)
    readout = shattering.random_readout(of_readout, WIDTH, jnp.float32)
    found = shattering.gradients(layers, of_weights, line, jnp.array([1.0, 0.0]), readout, depth=depth)
    return np.asarray(found)[:, 0]


if __name__ == '__main__':
    main(int((sys.argv[1:] or ['1000'])[0]))
