"""What networks are made of: layers as data. `layers.py` computes them, `counts.py` counts them. Imports no JAX.

A branch of a block, a stem, a head: each is a sequence of parts. A new block is a function that returns such
sequences; its computation, its parameters, its cost and its rows in `describe` follow from them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """A convolution padded by (kernel - 1) / 2. `bias`: what it starts at; None: there is none. `init`: factor of
    He's deviation; 0 starts at zero."""

    name: str
    features: int
    kernel: int | tuple[int, int]
    strides: int = 1
    groups: int = 1
    bias: float | None = None
    init: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.kernel if isinstance(self.kernel, tuple) else (self.kernel, self.kernel)


@dataclass(frozen=True)
class Dense:
    """A dense layer over the channels, at every pixel alike."""

    name: str
    features: int
    zero: bool = False  # starts at zero


@dataclass(frozen=True)
class Norm:
    """The network's normalisation. `scale`: what γ starts at."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True)
class Act:
    """ReLU."""


@dataclass(frozen=True)
class Pool:
    """Max pool of size x size fields, every `strides` pixels, padded by (size - 1) // 2 on every side."""

    size: int
    strides: int


@dataclass(frozen=True)
class Subsample:
    """Every `strides`-th pixel (stride), or the mean of each field of strides x strides (average)."""

    strides: int
    how: str


@dataclass(frozen=True)
class Pad:
    """Zero channels up to `features`: on both sides (split) or behind."""

    features: int
    where: str


@dataclass(frozen=True)
class GlobalPool:
    """One vector an image: average, max, both (side by side), or flatten (all pixels)."""

    kind: str


@dataclass(frozen=True)
class Dropout:
    """Zeroes each value with this probability in training, and divides the others by what is left.

    `draw`: a number that no other draw of its block has.
    """

    rate: float
    draw: int


@dataclass(frozen=True)
class SqueezeExcite:
    """Every channel times σ(W₂ relu(W₁ mean)) (Hu et al. 2018, arXiv 1709.01507, eq. 2 to 4)."""

    name: str
    reduced: int


@dataclass(frozen=True)
class Scalar:
    """One learned number: times it (gain) or plus it (bias)."""

    name: str
    role: str
    init: float


@dataclass(frozen=True)
class Times:
    """A constant gain of the architecture."""

    factor: float


@dataclass(frozen=True)
class Survival:
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): in training the whole branch is kept with probability
    p = 1 - l/L (1 - last) in block l of L, in evaluation it is multiplied by p."""

    last: float
    blocks: int
    draw: int = 0


@dataclass(frozen=True)
class Whiten:
    """Divided by the deviation that the signal has in block j of a stage if every branch adds variance alpha²:
    sqrt(1 + j alpha²); an entry block, which starts the variance anew, finds that of `before` blocks
    (Brock et al. 2021, arXiv 2101.08692, section 3)."""

    alpha: float
    before: int


@dataclass(frozen=True)
class Concat:
    """Sequences beside each other, their results side by side on the channels."""

    branches: tuple['Parts', ...]


@dataclass(frozen=True)
class HalfResolution:
    """`inner` on the 2x2 means; each pixel of its result is repeated 2x2, up to the branch's own size."""

    inner: 'Parts'
    strides: int


@dataclass(frozen=True)
class LinearProjection:
    """x₁ = first(x), x₂ = second(x₁), z = dense(x₂): gives z ⊙ x₁ ⊙ x₂ (product) or [z, x₁] (concatenate).

    With the dense layer between, z = dense(x₁) and x₂ = second(z): z ⊙ x₁ ⊙ x₂, or [x₂, x₁].
    """

    first: 'Parts'
    second: 'Parts'
    dense: Dense
    between: bool
    join: str


Part = (
    Conv | Dense | Norm | Act | Pool | Subsample | Pad | GlobalPool | Dropout | SqueezeExcite | Scalar | Times
    | Survival | Whiten | Concat | HalfResolution | LinearProjection
)  # fmt: skip
Parts = tuple[Part, ...]

ACT = Act()
