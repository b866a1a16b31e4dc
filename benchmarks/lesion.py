"""Sweeps of a network: all single deletions and all pairs, by suffixes, by whole compiled networks, by compiling anew.

./launch.sh bench lesion [NAME:PIXELS]           # single deletions
./launch.sh bench lesion pairs [NAME:PIXELS]     # all pairs: minutes, so better of fewer pixels
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import networks, timing
from resnet_jax.analysis import lesion
from resnet_jax.analysis.sweep import lesioned_logits, sweep
from resnet_jax.models.suffix import block_inputs

BATCH = 32
SWEEPS = {'single': lesion.single_deletions, 'pairs': lesion.pair_deletions}
WHOLE = 100  # of so many lesions and more, whole networks are timed on an even sample, and scaled


def main(kind: str, name: str, pixels: int) -> None:
    network, variables, images, labels = networks.untrained(name, pixels, BATCH)
    lesions = SWEEPS[kind](network.arch)
    sample = lesions[:: -(-len(lesions) // WHOLE)]
    whole = jax.jit(lambda variables, images, gates: network.apply(variables, images, gates, train=False))

    def by_suffixes():
        return sweep(network, variables, [(images, labels)], lesions)[1]

    def by_whole_networks():
        gates = [lesion.delete(network.intact_gates(), each) for each in sample]
        return np.stack([np.argmax(whole(variables, images, each), -1) == labels for each in gates])

    _check(network, variables, images, lesions, whole)
    times = timing.interleaved({'suffixes': by_suffixes, 'whole': by_whole_networks}, repeats=3)
    times['whole'] *= len(lesions) / len(sample)
    anew = _compiling_anew(network, variables, images, lesions[0]) * len(lesions)
    scaled = f'whole ({len(sample)} timed)' if len(sample) < len(lesions) else 'whole'
    rows = [
        ({'whole': scaled}.get(what, what), timing.milliseconds(value), f'{value / times["suffixes"]:.2f}x')
        for what, value in (*times.items(), ('compiled anew each (one timed)', anew))
    ]
    timing.show(
        f'{len(lesions)} deletions ({kind}), {name}, {pixels} px, {BATCH} images', ('way', 'time', 'to suffixes'), rows
    )


def _check(network, variables, images, lesions, whole) -> None:
    """The logits of both ways are equal, within float32 reordering: entered at the last deleted block, from a network
    that lacks the others, for one lesion of each stage."""
    arch, intact = network.arch, network.intact_gates()
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


def _compiling_anew(network, variables, images, deleted) -> float:
    """Seconds for one lesion whose gates are constants of its own program."""
    gates = lesion.delete(network.intact_gates(), deleted)
    start = time.perf_counter()
    jax.block_until_ready(jax.jit(lambda v, x: network.apply(v, x, gates, train=False))(variables, images))
    return time.perf_counter() - start


if __name__ == '__main__':
    kind, *given = sys.argv[1:] if sys.argv[1:2] == ['pairs'] else ['single', *sys.argv[1:]]
    name, pixels = (given or [{'single': 'preact_resnet110:32', 'pairs': 'preact_resnet110:16'}[kind]])[0].split(':')
    main(kind, name, int(pixels))
