"""What a sweep varies: a grid of points, made of named axes. A file of configs/sweeps returns a `Sweep`."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.models import zoo

Value = str | int | float


class Point(NamedTuple):
    """One run of a sweep.

    Attributes:
      at: axis -> its value, as names, tables and figures have it.
      settings: key of the config -> value.
    """

    at: dict[str, Value]
    settings: dict[str, Any]


Grid = tuple[Point, ...]


class Sweep(NamedTuple):
    """What `get_sweep()` returns.

    Attributes:
      base: the config that every point changes.
      grid: see `axis`, `conditions`, `seeds`; `product`, `zipped`, `chain`.
      then: experiments on every finished run, as `train --then` takes them.
    """

    base: ConfigDict
    grid: Grid
    then: str = ''


def axis(key: str, values: Sequence[Any], name: str = '') -> Grid:
    """A setting that takes each of these values. It is called `name`, or by the last word of its key."""
    name = name or key.rpartition('.')[2]
    return tuple(Point({name: _label(value)}, {key: value}) for value in values)


def conditions(name: str, settings: Mapping[str, Mapping[str, Any]] | Mapping[int, Mapping[str, Any]]) -> Grid:
    """An axis whose values are several settings each: {'plain': {'network.shortcut': 'none'}, …}."""
    return tuple(Point({name: label}, dict(made)) for label, made in settings.items())


def networks(*names: str) -> Grid:
    """The axis `network`: named networks, as `describe` lists them, with what they leave open as in the base."""
    return conditions(
        'network', {name: {f'network.{key}': value for key, value in zoo.settings(name).items()} for name in names}
    )


def seeds(count: int, first: int = 0) -> Grid:
    """The axis `seed`, over which intervals are taken."""
    return axis('seed', range(first, first + count))


def product(*grids: Grid) -> Grid:
    """Every point of one with every point of the others; the last varies fastest."""
    return tuple(_merged(points) for points in itertools.product(*grids))


def zipped(*grids: Grid) -> Grid:
    """The first points together, the second ones together, …; all are as long.

    Raises:
      UserError: they are not.
    """
    if len({len(grid) for grid in grids}) > 1:
        raise UserError(f'axes that are zipped have as many points each; these have {[len(grid) for grid in grids]}')
    return tuple(_merged(points) for points in zip(*grids, strict=True))


def chain(*grids: Grid) -> Grid:
    """One behind the other."""
    return tuple(itertools.chain(*grids))


def _merged(points: Sequence[Point]) -> Point:
    at, settings = {}, {}
    for point in points:
        for kind, held, new in (('axis', at, point.at), ('setting', settings, point.settings)):
            if twice := held.keys() & new.keys():
                raise UserError(f'the {kind} {min(twice)} is varied twice in one grid; leave out one of the two')
            held |= new
    return Point(at, settings)


def _label(value: object) -> Value:
    return value if isinstance(value, str | int | float) else 'x'.join(map(str, value)) or 'none'  # pyright: ignore
