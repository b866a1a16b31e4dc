"""From a sweep's definition to its runs: every one is built and checked before any begins."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resnet_jax import config as configuration
from resnet_jax import spec, validity
from resnet_jax.data.resolve import resolve
from resnet_jax.errors import UserError
from resnet_jax.files import check_name
from resnet_jax.sweep.grid import Point, Sweep, Value

FOLDER = configuration.CHECKOUT / 'configs' / 'sweeps'


class Planned(NamedTuple):
    """A run that is to be: its name, where it stands on the axes, and its checked config."""

    name: str
    at: dict[str, Value]
    config: ConfigDict


def names() -> list[str]:
    """The sweeps of the checkout."""
    return sorted(path.stem for path in FOLDER.glob('[!_]*.py'))


def find(text: str) -> Sweep:
    """The sweep of NAME[:ARGUMENT] or FILE[:ARGUMENT]: those of that name stand in configs/sweeps.

    Raises:
      UserError: there is none, or the file defines none.
    """
    name, _, argument = text.partition(':')
    path = Path(name) if name.endswith('.py') else FOLDER / f'{name}.py'
    if not path.is_file():
        raise UserError(f'there is no sweep {name!r}; there are {", ".join(names())}, or give the path of a file')
    sweep = configuration.call(path, 'get_sweep', argument)
    if not isinstance(sweep, Sweep):
        raise UserError(f'{path}: get_sweep() gives a {type(sweep).__name__}; it is to give a resnet_jax.sweep.Sweep')
    return sweep


def plan(sweep: Sweep, overrides: Mapping[str, str]) -> list[Planned]:
    """All runs of a sweep, with these settings (key -> text) changed in its base.

    Raises:
      UserError: the grid is empty; a key is none (with the nearest), or is both overridden and varied; a config cannot
      be (the run is named); two runs have one name or one definition; a name is none.
    """
    if not sweep.grid:
        raise UserError('the grid of this sweep is empty: an axis in it has no values')
    varied = {key for point in sweep.grid for key in point.settings}
    if both := varied & overrides.keys():
        raise UserError(f'config.{min(both)} is varied by this sweep: leave out --config.{min(both)}')
    configuration.check_settings('the base of this sweep', sweep.base)
    base = configuration.overridden(ConfigDict(sweep.base.to_dict()), overrides)
    planned, names, identities = [], {}, {}
    for point in sweep.grid:
        run = Planned(_name(point.at), point.at, _config(base, point))
        _check_first(names, run.name, run, 'have one name')
        for seed in spec.seeds(run.config):
            one = configuration.changed(run.config, {'seed': seed, 'train.seeds': 1})
            _check_first(identities, spec.identity(one), run, 'are one run: they differ in nothing that defines one')
        planned.append(run)
    return planned


def _name(at: Mapping[str, Value]) -> str:
    name = '_'.join(f'{axis}-{value}' for axis, value in at.items())
    check_name('run of this sweep', name)
    return name


def _config(base: ConfigDict, point: Point) -> ConfigDict:
    try:
        config = configuration.changed(base, point.settings)
        with config.unlocked():
            validity.check_values(config)
            resolve(config)
        validity.check(config)
    except UserError as error:
        raise UserError(f'run {_name(point.at)}: {error}') from None
    return config


def _check_first(found: dict[Any, Planned], key: object, run: Planned, what: str) -> None:
    if key in found:
        raise UserError(f'two runs of this sweep {what}: {_at(found[key].at)} and {_at(run.at)}')
    found[key] = run


def _at(at: Mapping[str, Value]) -> str:
    return ', '.join(f'{axis}={value}' for axis, value in at.items())
