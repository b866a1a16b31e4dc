"""Bytes that a device sends in a step, by rings: a sum over n devices takes 2 (n - 1) / n of its size. No JAX.

Gradients are summed in the dtype they are computed in, anew for each microbatch. Where parameters are cut, each
gradient is summed and dealt out among the devices of a cut, and then summed over its copies; parameters are gathered
once. Loss and errors, a few numbers, are left out.
"""

from resnet_jax.planning.memory import FLOAT32, bn_channels
from resnet_jax.planning.setup import Setup, leaves

# Numbers of each channel that BN sums over the devices, but for the sums that are the gradients of γ and β: forward
# two, and the value amid them, which float32 asks for anew in each place that it is used in.
SUMS, PIVOTS = 2, {'float32': 4, 'bfloat16': 1}
ROUNDS = 3  # of BN, one waiting for the other: the value amid, the sums, and the sums backward


def ring(devices: int) -> float:
    """Of what is gathered, or summed and dealt out: the share that a device sends."""
    return (devices - 1) / devices


def gradients(setup: Setup) -> dict[str, float]:
    """{what: bytes} of gradients, and of parameters that are cut."""
    summed = dealt = gathered = 0.0
    for leaf in leaves(setup.arch):
        size = leaf.size * (FLOAT32 if leaf.wide else setup.itemsize)
        if leaf.cut(setup.fsdp):
            dealt += size * ring(setup.fsdp)
            gathered += size * ring(setup.fsdp)
            summed += size / setup.fsdp * 2 * ring(setup.devices // setup.fsdp)
        else:
            summed += size * 2 * ring(setup.devices)
    rows = {'gradients': setup.microbatches * summed}
    if setup.fsdp > 1:
        rows |= {'gradients dealt out (fsdp)': setup.microbatches * dealt, 'parameters gathered (fsdp)': gathered}
    return rows


def bn_numbers(setup: Setup) -> int:
    """Numbers that BN sums over the devices for one microbatch, but for those that are gradients."""
    _, channels = bn_channels(setup)
    # In groups of examples the sums forwards are of a device alone, but their means move the running statistics.
    spanning = setup.arch.norm_examples > setup.at_once
    sums = SUMS + 2 * SUMS * spanning if setup.arch.norm_examples else SUMS
    return channels * (sums + PIVOTS[setup.compute])


def bn_bytes(setup: Setup) -> float:
    return setup.microbatches * bn_numbers(setup) * FLOAT32 * 2 * ring(setup.devices)


def bn_rounds(setup: Setup) -> int:
    """Sums that the step waits for, one after the other."""
    return setup.microbatches * ROUNDS * bn_channels(setup)[0] if setup.devices > 1 else 0
