"""What every kind of stored dataset is to the rest: encoded images with labels, at random places."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Example = tuple[bytes, int]  # an encoded image, and its label


class Unreadable(ValueError):
    """An example that cannot be had: its bytes are missing, have changed, or are no image. One line says why."""


class Source(ABC):
    """A split as it is stored. Small to pickle: worker processes get a copy.

    Attributes:
      labels: of all examples, int32 (n,).
      shape: (h, w, c) where all images have the same; None where they are of any size.
    """

    labels: np.ndarray
    shape: tuple[int, int, int] | None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, indices: Sequence[int] | np.ndarray) -> list[Example | Unreadable]:
        """The examples at these places; where one cannot be had, why."""

    @abstractmethod
    def place(self, index: int) -> str:
        """Where it is, for messages: a file, or a file and a record."""


@dataclass(frozen=True, eq=False)
class Part(Source):
    """Some examples of a source, in an order of their own."""

    whole: Source
    chosen: np.ndarray  # int (n,)

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, indices: Sequence[int] | np.ndarray) -> list[Example | Unreadable]:
        return self.whole.read([int(self.chosen[index]) for index in indices])

    def place(self, index: int) -> str:
        return self.whole.place(int(self.chosen[index]))

    @property
    def labels(self) -> np.ndarray:
        return self.whole.labels[self.chosen]

    @property
    def shape(self) -> tuple[int, int, int] | None:
        return self.whole.shape


def chunks(count: int, size: int) -> Iterator[range]:
    """0 to `count` in parts of `size`, the last one perhaps smaller."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
