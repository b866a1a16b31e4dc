"""Sweeps: many lesions of one network, on the same examples, at less than the cost of as many whole networks.

A lesion leaves everything before its first deleted block as it was, so it is entered there, from what the intact
network gave that block: all single deletions cost half of the whole networks. Lesions that are alike but for their
last deleted block are entered there, from a network that lacks the others: all pairs cost a third. Lesions are data: a
stage is compiled once, whatever is deleted.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from resnet_jax import memory
from resnet_jax.analysis.lesion import delete
from resnet_jax.analysis.shares import Part, dealt
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.suffix import block_inputs, enter_body, enter_stage
from resnet_jax.progress import Progress, silent


def sweep(
    network: ResNet,
    variables: dict,
    parts: Iterable[Part],
    lesions: Bool[np.ndarray, 'lesions blocks'],
    *,
    progress: Progress = silent,
) -> tuple[Bool[np.ndarray, ' examples'], Bool[np.ndarray, 'lesions examples']]:
    """Which examples the network classifies rightly: intact, and after each lesion.

    Args:
      parts: the examples, a chunk after the other (images as the network takes them, and labels). A chunk whose
        blocks' inputs would not fit the memory together is split.
      progress: hears of lesions done, over all chunks.

    Returns:
      Intact, and by lesion.
    """
    parts = list(split(network, variables, parts))
    groups = _groups(network.arch, lesions)
    intact, by_lesion, done, total = [], [], 0, len(lesions) * len(parts)
    for images, labels in parts:
        rows: list = [None] * len(lesions)
        for base, members in groups:
            right, inputs = _kept(network, variables, images, labels, base)
            if not base.any():
                intact.append(right)
            for row, start in members:
                stage = network.arch.stage_of[start]
                rows[row] = _lesioned(network, variables, inputs[stage], start, lesions[row], labels, stage=stage,
                                      at_entry=start == network.arch.entry_blocks[stage])  # fmt: skip
                done += 1
                if done % 16 == 0 or done == total:
                    rows[row].block_until_ready()
                    progress('deleting blocks', done, total)
        by_lesion.append(np.array(jax.device_get(rows), bool).reshape(len(lesions), len(labels)))
    return np.concatenate(jax.device_get(intact)), np.concatenate(by_lesion, axis=1)


def lesioned_logits(
    network: ResNet, variables: dict, inputs: dict, start: Int[Array, ''], gates: Gates, *, stage: int, at_entry: bool
) -> Float[Array, 'n classes']:
    """The logits under `gates`, entered at block `start` of `stage` with what `block_inputs` keeps of that stage."""
    if at_entry:
        return enter_stage(network, variables, stage, inputs['entry'], gates)
    x = inputs['body'][start - network.arch.entry_blocks[stage] - 1]
    return enter_body(network, variables, stage, x, start, gates)


def split(network: ResNet, variables: dict, parts: Iterable[Part]) -> Iterator[Part]:
    """The same examples, dealt out among the devices in chunks of which the inputs of all blocks fit the memory."""
    one = jax.ShapeDtypeStruct((1, *network.arch.image_shape), jnp.float32)
    _, inputs = jax.eval_shape(partial(block_inputs, network), variables, one)
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(inputs))
    yield from dealt(parts, max(1, memory.room() // needed))


def _groups(arch: Architecture, lesions: np.ndarray) -> list[tuple[np.ndarray, list[tuple[int, int]]]]:
    """Lesions by the network that they are entered from, itself a lesion; the intact one first.

    Returns:
      (what that network lacks, [(number of the lesion, index of the block where it is entered)]).
    """
    blocks, numbers = arch.blocks, np.arange(len(lesions))
    some = lesions.any(axis=1)
    first = np.where(some, lesions.argmax(axis=1), blocks - 1)
    last = np.where(some, blocks - 1 - lesions[:, ::-1].argmax(axis=1), blocks - 1)
    bases = lesions.copy()
    bases[numbers, last] = False
    alike: dict[bytes, list[int]] = {}
    for number, base in enumerate(bases):
        alike.setdefault(base.tobytes(), []).append(number)
    found, at_first = [], []
    for members in map(np.array, alike.values()):
        # In blocks to compute: the network that lacks all but the last, and from there; or from the first on.
        if blocks + (blocks - last[members]).sum() < (blocks - first[members]).sum():
            found.append((bases[members[0]], [(int(number), int(last[number])) for number in members]))
        else:
            at_first += [(int(number), int(first[number])) for number in members]
    return [(np.zeros(blocks, bool), at_first), *found]


@partial(jax.jit, static_argnames='network')
def _kept(network, variables, images, labels, lesion):
    logits, inputs = block_inputs(network, variables, images, delete(network.intact_gates(), lesion))
    return jnp.argmax(logits, axis=-1) == labels, inputs


@partial(jax.jit, static_argnames=('network', 'stage', 'at_entry'))
def _lesioned(network, variables, inputs, start, lesion, labels, *, stage: int, at_entry: bool):
    gates = delete(network.intact_gates(), lesion)
    logits = lesioned_logits(network, variables, inputs, start, gates, stage=stage, at_entry=at_entry)
    return jnp.argmax(logits, axis=-1) == labels
