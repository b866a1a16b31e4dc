"""All single deletions of a network, three ways: by suffixes, by whole compiled networks, by compiling each anew.

./launch.sh bench lesion [NAME:PIXELS]
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from configs import default
from resnet_jax import spec
from resnet_jax.analysis import lesion
from resnet_jax.models import zoo
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.suffix import block_inputs

BATCH = 32


def main(name: str, pixels: int) -> None:
    config = default.get_config()
    config.network.update(zoo.settings(name))
    network = ResNet(spec.architecture(config))
    variables = network.init_variables(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (BATCH, pixels, pixels, 3))
    labels = jnp.zeros(BATCH, jnp.int32)
    lesions = lesion.single_deletions(network.arch)
    whole = jax.jit(lambda variables, images, gates: network.apply(variables, images, gates, train=False))

    def by_suffixes():
        return lesion.sweep(network, variables, [(images, labels)], lesions)[1]

    def by_whole_networks():
        gates = [lesion.delete(network.intact_gates(), each) for each in lesions]
        return np.stack([np.argmax(whole(variables, images, each), -1) == labels for each in gates])

    _check(network, variables, images, lesions, whole)
    times = timing.interleaved({'suffixes': by_suffixes, 'whole': by_whole_networks}, repeats=3)
    anew = _compiling_anew(network, variables, images, lesions[0]) * len(lesions)
    rows = [
        (what, timing.milliseconds(value), f'{value / times["suffixes"]:.2f}x')
        for what, value in (*times.items(), ('compiled anew each (one timed)', anew))
    ]
    timing.show(
        f'{len(lesions)} single deletions, {name}, {pixels} px, {BATCH} images', ('way', 'time', 'to suffixes'), rows
    )


def _check(network, variables, images, lesions, whole) -> None:
    """The logits of both ways are equal, within float32 reordering, for a lesion of each stage."""
    _, inputs = block_inputs(network, variables, images)
    for start in (1, network.arch.entry_blocks[1], network.arch.blocks - 1):
        gates = lesion.delete(network.intact_gates(), lesions[start])
        stage = int(np.searchsorted(network.arch.entry_blocks, start, side='right')) - 1
        ours = lesion.lesioned_logits(
            network, variables, inputs[stage], jnp.int32(start), gates,
            stage=stage, at_entry=start in network.arch.entry_blocks,
        )  # fmt: skip
        np.testing.assert_allclose(ours, whole(variables, images, gates), rtol=1e-3, atol=1e-3)


def _compiling_anew(network, variables, images, deleted) -> float:
    """Seconds for one lesion whose gates are constants of its own program."""
    gates = lesion.delete(network.intact_gates(), deleted)
    start = time.perf_counter()
    jax.block_until_ready(jax.jit(lambda v, x: network.apply(v, x, gates, train=False))(variables, images))
    return time.perf_counter() - start


if __name__ == '__main__':
    name, pixels = (sys.argv[1:] or ['preact_resnet110:32'])[0].split(':')
    main(name, int(pixels))
