"""Where the runs of a sweep stand in its figures, and how those look."""

import numpy as np
import pytest

from resnet_jax.report import figures, sweep_figures
from resnet_jax.report.sweep_axes import gather, lay_out
from resnet_jax.report.sweep_quantities import ERRORS
from resnet_jax.report.sweep_runs import Row
from resnet_jax.sweep import conditions, product, zipped


def row(at, value=None, **fields):
    numbers = {} if value is None else {'test_error': value, 'diverged': False}
    made = Row(run='r', at=at, seed=0, state='done', lines=(), numbers=numbers, claims={}, derived={})
    return made._replace(**fields)


def nothing(name, values):
    """An axis that changes no setting."""
    return conditions(name, {value: {} for value in values})


def rows_of(grid):
    return [row(point.at) for point in grid]


def panel(rows):
    axes = lay_out(rows)
    return sweep_figures.lines(ERRORS[0], axes, gather(rows, axes, 'test_error')).axes[0]


def test_a_mark_stands_above_the_place_of_what_is_lost():
    rows = [row({'depth': depth, 'net': net}, value) for depth in (14, 20) for net in 'ab' for value in (1.0, 2.0)]
    rows[0] = rows[0]._replace(numbers={'test_error': None, 'diverged': True})
    rows[7] = rows[7]._replace(numbers={}, state='failed')
    marks = {(mark.get_position()[0], mark.get_text()): mark.get_color() for mark in panel(rows).texts}
    assert marks == {(0.0, '×'): figures.SERIES[0].color, (1.0, '!'): figures.SERIES[1].color}
    rows[2] = rows[2]._replace(numbers={'test_error': None, 'diverged': False})  # not finite, of another series
    marks = {(mark.get_position()[0], mark.get_text()): mark.get_color() for mark in panel(rows).texts}
    assert marks[0.0, '2×'] == figures.INK


@pytest.mark.parametrize(
    ('axes', 'x', 'others'),
    [
        ({'network': 'ab', 'depth': (14, 20, 32)}, 'depth', ['network']),
        ({'batch': (32, 64), 'rate': (0.1, 0.2, 0.4)}, 'rate', ['batch']),
        ({'batch': (32, 64), 'rate': (0.1, 0.2)}, 'batch', ['rate']),  # as many: the first
        ({'depth': (14,), 'network': 'abc'}, 'network', []),  # one value varies nothing
        ({'network': 'ab', 'norm': 'xyz'}, 'network', ['norm']),  # no numbers: the first
        ({'size': (1, 'large', 3), 'network': 'ab'}, 'size', ['network']),
        ({'flip': (True, False), 'rate': (0.1, 0.2)}, 'rate', ['flip']),
        ({}, '', []),
    ],
)
def test_the_numeric_axis_of_most_values_goes_to_the_right(axes, x, others):
    laid = lay_out(rows_of(product(*(nothing(name, values) for name, values in axes.items()))))
    assert (laid.x, laid.others) == (x, others)
    numeric = x in ('depth', 'batch', 'rate')
    assert (laid.numeric, laid.places) == (numeric, list(axes[x]) if x else ['all runs'])


def test_an_axis_that_varies_with_x_alone_makes_no_series():
    grid = zipped(nothing('depth', (14, 20)), nothing('width', (8, 16)))
    laid = lay_out(rows_of(product(grid, nothing('network', 'ab'))))
    assert (laid.x, laid.others, laid.series) == ('depth', ['network'], [('a',), ('b',)])


@pytest.mark.parametrize(
    ('places', 'shares'),
    [((0.01, 0.1, 1.0), (0, 0.5, 1)), ((1, 2, 20), (0, 1 / 19, 1)), ((1, 2, 20.1), (0, 0.2310, 1)),
     ((-1, 0, 99), (0, 0.01, 1)), ('abc', (1 / 6, 1 / 2, 5 / 6))],
)  # fmt: skip
def test_numbers_that_span_more_than_a_factor_of_20_stand_by_their_logarithm(places, shares):
    axes = lay_out(rows_of(nothing('x', places)))
    np.testing.assert_allclose([axes.share(place) for place in places], shares, atol=1e-4)


def test_series_beyond_five_differ_without_their_colour():
    looks = [sweep_figures._look(number) for number in range(25)]
    assert (
        len({(look.color, look.marker) for look in looks})
        == len({(look.color, look.linestyle) for look in looks})
        == 25
    )
