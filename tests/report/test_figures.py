import csv
import struct
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.report import figures


def points(line):
    return np.array(line.get_data()).shape[1]


def test_a_figure_becomes_an_svg_and_a_png(tmp_path, records):
    path = figures.save(figures.training_curves(records), tmp_path / 'figures', 'curves')
    assert path == tmp_path / 'figures/curves.svg'
    assert ElementTree.parse(path).getroot().tag == '{http://www.w3.org/2000/svg}svg'
    png = path.with_suffix('.png').read_bytes()
    assert png[:8] == b'\x89PNG\r\n\x1a\n'
    assert struct.unpack('>I', png[16:20])[0] == round(150 * figures.COLUMN)


def test_the_same_figure_is_the_same_bytes(tmp_path, records):
    for name in ('a', 'b'):
        figures.save(figures.training_curves(records), tmp_path, name)
    figures.save(figures.training_curves(records[1:]), tmp_path, 'other')
    for kind in ('svg', 'png'):
        first, second, other = ((tmp_path / f'{name}.{kind}').read_bytes() for name in ('a', 'b', 'other'))
        assert first == second
        assert first != other


def test_curves_show_the_records(records):
    error, loss, rate = figures.training_curves(records).axes
    train, test = error.lines
    np.testing.assert_allclose(np.array(test.get_data()), [(165, 330), (400 / 360, 400 / 360)])
    assert points(train) == points(loss.lines[0]) == points(rate.lines[0]) == 10
    assert error.get_ylabel() == 'error (%)'
    assert {text.get_text() for text in error.texts} == {'train', 'test'}


@pytest.mark.parametrize('kept', [('train',), ('test',), ()])
def test_curves_of_a_run_that_has_just_begun(tmp_path, records, kept):
    records = [record for record in records if record['kind'] in kept]
    figures.save(figures.training_curves(records), tmp_path, 'curves')


def test_a_loss_that_was_not_finite_is_left_out(tmp_path, records):
    records[-1]['loss'] = records[3]['loss'] = None
    drawn = figures.training_curves(records)
    assert [points(line) for line in drawn.axes[1].lines] == [9, 1]
    figures.save(drawn, tmp_path, 'curves')


def test_style_leaves_matplotlib_as_it_was(tmp_path, records):
    before = dict(matplotlib.rcParams)
    figures.save(figures.training_curves(records), tmp_path, 'curves')
    assert dict(matplotlib.rcParams) == before


def test_series_differ_without_their_colour():
    for key in ('marker', 'linestyle', 'hatch'):
        assert len({getattr(series, key) for series in figures.SERIES}) == len(figures.SERIES)


def test_labels_at_the_edge_do_not_touch():
    drawn, axes = figures.figure(1, 1)
    axes[0, 0].set_ylim(0, 100)
    drawn.draw_without_rendering()
    figures.label_lines(axes[0, 0], [(100, 'a', 'k'), (99.9, 'b', 'k'), (99.8, 'c', 'k'), (2, 'd', 'k')])
    drawn.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axes[0, 0].texts}
    assert boxes['a'].y0 >= boxes['b'].y1 > boxes['b'].y0 >= boxes['c'].y1
    near = axes[0, 0].transData.transform((0, 2))[1]
    assert boxes['d'].y0 < near < boxes['d'].y1


def test_numbers_come_back_exactly(tmp_path):
    values = [1 / 3, -1e-300]
    path = figures.save_numbers(tmp_path, 'curves', {'step': np.array([1, 2]), 'error (%), "test"': values})
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == ['step', 'error (%), "test"']
    assert [(int(step), float(value)) for step, value in rows] == list(zip((1, 2), values, strict=True))


def test_columns_of_numbers_are_equally_long(tmp_path):
    with pytest.raises(ValueError, match='shorter'):
        figures.save_numbers(tmp_path, 'curves', {'a': [1, 2], 'b': [1]})
    assert not list(tmp_path.iterdir())


def test_a_figure_stays_in_its_directory(tmp_path):
    with pytest.raises(UserError, match='a name has'):
        figures.save(figures.figure(1, 1)[0], tmp_path, '../x')


@pytest.mark.parametrize('channels', [1, 3])
def test_saliency_stands_beside_its_image_and_one_outlier_does_not_darken_it(channels):
    image = np.random.default_rng(0).random((20, 20, channels))
    salient = np.linspace(0, 1, 400).reshape(20, 20)
    salient[0, 0] = 1e6
    left, right = figures.saliency(image, salient, 'tench, 97.3 %').axes
    assert left.get_title(loc='left') == 'tench, 97.3 %'
    np.testing.assert_array_equal(left.images[0].get_array(), image if channels == 3 else image[..., 0])
    assert right.images[0].get_clim()[1] <= 1
    nothing = figures.saliency(image, 0 * salient, 'tench')
    assert nothing.axes[1].images[0].get_clim()[1] > 0
