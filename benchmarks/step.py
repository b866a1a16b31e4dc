"""Train step and evaluation against the same network in PyTorch and in plain Flax: same batch, interleaved.

With `compiled`, torch.compile against PyTorch as it is, by themselves: in one process with it our step
takes half as long again.

./launch.sh bench step [compiled] [NAME:PIXELS:BATCH …]
"""

import sys
from functools import partial

import numpy as np

try:
    from benchmarks import torch_candidates
except ImportError:
    sys.exit('this benchmark compares with PyTorch, which is not installed; benchmarks/README.md says how')

from benchmarks import flax_peer, jax_candidates, networks, timing
from resnet_jax import spec
from resnet_jax.models.resnet import ResNet

CASES = ('resnet20:32:128', 'resnet110:32:128', 'preact_resnet110:8:128', 'resnet50:224:16')
# Unrolled, as plain Flax is, these would compile for minutes.
TOO_DEEP = 50  # blocks
PEERS = {False: ('torch', 'flax'), True: ('torch',)}  # of ours; of torch.compile


def measure(name: str, pixels: int, batch: int, compiled: bool) -> list[tuple]:
    """Rows of (what, the first's time, time and ratio of each peer, noise) for one network."""
    config = networks.config(name)
    config.train.batch_size = batch
    arch = spec.architecture(config)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, pixels, pixels, 3)).astype(np.float32)
    labels = rng.integers(0, arch.classes, batch).astype(np.int32)
    of_torch = partial(torch_candidates.calls, name, arch, config, images, labels)
    if compiled:
        made = {'compiled': of_torch(compiled='default'), 'torch': of_torch()}
    else:
        ours = jax_candidates.calls(ResNet(arch, config.run.scan_from), config, images, labels, looped=True)
        made = {'ours': ours, 'torch': of_torch()}
        if arch.blocks < TOO_DEEP:
            made['flax'] = jax_candidates.calls(flax_peer.ResNet(arch), config, images, labels, looped=False)
    rows = []
    for what in ('train step', 'evaluation'):
        times = timing.interleaved({who: calls[what] for who, calls in made.items()})
        first = times[next(iter(made))]
        shown = [timing.milliseconds(first)]
        for peer in PEERS[compiled]:
            there = peer in times
            shown += [timing.milliseconds(times[peer]) if there else '-',
                      f'{times[peer] / first:.2f}x' if there else '-']  # fmt: skip
        rows.append((f'{name}, {pixels} px, batch {batch}, {what}', *shown, f'{times["A/A"] / first:.2f}'))
    return rows


if __name__ == '__main__':
    compiled = sys.argv[1:2] == ['compiled']
    rows = []
    for case in sys.argv[1 + compiled :] or CASES:
        name, pixels, batch = case.split(':')
        rows += measure(name, int(pixels), int(batch), compiled)
    one, others = ('torch.compile', 'PyTorch as it is') if compiled else ('Ours', 'PyTorch (eager) and plain Flax')
    timing.show(
        f'{one} against {others}; channels last, torchvision where it has the network',
        ('what', one, *(word for peer in PEERS[compiled] for word in (peer, 'ratio')), 'A/A'), rows,
    )  # fmt: skip
