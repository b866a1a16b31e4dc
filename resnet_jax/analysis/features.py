"""Features: what the parts of a network give, by name, for whoever asks; else nothing is computed or kept for them.

stem; stage1, stage2, …; block:N, the output of block N, numbered from 1 over the network; pool, the vector of an
image that the dense layers take; logits.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import jax
from jaxtyping import Array, Float

from resnet_jax.errors import UserError
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet


def check_names(arch: Architecture, names: Iterable[str]) -> None:
    """Refuses a name of no feature.

    Raises:
      UserError: with the names there are.
    """
    for name in names:
        if name not in _places(arch):
            stages = ', '.join(f'stage{number + 1}' for number in range(len(arch.widths)))
            raise UserError(
                f'there is no feature {name!r}; there are stem, {stages}, block:1 to block:{arch.blocks}, pool, logits'
            )


@partial(jax.jit, static_argnames=('network', 'names'))
def features(
    network: ResNet,
    variables: dict,
    images: Float[Array, 'n h w c'],
    gates: Gates | None = None,
    *,
    names: tuple[str, ...],
) -> dict[str, Float[Array, 'n *_']]:
    """Each feature of these names, in evaluation: (n, h, w, features), or (n, features) of pool and logits."""
    places = {name: _places(network.arch)[name] for name in names}
    paths = {path for path, _ in places.values()}
    _, kept = network.apply(
        variables, images, gates, train=False, mutable=['intermediates'],
        capture_intermediates=lambda module, method: method == '__call__' and module.path in paths,
    )  # fmt: skip
    return {name: _pick(kept['intermediates'], *place) for name, place in places.items()}


def _places(arch: Architecture) -> dict[str, tuple[tuple[str, ...], int | None]]:
    """Feature -> the path of the module that gives it, and which of a body's blocks it is."""
    places: dict = {'stem': (('stem',), None), 'pool': (('head', 'pool'), None), 'logits': ((), None)}
    for number, first in enumerate(arch.entry_blocks):
        stage = f'stage{number + 1}'
        places[stage] = ((stage,), None)
        places[f'block:{first + 1}'] = ((stage, 'entry'), None)
        for index in range(arch.stage_blocks[number] - 1):
            places[f'block:{first + 2 + index}'] = ((stage, 'body'), index)
    return places


def _pick(kept: Mapping, path: tuple[str, ...], index: int | None) -> Array:
    for name in path:
        kept = kept[name]
    (output,) = kept['__call__']
    return output if index is None else output[index]  # of a body they come stacked
