"""Notes of a walk through a network: which values the backward pass needs, and what both passes move. No JAX."""

from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.counts import Signal
from resnet_jax.models.parts import Part

MASK = 1  # bytes of a truth value


class Value(NamedTuple):
    """What passes between two parts: its size, and a number that no other value of the network has."""

    signal: Signal
    number: int

    @property
    def size(self) -> int:
        """Numbers of one example."""
        return self.signal.height * self.signal.width * self.signal.channels


@dataclass
class Unit:
    """A stem, a block or a head.

    Attributes:
      part: stem, stage1, …, head.
      given: what it is given.
      kept: bytes an example of each value that its backward pass needs, by the value's number.
      forward, backward: bytes an example that each pass moves.
    """

    part: str
    given: Value
    kept: dict[int, int] = field(default_factory=dict)
    forward: int = 0
    backward: int = 0


class Tape:
    """Goes through parts as the signal does. `itemsize`: bytes of a number that is computed with."""

    def __init__(self, arch: Architecture, itemsize: int):
        self.arch, self.itemsize, self.units, self.numbers = arch, itemsize, [], count()

    def value(self, signal: Signal) -> Value:
        return Value(signal, next(self.numbers))

    def behind(self, part: Part, value: Value) -> Value:
        """What a part gives: a new value of the size that `counts` knows."""
        return self.value(counts.Walk(self.arch, value.signal).through((part,), '', value.signal))

    def enter(self, part: str, given: Value) -> None:
        self.units.append(Unit(part, given))

    def keep(self, *values: Value) -> None:
        self.units[-1].kept |= {value.number: value.size * self.itemsize for value in values}

    def keep_mask(self, value: Value) -> None:
        """Of each number whether it passed: written once, and read in both of BN's passes backward."""
        unit, size = self.units[-1], value.size * MASK
        unit.kept[next(self.numbers)] = size
        unit.forward += size
        unit.backward += 2 * size

    def move(self, forward: int, backward: int) -> None:
        """Numbers of an example that each pass reads and writes."""
        self.units[-1].forward += forward * self.itemsize
        self.units[-1].backward += backward * self.itemsize
