"""What checkpoints cost a run of ResNet-50: the stall of a save in the background, and the check before a restore.

./launch.sh bench save [PIXELS:BATCH]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks import networks, timing
from resnet_jax import spec
from resnet_jax.models.platform import compiler_options
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import manifest
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train.gradient import Targets
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.state import TrainState, initial_state
from resnet_jax.train.step import train_step

INTERVAL = 100  # steps between checkpoints
AT_LEAST = 6.0  # seconds of steps in which a save has to find its time
REPEATS = 5


def stall(pixels: int, batch: int, folder: Path) -> list[tuple]:
    """Rows of what a save adds to the steps that run beside it, and how long a checkpoint is verified."""
    step, state = _step(pixels, batch)
    state = step(state)
    start = time.perf_counter()
    state = step(state)
    each = time.perf_counter() - start
    steps, checkpoints = max(3, round(AT_LEAST / each)), Checkpoints(folder, keep=1)
    with_save, without, blocked = [], [], []
    for repeat in range(REPEATS):
        for seconds, saves in ((without, False), (with_save, True)):
            start = time.perf_counter()
            if saves:
                checkpoints.save(repeat, state)
                blocked.append(time.perf_counter() - start)
            for _ in range(steps):
                state = step(state)
            seconds.append(time.perf_counter() - start)
            checkpoints.wait()
    step_time = statistics.median(without) / steps
    added = statistics.median(with_save) - statistics.median(without)
    path = checkpoints.directory / str(checkpoints.steps[-1])
    size = sum(file.stat().st_size for file in Path(path).rglob('*') if file.is_file()) / 2**20
    start = time.perf_counter()
    assert not manifest.damage(path)
    verified = time.perf_counter() - start
    return [
        ('step', timing.milliseconds(step_time), ''),
        ('a save: until training goes on', timing.milliseconds(statistics.median(blocked)), ''),
        (f'a save: added to {steps} steps beside it', timing.milliseconds(added),
         f'{100 * added / (INTERVAL * step_time):.2f} % of {INTERVAL} steps'),
        (f'verification of {size:.0f} MiB', timing.milliseconds(verified),
         f'{100 * verified / size:.3f} s per 100 MiB'),
    ]  # fmt: skip


def _step(pixels: int, batch: int):
    config = networks.config('resnet50')
    config.train.batch_size, config.data.pixels = batch, pixels
    arch = spec.architecture(config)
    network, optimizer = ResNet(arch, config.run.scan_from), make_optimizer(config)
    images = jax.random.normal(jax.random.key(1), (batch, *arch.image_shape))
    labels = jnp.zeros(batch, jnp.int32)

    def steps(state: TrainState, count) -> TrainState:
        one = lambda _, state: train_step(network, optimizer, state, images, Targets(labels))  # noqa: E731
        return jax.lax.fori_loop(0, count, one, state)

    compiled = jax.jit(steps, donate_argnums=0, compiler_options=compiler_options())
    return lambda state: jax.block_until_ready(compiled(state, 1)), initial_state(network, optimizer, 0)


if __name__ == '__main__':
    pixels, batch = map(int, (sys.argv[1] if len(sys.argv) > 1 else '224:16').split(':'))
    with tempfile.TemporaryDirectory() as folder:
        rows = stall(pixels, batch, Path(folder))
    timing.show(f'Checkpoints of ResNet-50, {pixels} px, batch {batch}', ('what', 'time', 'share'), rows,
                f'medians of {REPEATS} interleaved turns with and without a save')  # fmt: skip
