"""The network from any block on: a suffix is enough for an intervention, which leaves everything before it as it was.

A scan of fixed length cannot start at a traced index; here the body of the stage that is entered runs as a loop
with a traced start over the stacked parameters. Evaluation only.
"""

from typing import Any

import jax
from jaxtyping import Array, Float, Int

from resnet_jax.models.blocks import Position
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet, head, one_block
from resnet_jax.models.stage import block_of


def block_inputs(
    network: ResNet, variables: dict, images: Float[Array, 'n h w c'], gates: Gates | None = None
) -> tuple[Array, list[dict]]:
    """The logits (n, classes), and for every stage what its blocks were given; without gates nothing is removed.

    Returns:
      logits, and a stage each: `entry` (n, h, w, c) and, where there is a body, `body` (blocks - 1, n, h, w, c).
    """
    logits, kept = network.apply(variables, images, gates, train=False, mutable=['intermediates'])
    stages = [kept['intermediates'][f'stage{k + 1}'] for k in range(len(network.arch.widths))]
    return logits, [{name: blocks['input'] for name, blocks in stage.items()} for stage in stages]


def enter_stage(
    network: ResNet, variables: dict, stage: int, x: Float[Array, 'n h w c'], gates: Gates
) -> Float[Array, 'n classes']:
    """Logits from the entry block of a stage (counted from 0) on.

    Args:
      x: the input of the entry block.
      gates: of the whole network.
    """
    first, x = network.arch.entry_blocks[stage], entry_block(network, variables, stage, x, gates)
    return enter_body(network, variables, stage, x, first + 1, gates)


def enter_body(
    network: ResNet,
    variables: dict,
    stage: int,
    x: Float[Array, 'n h w c'],
    start: int | Int[Array, ''],
    gates: Gates,
) -> Float[Array, 'n classes']:
    """Logits from block `start` on, which lies in the body of `stage` (both counted from 0, in network order).

    Args:
      x: the input of that block.
      start: may be traced; one compiled program serves every block of the body.
      gates: of the whole network, (blocks,) or (blocks, n).
    """
    x = _body(network, variables, stage, x, start, gates)
    for later in range(stage + 1, len(network.arch.widths)):
        x = entry_block(network, variables, later, x, gates)
        x = _body(network, variables, later, x, network.arch.entry_blocks[later] + 1, gates)
    last: Any = head(network.arch)
    return last.apply(part(variables, 'head'), x, train=False)


def entry_block(network: ResNet, variables: dict, stage: int, x: Array, gates: Gates) -> Array:
    """The output of the entry block of a stage (counted from 0)."""
    first = network.arch.entry_blocks[stage]
    own: Any = one_block(network.arch, stage, entry=True)
    variables = part(variables, f'stage{stage + 1}', 'entry')
    return own.apply(variables, x, gates.of(first), Position(first, 0), train=False)


def body_block(
    network: ResNet, variables: dict, stage: int, x: Array, index: int | Int[Array, ''], gates: Gates
) -> Array:
    """The output of block `index` (in network order from 0, may be traced) of the body of a stage."""
    arch = network.arch
    place = index - arch.entry_blocks[stage]
    own: Any = one_block(arch, stage, entry=False)
    stacked = part(variables, f'stage{stage + 1}', 'body')
    its = block_of(stacked, place - 1, arch.stage_blocks[stage] - 1, arch.share)
    return own.apply(its, x, gates.of(index), Position(index, place), train=False)


def _body(network: ResNet, variables: dict, stage: int, x: Array, start: int | Array, gates: Gates) -> Array:
    end = network.arch.entry_blocks[stage] + network.arch.stage_blocks[stage]
    if network.arch.stage_blocks[stage] == 1:
        return x
    return jax.lax.fori_loop(start, end, lambda index, x: body_block(network, variables, stage, x, index, gates), x)


def part(variables: dict, *path: str) -> dict:
    """The variables of one module; a kind that it has none of stays away."""
    found = {}
    for kind, tree in variables.items():
        for name in path:
            tree = tree.get(name, {})
        if tree:
            found[kind] = tree
    return found
