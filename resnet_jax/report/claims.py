"""Claims, and the one rule that judges them: the interval of a measurement against a region of acceptance."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Verdict = Literal['supported', 'refuted', 'undecided']
Form = Literal['number', 'shape']


@dataclass(frozen=True)
class Interval:
    """A closed interval; an end of ±inf leaves that side open.

    Raises:
      ValueError: an end is NaN, or the low end is above the high one.
    """

    low: float
    high: float

    def __post_init__(self):
        if not self.low <= self.high:  # false for NaN too
            raise ValueError(f'an interval goes from low up to high, without NaN; got [{self.low}, {self.high}]')


ABOVE_ZERO = Interval(math.nextafter(0, 1), math.inf)
BELOW_ZERO = Interval(-math.inf, math.nextafter(0, -1))


def verdict(accept: Interval, interval: Interval) -> Verdict:
    """Inside the region of acceptance: supported. Disjoint from it: refuted. Else undecided. Both are closed."""
    if accept.low <= interval.low and interval.high <= accept.high:
        return 'supported'
    if interval.high < accept.low or accept.high < interval.low:
        return 'refuted'
    return 'undecided'


@dataclass(frozen=True)
class Claim:
    """What a paper says, held against what was measured.

    Raises:
      ValueError: the measured value is NaN, or the form is none of the two.
    """

    statement: str  # one sentence that is true or false
    source: str  # paper and section
    quantity: str  # what was measured, with its unit
    expected: str  # the paper's value, in words
    accept: Interval  # where the measurement must lie, in the quantity's unit
    form: Form  # number: the paper's value, on the paper's data; shape: its sign, order or slope, on any data
    measured: float
    interval: Interval  # of the measurement
    n: str  # what it rests on: '359 test images, 51 blocks'
    data: str  # the dataset it was tested on
    figure: str = ''  # the finding's figure that shows it; empty: no single one does

    def __post_init__(self):
        if math.isnan(self.measured):
            raise ValueError(f'a claim rests on a measured value; {self.quantity} is NaN')
        if self.form not in get_args(Form):
            raise ValueError(f'the form of a claim is one of {", ".join(get_args(Form))}; got {self.form!r}')

    @property
    def verdict(self) -> Verdict:
        return verdict(self.accept, self.interval)
