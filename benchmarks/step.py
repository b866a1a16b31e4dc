"""Train step and evaluation against the same network in PyTorch and in plain Flax: same batch, processes in turns.

With `compiled`, against torch.compile instead of plain Flax.

./launch.sh bench step [compiled] [NAME:PIXELS:BATCH …]
"""

import sys
from functools import partial
from importlib.util import find_spec

import numpy as np

from benchmarks import jax_candidates, networks, timing
from resnet_jax import spec
from resnet_jax.models.resnet import ResNet

CASES = ('resnet20:32:128', 'resnet110:32:128', 'preact_resnet110:8:128', 'resnet50:224:16')
# Unrolled, as plain Flax is, these would compile for minutes.
TOO_DEEP = 50  # blocks


def calls(who: str, name: str, pixels: int, batch: int) -> timing.Calls:
    """What is timed of one network, by one candidate."""
    config = networks.config(name)
    config.train.batch_size = batch
    arch, random = spec.architecture(config), np.random.default_rng(0)
    images = random.normal(size=(batch, pixels, pixels, 3)).astype(np.float32)
    labels = random.integers(0, arch.classes, batch).astype(np.int32)
    if who == 'ours':
        network = ResNet(arch, config.run.scan_from)
        return jax_candidates.calls(network, config, images, labels, looped=True)
    if who == 'plain Flax':
        from benchmarks import flax_peer

        return jax_candidates.calls(flax_peer.ResNet(arch), config, images, labels, looped=False)
    from benchmarks import torch_candidates

    mode = 'default' if who == 'torch.compile' else ''
    return torch_candidates.calls(name, arch, config, images, labels, mode)


def measure(peers: tuple[str, ...], name: str, pixels: int, batch: int) -> list[tuple]:
    """Rows of (what, our time, time and ratio of each peer, noise) for one network."""
    deep = spec.architecture(networks.config(name)).blocks >= TOO_DEEP
    there = [peer for peer in peers if not (deep and peer == 'plain Flax')]
    rows = []
    with timing.apart({who: partial(calls, who, name, pixels, batch) for who in ('ours', *there)}) as made:
        for what in ('train step', 'evaluation'):
            times = timing.interleaved({who: found[what] for who, found in made.items()}, settled=True)
            shown = [timing.milliseconds(times['ours'])]
            for peer in peers:
                shown += [timing.milliseconds(times[peer]) if peer in there else '-',
                          f'{times[peer] / times["ours"]:.2f}x' if peer in there else '-']  # fmt: skip
            rows.append((f'{name}, {pixels} px, batch {batch}, {what}', *shown, f'{times["A/A"] / times["ours"]:.2f}'))
    return rows


if __name__ == '__main__':
    if find_spec('torch') is None:
        sys.exit('this benchmark compares with PyTorch, which is not installed; benchmarks/README.md says how')
    compiled = sys.argv[1:2] == ['compiled']
    peers, rows = ('PyTorch', 'torch.compile' if compiled else 'plain Flax'), []
    for case in sys.argv[1 + compiled :] or CASES:
        name, pixels, batch = case.split(':')
        rows += measure(peers, name, int(pixels), int(batch))
    timing.show(
        'Ours against others; PyTorch channels last, torchvision where it has the network',
        ('what', 'ours', *(word for peer in peers for word in (peer, 'ratio')), 'A/A'), rows,
        'medians of runs in turns, each candidate in a process of its own and settled',
    )  # fmt: skip
