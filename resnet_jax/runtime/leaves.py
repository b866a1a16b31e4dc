"""A state as a checkpoint has it, leaf by leaf: nothing is cast, left out or taken for another."""

from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from resnet_jax.errors import UserError


def flat(state: object) -> dict[str, Any]:
    """`{path of a leaf: leaf}`."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}


def check(checkpoint: epath.Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuses a checkpoint whose leaves are not those that are expected, in names, shapes and dtypes.

    Raises:
      UserError: with the first that differs.
    """
    for name in sorted(expected.keys() | found.keys()):
        is_there, wanted = _describe(found.get(name)), _describe(expected.get(name))
        if is_there != wanted:
            raise UserError(
                f'the checkpoint of step {checkpoint.name} in {checkpoint.parent} is of another network: '
                f'{name} is {is_there} there, {wanted} here; give the config it was trained with'
            )


def _describe(leaf: Any) -> str:
    return 'absent' if leaf is None else f'{leaf.dtype}{list(leaf.shape)}'
