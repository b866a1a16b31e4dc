"""Train step and evaluation against the same network in PyTorch: same batch, same threads, interleaved.

./launch.sh bench step [NAME:PIXELS …]
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

try:
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]
except ImportError:
    sys.exit('this benchmark compares with PyTorch, which is not installed; benchmarks/README.md says how')

from benchmarks import peers, timing
from configs import default
from resnet_jax import spec
from resnet_jax.models import zoo
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.optimizer import sgd
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import train_step

CASES = ('resnet20:32', 'resnet110:32', 'preact_resnet110:8')


def measure(name: str, pixels: int, batch: int) -> list[tuple]:
    """Rows of (what, ours, PyTorch, ratio, noise) for one network."""
    config = default.get_config()
    config.network.update(zoo.settings(name))
    config.train.batch_size = batch
    arch = spec.architecture(config)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, pixels, pixels, 3)).astype(np.float32)
    labels = rng.integers(0, arch.classes, batch).astype(np.int32)
    ours, theirs = _ours(config, arch, images, labels), _theirs(config, arch, images, labels)
    rows = []
    for what in ('train step', 'evaluation'):
        times = timing.interleaved({'ours': ours[what], 'peer': theirs[what]})
        ratio, noise = times['peer'] / times['ours'], times['A/A'] / times['ours']
        shown = (timing.milliseconds(times['ours']), timing.milliseconds(times['peer']))
        rows.append((f'{name}, {pixels} px, batch {batch}, {what}', *shown, f'{ratio:.2f}x', f'{noise:.2f}'))
    return rows


def _ours(config, arch, images, labels) -> dict:
    network, optimizer = ResNet(arch), sgd(config.train)
    state = [initial_state(network, optimizer, 0)]
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    # Inside a loop, as training runs it: that is where a convolution's gradients are slow when written naively.
    steps = jax.jit(
        lambda state, count: jax.lax.fori_loop(
            0, count, lambda _, state: train_step(network, optimizer, state, images, labels), state
        ),
        donate_argnums=0,
    )
    apply = jax.jit(partial(network.apply, train=False))

    def step():
        state[0] = steps(state[0], 1)
        return state[0]

    return {'train step': step, 'evaluation': lambda: apply(state[0].variables, images)}


def _theirs(config, arch, images, labels) -> dict:
    torch.set_num_threads(timing.cores())
    model = peers.ResNet(arch).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, config.train.momentum, weight_decay=config.train.weight_decay)
    images = torch.tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    labels = torch.tensor(labels).long()

    def step():
        model.train()
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def evaluation():
        model.eval()
        with torch.inference_mode():
            model(images)

    return {'train step': step, 'evaluation': evaluation}


if __name__ == '__main__':
    rows = []
    for case in sys.argv[1:] or CASES:
        name, pixels = case.split(':')
        rows += measure(name, int(pixels), batch=128)
    timing.show('Against PyTorch (eager, channels last)', ('what', 'ours', 'PyTorch', 'ratio', 'A/A'), rows)
