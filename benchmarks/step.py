"""Train step and evaluation against the same network in PyTorch and in plain Flax: same batch, interleaved.

./launch.sh bench step [NAME:PIXELS:BATCH …]
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

from benchmarks import flax_peer, networks, peers, timing
from resnet_jax import spec
from resnet_jax.models import zoo
from resnet_jax.models.resnet import ResNet
from resnet_jax.train.gradient import Targets
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import train_step

CASES = ('resnet20:32:128', 'resnet110:32:128', 'preact_resnet110:8:128', 'resnet50:224:16')
# Unrolled, as plain Flax is, these would compile for minutes.
TOO_DEEP = 50  # blocks


def measure(name: str, pixels: int, batch: int) -> list[tuple]:
    """Rows of (what, ours, PyTorch, ratio, plain Flax, ratio, noise) for one network."""
    config = networks.config(name)
    config.train.batch_size = batch
    arch = spec.architecture(config)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, pixels, pixels, 3)).astype(np.float32)
    labels = rng.integers(0, arch.classes, batch).astype(np.int32)
    made = {
        'ours': _jax(ResNet(arch, config.run.scan_from), config, images, labels, looped=True),
        'torch': _torch(name, arch, config, images, labels),
    }
    if arch.blocks < TOO_DEEP:
        made['flax'] = _jax(flax_peer.ResNet(arch), config, images, labels, looped=False)
    rows = []
    for what in ('train step', 'evaluation'):
        times = timing.interleaved({who: calls[what] for who, calls in made.items()})
        shown = [timing.milliseconds(times['ours'])]
        for peer in ('torch', 'flax'):
            there = peer in times
            shown += [timing.milliseconds(times[peer]) if there else '-',
                      f'{times[peer] / times["ours"]:.2f}x' if there else '-']  # fmt: skip
        rows.append((f'{name}, {pixels} px, batch {batch}, {what}', *shown, f'{times["A/A"] / times["ours"]:.2f}'))
    return rows


def _jax(network, config, images, labels, *, looped: bool) -> dict:
    optimizer = make_optimizer(config)
    state = [initial_state(network, optimizer, 0)]
    images, labels = jnp.asarray(images), jnp.asarray(labels)

    def one(state):
        return train_step(network, optimizer, state, images, Targets(labels))

    # Ours inside a loop, as training runs it; there plain Flax would take thirty times as long.
    steps = jax.jit(
        lambda state, count: jax.lax.fori_loop(0, count, lambda _, state: one(state), state) if looped else one(state),
        donate_argnums=0,
    )
    apply = jax.jit(partial(network.apply, train=False))

    def step():
        state[0] = steps(state[0], 1)
        return state[0]

    return {'train step': step, 'evaluation': lambda: apply(state[0].variables, images)}


def _torch(name, arch, config, images, labels) -> dict:
    torch.set_num_threads(timing.cores())
    peer = peers.torchvision().models.get_model(name) if zoo.dataset(name) == 'imagenet2012' else peers.ResNet(arch)
    model = peer.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
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
        name, pixels, batch = case.split(':')
        rows += measure(name, int(pixels), int(batch))
    timing.show(
        'Against PyTorch (eager, channels last; torchvision where it has the network) and plain Flax',
        ('what', 'ours', 'PyTorch', 'ratio', 'Flax', 'ratio', 'A/A'), rows,
    )  # fmt: skip
