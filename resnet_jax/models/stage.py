"""A stage: its entry block, which may change the shape, and its body, many blocks of one shape as one scan."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from resnet_jax.models.gates import Gates


class Stage(nn.Module):
    """Blocks of one width. Parameters: `entry/…`, and `body/…` stacked along a leading block axis.

    The body compiles as one block whatever its length; there is none where the stage has one block.

    Attributes:
      entry, body: partials of the first block and of each of the others.
      blocks: how many, the entry block counted.
      scan_unroll: blocks a turn of the compiled loop; no layout depends on it.
    """

    entry: Callable
    body: Callable
    blocks: int
    scan_unroll: int

    @nn.compact
    def __call__(
        self, x: Float[Array, 'n h w c'], gates: Gates | None, *, train: bool
    ) -> Float[Array, 'n h2 w2 features']:
        x = self.entry(name='entry')(x, gates and gates.of(0), train=train)
        if self.blocks == 1:
            return x
        scan = nn.scan(
            lambda block, x, gates: (block(x, gates, train=train), None),
            variable_axes={'params': 0, 'batch_stats': 0, 'intermediates': 0},
            split_rngs={'params': True},
            in_axes=0 if gates else nn.broadcast,  # pyright: ignore[reportArgumentType]
            length=self.blocks - 1,
            unroll=self.scan_unroll,
        )
        x, _ = scan(self.body(name='body'), x, gates and gates.of(slice(1, None)))
        return x
