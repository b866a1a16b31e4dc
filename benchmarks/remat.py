"""What computing blocks or stages again costs, and what memory it saves: a train step with each `run.remat`.

./launch.sh bench remat [NAME:PIXELS:BATCH …]
"""

import sys

import jax
import jax.numpy as jnp

from benchmarks import networks, timing
from resnet_jax import spec
from resnet_jax.models.platform import compiler_options
from resnet_jax.models.resnet import ResNet
from resnet_jax.planning import memory, setup
from resnet_jax.train.gradient import Targets
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import train_step

CASES = ('resnet50:64:8', 'resnet110:32:32')
KINDS = ('none', 'block', 'stage')


def measure(case: str) -> list[tuple]:
    """Rows of (what, what the plan keeps and computes again, temporary memory of the program, time, to none)."""
    name, pixels, batch = case.split(':')
    config = networks.config(name)
    config.train.batch_size, config.data.pixels = int(batch), int(pixels)
    made, plans = {}, {}
    for kind in KINDS:
        config.run.remat = kind
        plans[kind] = sum(memory.activations(setup.setup(config, 1))) * int(batch)
        made[kind] = _compiled(config)
    times = timing.interleaved({kind: step for kind, (step, _) in made.items()})
    return [
        (f'{name}, {pixels} px, batch {batch}, {kind}', megabytes(plans[kind]), megabytes(made[kind][1]),
         timing.milliseconds(times[kind]), f'{times[kind] / times["none"]:.2f}x')
        for kind in KINDS
    ] + [('the first against itself', '', '', '', f'{times["A/A"] / times["none"]:.2f}x')]  # fmt: skip


def _compiled(config):
    """A step, in a loop as training runs it, to be called again and again; and bytes of its temporary memory."""
    arch = spec.architecture(config)
    network, optimizer = ResNet(arch, config.run.scan_from, remat=config.run.remat), make_optimizer(config)
    images = jax.random.normal(jax.random.key(1), (config.train.batch_size, *arch.image_shape))
    labels, state = jnp.zeros(len(images), jnp.int32), [initial_state(network, optimizer, 0)]

    def steps(state, count, images, labels):
        return jax.lax.fori_loop(
            0, count, lambda _, state: train_step(network, optimizer, state, images, Targets(labels)), state
        )

    compiled = jax.jit(steps, donate_argnums=0, compiler_options=compiler_options())
    program = compiled.lower(state[0], 1, images, labels).compile()

    def step():
        state[0] = program(state[0], 1, images, labels)
        return state[0]

    analysis = program.memory_analysis()
    assert analysis is not None
    return step, analysis.temp_size_in_bytes


def megabytes(size: float) -> str:
    return f'{size / 1e6:,.0f} MB'


if __name__ == '__main__':
    timing.show(
        'A train step that computes again what it does not keep, by run.remat',
        ('what', 'planned', 'temporary', 'time', 'to none'),
        [row for case in sys.argv[1:] or CASES for row in measure(case)],
    )
