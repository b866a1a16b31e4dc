"""Train step and evaluation against the same network in PyTorch, eager and compiled, and in plain Flax: same batch,
interleaved.

./launch.sh bench step [NAME:PIXELS:BATCH …]
"""

import sys

import numpy as np

try:
    from benchmarks import torch_candidates
except ImportError:
    sys.exit('this benchmark compares with PyTorch, which is not installed; benchmarks/README.md says how')

from benchmarks import flax_peer, jax_candidates, networks, timing
from resnet_jax import spec
from resnet_jax.models import zoo
from resnet_jax.models.resnet import ResNet

CASES = ('resnet20:32:128', 'resnet110:32:128', 'preact_resnet110:8:128', 'resnet50:224:16')
# Unrolled, as plain Flax is, these would compile for minutes.
TOO_DEEP = 50  # blocks
PEERS = {'torch': 'PyTorch', 'compiled': 'compiled', 'flax': 'Flax'}


def measure(name: str, pixels: int, batch: int) -> list[tuple]:
    """Rows of (what, ours, time and ratio of each peer, noise) for one network."""
    config = networks.config(name)
    config.train.batch_size = batch
    arch = spec.architecture(config)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, pixels, pixels, 3)).astype(np.float32)
    labels = rng.integers(0, arch.classes, batch).astype(np.int32)
    made = {
        'ours': jax_candidates.calls(ResNet(arch, config.run.scan_from), config, images, labels, looped=True),
        'torch': torch_candidates.calls(name, arch, config, images, labels),
    }
    if zoo.dataset(name) != 'imagenet2012':
        made['compiled'] = torch_candidates.calls(name, arch, config, images, labels, compiled='default')
    if arch.blocks < TOO_DEEP:
        made['flax'] = jax_candidates.calls(flax_peer.ResNet(arch), config, images, labels, looped=False)
    rows = []
    for what in ('train step', 'evaluation'):
        times = timing.interleaved({who: calls[what] for who, calls in made.items()})
        shown = [timing.milliseconds(times['ours'])]
        for peer in PEERS:
            there = peer in times
            shown += [timing.milliseconds(times[peer]) if there else '-',
                      f'{times[peer] / times["ours"]:.2f}x' if there else '-']  # fmt: skip
        rows.append((f'{name}, {pixels} px, batch {batch}, {what}', *shown, f'{times["A/A"] / times["ours"]:.2f}'))
    return rows


if __name__ == '__main__':
    rows = []
    for case in sys.argv[1:] or CASES:
        name, pixels, batch = case.split(':')
        rows += measure(name, int(pixels), int(batch))
    timing.show(
        'Against PyTorch (eager and compiled; channels last; torchvision where it has the network) and plain Flax',
        ('what', 'ours', *(word for title in PEERS.values() for word in (title, 'ratio')), 'A/A'), rows,
    )  # fmt: skip
