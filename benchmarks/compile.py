"""Tracing and compiling a train step against depth: the scan makes it flat.

./launch.sh bench compile [NAME …]
"""

import sys
import time

import jax
import jax.numpy as jnp

from benchmarks import timing
from configs import default
from resnet_jax import spec
from resnet_jax.models import zoo
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.optimizer import sgd
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import train_step

NAMES = ('resnet20', 'resnet56', 'resnet110', 'resnet1202')


def seconds(name: str) -> float:
    """Seconds to trace, lower and compile a step of batch 128 from nothing."""
    config = default.get_config()
    config.network.update(zoo.settings(name))
    network, optimizer = ResNet(spec.architecture(config)), sgd(config.train)
    state = jax.eval_shape(lambda: initial_state(network, optimizer, 0))
    images, labels = jax.ShapeDtypeStruct((128, 32, 32, 3), jnp.float32), jax.ShapeDtypeStruct((128,), jnp.int32)
    jax.clear_caches()
    start = time.perf_counter()
    jax.jit(lambda *arguments: train_step(network, optimizer, *arguments)).lower(state, images, labels).compile()
    return time.perf_counter() - start


if __name__ == '__main__':
    names = sys.argv[1:] or NAMES
    jax.jit(lambda x: x + 1)(1)
    times = {name: sorted(seconds(name) for _ in range(3))[1] for name in names}
    base = times.get('resnet110', next(iter(times.values())))
    rows = [(name, f'{value:.2f} s', f'{value / base:.2f}x') for name, value in times.items()]
    timing.show('Trace and compile a train step', ('network', 'time', 'to ResNet-110'), rows)
