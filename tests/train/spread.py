"""What several devices compute, in a process of its own, since their number is settled when JAX starts:
`python spread.py FILE`, a JSON of {"runs": [[directory, settings]], "float64": [settings]}; prints a JSON line of how
far steps in float64 on all devices are from those on one.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from resnet_jax import config as configuration
from resnet_jax.runtime import mesh
from resnet_jax.train import loop
from resnet_jax.train.gradient import Targets
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.start import make_network
from resnet_jax.train.state import layout_of, state_of
from resnet_jax.train.step import train_step

TINY = Path(__file__).parents[1] / 'tiny.py'
STEPS = 3


def settled(settings: dict):
    """The tiny run with these settings."""
    config = configuration.load(str(TINY))
    config.update_from_flattened_dict({key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})
    return config


def apart(settings: dict) -> float:
    """The largest distance of any leaf after some steps in float64, all devices against one, by the leaf's largest."""
    config = settled(settings)
    network, optimizer = make_network(config), make_optimizer(config)
    start = state_of(network.init_variables(jax.random.key(0), jnp.float64), optimizer, jnp.zeros(2, jnp.uint32),
                     average=config.train.ema > 0)  # fmt: skip
    start = jax.tree.map(lambda leaf: leaf.astype('float64') if leaf.dtype == 'float32' else leaf, start)  # of the sums
    random, size = np.random.default_rng(0), config.train.batch_size
    batch = random.normal(size=(size, 8, 8, 1)), random.integers(0, 10, size).astype(np.int32)
    one = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ('data', 'fsdp'))
    states = [
        _steps(config, network, optimizer, start, batch, over) for over in (mesh.all_devices(config.run.fsdp), one)
    ]
    return max(
        float(np.abs(a - b).max() / max(1e-3, np.abs(b).max()))
        for a, b in zip(*(map(np.asarray, jax.tree.leaves(state)) for state in states), strict=True)
    )


def _steps(config, network, optimizer, state, batch, over):
    layout, spread = layout_of(state, over), mesh.spread(over)
    train = config.train

    def step(state, images, labels):
        return train_step(network, optimizer, state, images, Targets(labels), microbatches=train.microbatches,
                          ema=train.ema, mesh=over)  # fmt: skip

    compiled = jax.jit(step, in_shardings=(layout, spread, spread), out_shardings=layout)
    state, batch = mesh.place(state, layout), [mesh.place(leaf, spread) for leaf in batch]
    for _ in range(STEPS):
        state = compiled(state, *batch)
    return jax.device_get(state)


if __name__ == '__main__':
    wanted = json.loads(Path(sys.argv[1]).read_text())
    for run_dir, settings in wanted['runs']:
        loop.train(settled(settings), Path(run_dir), lambda record: None)
    with jax.enable_x64(True):
        print(json.dumps([apart(settings) for settings in wanted['float64']]))
