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


def block_inputs(network: ResNet, variables: dict, images: Float[Array, 'n h w c']) -> tuple[Array, list[dict]]:
    """The logits (n, classes), and for every stage what its blocks were given, with nothing removed.

    Returns:
      logits, and a stage each: `entry` (n, h, w, c) and, where there is a body, `body` (blocks - 1, n, h, w, c).
    """
    logits, kept = network.apply(variables, images, train=False, mutable=['intermediates'])
    stages = [kept['intermediates'][f'stage{k + 1}'] for k in range(len(network.arch.widths))]
    return logits, [{name: part['input'] for name, part in stage.items()} for stage in stages]


def enter_stage(
    network: ResNet, variables: dict, stage: int, x: Float[Array, 'n h w c'], gates: Gates
) -> Float[Array, 'n classes']:
    """Logits from the entry block of a stage (counted from 0) on.

    Args:
      x: the input of the entry block.
      gates: of the whole network.
    """
    first, x = network.arch.entry_blocks[stage], _entry(network, variables, stage, x, gates)
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
        x = _entry(network, variables, later, x, gates)
        x = _body(network, variables, later, x, network.arch.entry_blocks[later] + 1, gates)
    last: Any = head(network.arch)
    return last.apply(_part(variables, 'head'), x, train=False)


def _entry(network: ResNet, variables: dict, stage: int, x: Array, gates: Gates) -> Array:
    first = network.arch.entry_blocks[stage]
    own: Any = one_block(network.arch, stage, entry=True)
    variables = _part(variables, f'stage{stage + 1}', 'entry')
    return own.apply(variables, x, gates.of(first), Position(first, 0), train=False)


def _body(network: ResNet, variables: dict, stage: int, x: Array, start: int | Array, gates: Gates) -> Array:
    arch, blocks = network.arch, network.arch.stage_blocks[stage] - 1
    first = arch.entry_blocks[stage] + 1
    if blocks == 0:
        return x
    own = one_block(arch, stage, entry=False)
    stacked = _part(variables, f'stage{stage + 1}', 'body')

    def apply(index, x):
        its = block_of(stacked, index - first, blocks, arch.share)
        position = Position(index, index - first + 1)
        return own.apply(its, x, gates.of(index), position, train=False)

    return jax.lax.fori_loop(start, first + blocks, apply, x)


def _part(variables: dict, *path: str) -> dict:
    """The variables of one module; a kind that it has none of stays away."""
    part = {}
    for kind, tree in variables.items():
        for name in path:
            tree = tree.get(name, {})
        if tree:
            part[kind] = tree
    return part
