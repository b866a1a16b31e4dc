"""A stage: its entry block, which may change the shape, and its body, many blocks of one shape as one scan."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from resnet_jax.models.block import Block
from resnet_jax.models.blocks import BlockPlan, Position
from resnet_jax.models.gates import Gates
from resnet_jax.models.layers import Layers
from resnet_jax.models.remat import sparing

# What the blocks of a body have in common, by `network.share`: collections that are one for all, and whether of the
# parameters the convolutions' alone are (Jastrzebski et al. 2018, arXiv 1710.04773, section 5).
SHARED = {'none': (), 'kernels': (), 'parameters': ('params',), 'all': ('params', 'batch_stats')}


class Stage(nn.Module):
    """Blocks of one width. Parameters: `entry/…`, and `body/…` stacked along a leading block axis.

    A long body is one scan, which compiles as one block whatever its length. A short one trains block by block: a
    scan keeps what the gradient needs in arrays of all blocks, into which it is copied, and computes the rest again
    (`remat.sparing`). There is no body where the stage has one block. What the blocks of the body share has no block
    axis.

    Attributes:
      entry, body: plans of the first block and of each of the others.
      first: index of the entry block in the network.
      blocks: how many, the entry block counted.
      share: what the body's blocks share: none, kernels, parameters or all.
      scan_from: bodies of so many blocks and more are scanned; no layout depends on it.
      remat: does the backward pass of training compute each block again, from its input?
    """

    entry: BlockPlan
    body: BlockPlan
    layers: Layers
    first: int
    blocks: int
    share: str
    scan_from: int
    remat: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, 'n h w c'], gates: Gates | None, draws: Array | None = None, *, train: bool
    ) -> Float[Array, 'n h2 w2 features']:
        def run(block: Block, x: Array, gates: Gates | None, position: Position) -> Array:
            return block(x, gates, position, draws, train=train)

        again = self.remat and train
        entry = Block(self.entry, self.layers, name='entry')
        x = (nn.remat(run) if again else run)(entry, x, gates and gates.of(0), Position(self.first, 0))
        if self.blocks == 1:
            return x
        if train and self.blocks - 1 < self.scan_from and not self.is_initializing():
            return self.one_by_one(x, gates, draws)
        body = Block(self.body, self.layers, name='body')
        if self.is_initializing() and self.share == 'all':
            # A scan carries only what is there before it, and the variables of all blocks are those of one.
            return run(body, x, gates and gates.of(1), Position(self.first + 1, 1))
        if train:
            run = nn.remat(run, prevent_cse=False) if again else sparing(run)
        scan = _scanned(self, run, in_gates=0 if gates else nn.broadcast)
        counted = jnp.arange(1, self.blocks)
        x, _ = scan(body, x, gates and gates.of(slice(1, None)), Position(self.first + counted, counted))
        return x

    def one_by_one(self, x: Array, gates: Gates | None, draws: Array | None) -> Array:
        """The body in training, without a scan."""
        body, kinds = Block(self.body, self.layers, parent=None), ('params', 'batch_stats')
        variables = {kind: self.get_variable(kind, 'body') for kind in kinds if self.has_variable(kind, 'body')}
        run = partial(body.apply, train=True, mutable=['batch_stats'])
        run, updated = jax.checkpoint(run) if self.remat else run, []
        for index in range(self.blocks - 1):
            x, updates = run(
                block_of(variables, index, self.blocks - 1, self.share), x, gates and gates.of(index + 1),
                Position(self.first + index + 1, index + 1), draws,
            )  # fmt: skip
            updated.append(updates)
            if self.share == 'all':
                variables |= updates
        if 'batch_stats' in variables and self.is_mutable_collection('batch_stats'):
            whole = variables if self.share == 'all' else jax.tree.map(lambda *each: jnp.stack(each), *updated)
            self.put_variable('batch_stats', 'body', whole['batch_stats'])
        return x


def _scanned(stage: Stage, run: Callable, in_gates) -> Callable:
    """`run(block, x, gates, position)` of all blocks of a stage's body, one after the other, as one loop."""
    shared = SHARED[stage.share]
    # Shared statistics go from block to block where they change, and are read where they do not.
    carried = tuple(name for name in shared if name == 'batch_stats' and stage.is_mutable_collection(name))
    scan = nn.scan(
        lambda block, *given: (run(block, *given), None),
        variable_axes={name: 0 for name in ('params', 'batch_stats', 'intermediates') if name not in shared},
        variable_broadcast=[name for name in shared if name not in carried],
        variable_carry=carried,
        split_rngs={'params': 'params' not in shared},
        in_axes=(in_gates, 0),  # pyright: ignore[reportArgumentType]
        length=stage.blocks - 1,
    )
    if stage.share == 'kernels':
        scan = nn.map_variables(
            scan, 'params', partial(_each, partial(spread, blocks=stage.blocks - 1)), partial(_each, gather),
            init=stage.is_initializing(), mutable=stage.is_initializing(),
        )  # fmt: skip
    return scan


def block_of(variables: dict, index: int | Array, blocks: int, share: str) -> dict:
    """The variables of block `index` (from 0, may be traced) of a body of `blocks`, from those of all."""
    if share == 'kernels':
        variables = {**variables, 'params': spread(variables['params'], blocks)}
    return {
        kind: tree if kind in SHARED[share] else jax.tree.map(lambda leaf: leaf[index], tree)
        for kind, tree in variables.items()
    }


def spread(params: dict, blocks: int) -> dict:
    """Convolutions that are one for all blocks, repeated along the block axis that all other leaves have."""
    return _map_convolutions(lambda leaf: jnp.broadcast_to(leaf, (blocks, *leaf.shape)), params)


def gather(params: dict) -> dict:
    """The inverse of `spread`."""
    return _map_convolutions(lambda leaf: leaf[0], params)


def _each(change: Callable, kinds: dict) -> dict:
    return {kind: change(tree) for kind, tree in kinds.items()}


def _map_convolutions(change: Callable, params: dict) -> dict:
    return {
        name: jax.tree.map(change, layer) if 'kernel' in layer else layer for name, layer in params.items()
    }  # fmt: skip
