"""Tracing and compiling a train step: flat in depth, for a long body is one scan.

./launch.sh bench compile [NAME:PIXELS:BATCH …]    # or `all`: every named network at 64 px, batch 8; or
`flax`: ResNet-110 beside plain Flax
"""

import dataclasses
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import flax_peer, networks, timing
from resnet_jax import spec
from resnet_jax.models import zoo
from resnet_jax.models.platform import compiler_options
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.gradient import Targets
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import train_step

CASES = ('resnet20:32:128', 'resnet56:32:128', 'resnet110:32:128', 'resnet1202:32:128', 'resnet50:64:8')
UNROLLED = 'resnet110:32:128'  # compared with plain Flax, which compiles it for minutes


def seconds(case: str, *, plain: bool = False) -> float:
    """Seconds to trace, lower and compile a step from nothing; `plain`: of plain Flax."""
    name, pixels, batch = case.split(':')
    config = networks.config(name)
    arch = dataclasses.replace(spec.architecture(config), image_shape=(int(pixels), int(pixels), 3))
    network: Any = flax_peer.ResNet(arch) if plain else ResNet(arch, config.run.scan_from)
    optimizer = make_optimizer(config)
    state = jax.eval_shape(lambda: initial_state(network, optimizer, 0))
    images = jax.ShapeDtypeStruct((int(batch), *arch.image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((int(batch),), jnp.int32)
    jax.clear_caches()
    start = time.perf_counter()
    step = jax.jit(
        lambda state, images, labels: train_step(network, optimizer, state, images, Targets(labels)),
        compiler_options={} if plain else compiler_options(),
    )
    step.lower(state, images, labels).compile()
    return time.perf_counter() - start


if __name__ == '__main__':
    every, peer = sys.argv[1:] == ['all'], sys.argv[1:] == ['flax']
    cases = [f'{name}:64:8' for name in zoo.NAMES] if every else [UNROLLED] if peer else sys.argv[1:] or CASES
    jax.jit(lambda x: x + 1)(1)
    times = {case: statistics.median(seconds(case) for _ in range(1 if every or peer else 3)) for case in cases}
    rows = [(case, f'{value:.2f} s') for case, value in times.items()]
    if peer:
        rows.append((f'{UNROLLED}, plain Flax', f'{seconds(UNROLLED, plain=True):.2f} s'))
    how = 'one time each' if every or peer else 'medians of three'
    timing.show('Trace and compile a train step', ('network, pixels, batch', 'time'), rows, how)
