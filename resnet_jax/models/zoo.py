"""Named networks: a name of the literature -> the settings of `config.network` that it means. Imports no JAX."""

import difflib
import re

from resnet_jax.errors import UserError

# The family's name -> what it sets. He et al. 2015 (arXiv 1512.03385) section 4.2; He et al. 2016 (1603.05027).
FAMILIES = {
    'resnet': {'block': 'basic', 'shortcut': 'A'},
    'plain': {'block': 'basic', 'shortcut': 'none'},
    'preact_resnet': {'block': 'preact', 'shortcut': 'A'},
}
DEPTHS = (20, 32, 44, 56, 110, 1202)
NAMES = tuple(f'{family}{depth}' for family in FAMILIES for depth in DEPTHS)


def settings(name: str) -> dict:
    """The network settings that `name` stands for: family and any depth 6n+2, for example `preact_resnet110`.

    Raises:
      UserError: for a name of no family; the depth itself is checked with the rest of the config.
    """
    match = re.fullmatch(r'([a-z_]+?)(\d+)', name)
    if not match or match[1] not in FAMILIES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f'; did you mean {near[0]}?' if near else ''
        raise UserError(
            f'no network is called {name!r}{hint} (families: {", ".join(FAMILIES)}, each with a depth 6n+2)'
        )
    return {**FAMILIES[match[1]], 'depth': int(match[2])}
