import pytest

from resnet_jax.errors import UserError
from resnet_jax.sweep import axis, chain, conditions, product, seeds, zipped

RATES = axis('train.schedule.learning_rate', [0.1, 0.2])
BATCHES = axis('train.batch_size', [64, 128])


def at(grid):
    return [tuple(point.at.values()) for point in grid]


def test_an_axis_is_called_by_the_last_word_of_its_key_or_as_it_is_told():
    assert [point.at for point in RATES] == [{'learning_rate': 0.1}, {'learning_rate': 0.2}]
    assert axis('train.batch_size', [8], name='batch')[0].at == {'batch': 8}
    assert axis('train.batch_size', [8])[0].settings == {'train.batch_size': 8}


def test_values_that_are_lists_are_named_in_one_word():
    assert at(axis('network.widths', [(16, 32), ()])) == [('16x32',), ('none',)]


def test_a_product_has_every_combination_and_the_last_axis_varies_fastest():
    assert at(product(RATES, BATCHES)) == [(0.1, 64), (0.1, 128), (0.2, 64), (0.2, 128)]
    assert product(RATES, BATCHES)[1].settings == {'train.schedule.learning_rate': 0.1, 'train.batch_size': 128}
    assert at(product(RATES, ())) == []


def test_zipped_axes_go_together_and_are_as_long():
    assert at(zipped(RATES, BATCHES)) == [(0.1, 64), (0.2, 128)]
    with pytest.raises(UserError, match=r'as many points each; these have \[2, 3\]'):
        zipped(RATES, seeds(3))


def test_a_chain_has_the_points_of_one_behind_those_of_the_other():
    assert at(chain(RATES, seeds(1))) == [(0.1,), (0.2,), (0,)]


def test_conditions_make_several_settings_under_one_name():
    plain = {'network.shortcut': 'none', 'network.placement': 'original'}
    (point,) = conditions('network', {'plain': plain})
    assert point == ({'network': 'plain'}, plain)


def test_what_is_varied_twice_is_refused():
    with pytest.raises(UserError, match='the axis learning_rate is varied twice'):
        product(RATES, RATES)
    with pytest.raises(UserError, match=r'the setting train\.batch_size is varied twice'):
        product(BATCHES, axis('train.batch_size', [8], name='batch'))
