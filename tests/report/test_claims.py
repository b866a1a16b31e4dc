import math

import pytest

from resnet_jax.report.claims import Interval, verdict

INFINITY = math.inf


@pytest.mark.parametrize(
    ('accept', 'interval', 'expected'),
    [
        ((7, 14), (8, 12), 'supported'),
        ((7, 14), (7, 14), 'supported'),  # both are closed: the ends belong to them
        ((7, 14), (14, 14), 'supported'),
        ((7, 14), (15, 20), 'refuted'),
        ((7, 14), (1, 6.999), 'refuted'),
        ((7, 14), (14, 20), 'undecided'),  # they share a point
        ((7, 14), (1, 7), 'undecided'),
        ((7, 14), (6, 8), 'undecided'),
        ((7, 14), (1, 20), 'undecided'),  # the region inside the interval decides nothing
        ((7, 14), (8, 14.001), 'undecided'),
        ((-INFINITY, 1), (-50, 1), 'supported'),
        ((-INFINITY, 1), (1.1, 2), 'refuted'),
        ((5, INFINITY), (6, INFINITY), 'supported'),
        ((5, INFINITY), (-INFINITY, 4), 'refuted'),
        ((5, INFINITY), (-INFINITY, INFINITY), 'undecided'),
        ((-INFINITY, INFINITY), (-INFINITY, INFINITY), 'supported'),
        ((7, 14), (INFINITY, INFINITY), 'refuted'),
    ],
)
def test_verdict_follows_the_one_rule(accept, interval, expected):
    assert verdict(Interval(*accept), Interval(*interval)) == expected


@pytest.mark.parametrize('ends', [(math.nan, 1), (0, math.nan), (math.nan, math.nan), (2, 1), (INFINITY, -INFINITY)])
def test_an_interval_refuses_nan_and_a_wrong_order(ends):
    with pytest.raises(ValueError, match='from low up to high'):
        Interval(*ends)


def test_a_claim_refuses_a_measurement_that_is_nan(make_claim):
    with pytest.raises(ValueError, match='is NaN'):
        make_claim(math.nan, 0, 1)


def test_a_claim_has_one_of_two_forms(make_claim):
    with pytest.raises(ValueError, match="'sign'"):
        make_claim(0.5, 0, 1, form='sign')


def test_a_claim_is_judged_by_its_interval_and_not_by_its_value(make_claim):
    assert make_claim(0.5, 0.4, 0.6).verdict == 'supported'
    assert make_claim(0.5, 0.4, 1.6).verdict == 'undecided'
