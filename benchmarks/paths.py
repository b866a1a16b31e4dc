"""The exact sums of the paths of all lengths, against one backward pass of the same batch.

./launch.sh bench paths [NAME:PIXELS:BATCH]
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import networks, timing
from resnet_jax.analysis import paths


def main(name: str, pixels: int, batch: int) -> None:
    network, variables, images, labels = networks.untrained(name, pixels, batch)

    def loss(variables, images):
        logits: Any = network.apply(variables, images, train=False)
        return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(batch), labels])

    by_parameters, by_images = (jax.jit(jax.grad(loss, argnums=number)) for number in (0, 1))
    _, missed = paths.sum_norms(network, variables, images, labels)
    np.testing.assert_array_less(missed, 1e-4)  # they add up to the gradient
    times = timing.interleaved(
        {
            'sums of every length': lambda: paths.sum_norms(network, variables, images, labels),
            'backward pass, as in training': lambda: by_parameters(variables, images),
            'backward pass to the images alone': lambda: by_images(variables, images),
        },
        repeats=5,
    )
    sums = times['sums of every length']
    timing.show(
        f'Paths through {network.arch.blocks} blocks, {name}, {pixels} px, {batch} images',
        ('what', 'time', 'the sums are'),
        [(what, timing.milliseconds(value), f'{sums / value:.1f}x') for what, value in times.items()],
    )


if __name__ == '__main__':
    name, pixels, batch = (sys.argv[1:] or ['preact_resnet110:32:8'])[0].split(':')
    main(name, int(pixels), int(batch))
