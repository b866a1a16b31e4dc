"""The benchmark of a GPU, on whatever is here: it measures, and shows what was not measured."""

import pytest

from benchmarks import gpu


@pytest.mark.parametrize('candidate', ['ours', 'whole networks'])
def test_a_toy_row_gives_a_rate_and_the_time_to_the_first(candidate):
    row = next(row for row in gpu.TOY if row.kind == 'lesions')
    found = gpu.measure(row, candidate, toy=True)
    assert found['rate'] > 0 and found['first'] > 0


def test_every_row_is_measured_once_before_any_a_second_time():
    turns = list(gpu._turns(gpu.ROWS))
    first = sum(len(row.candidates) for row in gpu.ROWS)
    assert len(set(turns[:first])) == first and turns[first:] == 2 * turns[:first]


def test_ratios_are_of_medians_and_what_went_wrong_is_said():
    results = {
        'steps': {
            'ours': [{'rate': 30.0, 'first': 2.0}, {'rate': 10.0, 'first': 1.0}, {'rate': 20.0, 'first': 9.0}],
            'peer': [{'rate': 8.0, 'first': 1.0}, {'error': 'out of memory'}],
            'other': [{'error': 'not installed'}],
            'last': [],
        }
    }
    assert gpu.shown(results) == [
        ('steps', 'ours', '20.0', '1.00x', '2.0 s', 3),
        ('steps', 'peer', '8.0', '2.50x', '1.0 s', 1),
        ('steps', 'other', '-', '-', '-', 'not installed'),
        ('steps', 'last', '-', '-', '-', 'not measured'),
    ]
