"""Sweeps of a network: all single deletions and all pairs, by suffixes, by whole compiled networks, by compiling anew;
single ones in PyTorch too, where it is installed: with a hook a block that gives its shortcut in place of its result.

./launch.sh bench lesion [NAME:PIXELS]           # single deletions
./launch.sh bench lesion pairs [NAME:PIXELS]     # all pairs: minutes, so better of fewer pixels
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from benchmarks import networks, timing
from resnet_jax import spec
from resnet_jax.analysis import lesion
from resnet_jax.analysis.shares import Part
from resnet_jax.analysis.sweep import lesioned_logits, sweep
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.suffix import block_inputs

BATCH = 32
SWEEPS = {'single': lesion.single_deletions, 'pairs': lesion.pair_deletions}
WHOLE = 100  # of so many lesions and more, whole networks are timed on an even sample, and scaled


def main(kind: str, name: str, pixels: int) -> None:
    arch = spec.architecture(networks.config(name))
    lesions = SWEEPS[kind](arch)
    sample = _sample(lesions)
    with_peer = kind == 'single' and (arch.block, arch.shortcut) == ('basic', 'A') and find_spec('torch')
    made = {'ours': partial(_ours, kind, name, pixels)}
    if with_peer:
        made['PyTorch'] = partial(_torch, name, pixels)
    with timing.apart(made) as calls:
        timed = {way: call for found in calls.values() for way, call in found.items()}
        anew = timed.pop('compiled anew')
        times = timing.interleaved(timed, repeats=3, settled=True)
        times['whole networks'] *= len(lesions) / len(sample)
        start = time.perf_counter()
        anew()
        times['compiled anew, one timed'] = (time.perf_counter() - start) * len(lesions)
    rows = [(way, timing.milliseconds(value), f'{value / times["suffixes"]:.2f}x') for way, value in times.items()]
    timing.show(
        f'{len(lesions)} deletions ({kind}), {name}, {pixels} px, {BATCH} images', ('way', 'time', 'to suffixes'), rows,
        f'medians of runs in turns, PyTorch in a process of its own (with JAX, for what it is to find); whole networks '
        f'for {len(sample)}, scaled',
    )  # fmt: skip


def _ours(kind: str, name: str, pixels: int) -> timing.Calls:
    network, variables, images, labels = networks.untrained(name, pixels, BATCH)
    lesions = SWEEPS[kind](network.arch)
    _check(network, variables, images, lesions)
    return ways(network, variables, [(images, labels)], lesions)


def _torch(name: str, pixels: int) -> timing.Calls:
    """PyTorch's single deletions, which have found what ours find, but for images on the border."""
    from benchmarks import torch_candidates

    network, variables, images, labels = networks.untrained(name, pixels, BATCH)
    ours = ways(network, variables, [(images, labels)], lesion.single_deletions(network.arch))['suffixes']()
    call = torch_candidates.deletions(network.arch, variables, np.asarray(images), np.asarray(labels))
    assert np.mean(call() == ours) > 0.99
    return {'PyTorch, a hook a block': call}


def ways(network: ResNet, variables: dict, parts: list[Part], lesions: Bool[np.ndarray, 'lesions blocks']) -> dict:
    """{way: call}: which examples are classified rightly, after each deletion or (compiled anew) after the first; by
    whole networks for a sample of them where they are many."""
    whole = jax.jit(lambda variables, images, gates: network.apply(variables, images, gates, train=False))

    def right(run: Callable, images: Array, labels: Array) -> np.ndarray:
        return np.asarray(jnp.argmax(run(variables, images), -1) == labels)

    def by_whole_networks() -> list:
        gates = [lesion.delete(network.intact_gates(), each) for each in _sample(lesions)]
        return [right(partial(whole, gates=each), *part) for each in gates for part in parts]

    def compiled_anew() -> list:
        gates = lesion.delete(network.intact_gates(), lesions[0])  # constants of a program of its own
        run = jax.jit(lambda variables, images: network.apply(variables, images, gates, train=False))
        return [right(run, *part) for part in parts]

    return {
        'suffixes': lambda: sweep(network, variables, parts, lesions)[1],
        'whole networks': by_whole_networks, 'compiled anew': compiled_anew,
    }  # fmt: skip


def _sample(lesions: Bool[np.ndarray, 'lesions blocks']) -> Bool[np.ndarray, 'some blocks']:
    return lesions[:: -(-len(lesions) // WHOLE)]


def _check(network, variables, images, lesions) -> None:
    """The logits of both ways are equal, within float32 reordering: entered at the last deleted block, from a network
    that lacks the others, for one lesion of each stage."""
    arch, intact = network.arch, network.intact_gates()
    whole = jax.jit(partial(network.apply, train=False))
    for last in (1, arch.entry_blocks[1], arch.blocks - 1):
        deleted = next(each for each in lesions if np.flatnonzero(each)[-1] == last)
        others = deleted.copy()
        others[last] = False
        _, inputs = block_inputs(network, variables, images, lesion.delete(intact, others))
        stage = arch.stage_of[last]
        gates = lesion.delete(intact, deleted)
        ours = lesioned_logits(
            network, variables, inputs[stage], jnp.int32(last), gates, stage=stage, at_entry=last in arch.entry_blocks
        )
        np.testing.assert_allclose(ours, whole(variables, images, gates), rtol=1e-3, atol=1e-3)


if __name__ == '__main__':
    kind, *given = sys.argv[1:] if sys.argv[1:2] == ['pairs'] else ['single', *sys.argv[1:]]
    name, pixels = (given or [{'single': 'preact_resnet110:32', 'pairs': 'preact_resnet110:16'}[kind]])[0].split(':')
    main(kind, name, int(pixels))
