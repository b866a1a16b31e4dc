"""What is found in a dataset, as a terminal shows it."""

import io

from rich.console import Console

from resnet_jax.data.survey import survey
from resnet_jax.data.survey_tables import tables
from resnet_jax.progress import silent
from tests.data.folders import Given, encode, noise, png


def shown(survey, width=200):
    file = io.StringIO()
    for table in tables(survey):
        Console(file=file, width=width).print(table)
    return file.getvalue()


def rows(text):
    return [' '.join(line.split()) for line in text.splitlines()]


def of_counts(train, test):
    one = png(8, 8)
    sources = {
        split: Given([(one, label) for label, count in enumerate(counts) for _ in range(count)])
        for split, counts in (('train', train), ('test', test))
    }
    return survey(sources, [f'c{label}' for label in range(len(train))], 8, silent)


def test_the_tables_show_every_split():
    sources = {
        'train': Given([(png(10, 8), 0), (png(20, 8), 0), (encode(noise(30, 12).convert('CMYK'), 'JPEG'), 1)]),
        'test': Given([(b'', 0)]),
    }
    text = rows(shown(survey(sources, ['cat', '[red]dog'], 8, silent)))
    size = sum(len(encoded) for encoded, _ in sources['train'].examples) / 1e6
    for row in (
        'train test', 'images 3 0', 'unreadable 0 1', f'MB {size:.1f} 0.0', 'width: least, median, most 10, 20, 30',
        'height: least, median, most 8, 8, 12', 'formats 2 PNG, 1 JPEG', 'colour modes 2 RGB, 1 CMYK', 'unusual 1 CMYK',
        'largest class / smallest 2 / 1 = 2.0 0 / 0', 'class train test', 'cat 2 0', '[red]dog 1 0', 'unreadable why',
    ):  # fmt: skip
        assert row in text
    assert any(row.startswith('place 0 neither a JPEG') for row in text)
    assert len([row for row in text if row.startswith(('mean of red, green, blue 0.', 'deviation 0.'))]) == 2


def test_of_up_to_twenty_classes_all_are_shown_by_size():
    text = rows(shown(of_counts([3, 5, 4, 5], [1, 2, 3, 4])))
    at = text.index('class train test')
    assert text[at + 1 : at + 5] == ['c1 5 2', 'c3 5 4', 'c2 4 3', 'c0 3 1'] and len(text) == at + 5
    twenty = rows(shown(of_counts(list(range(1, 21)), [1] * 20)))
    assert [row for row in twenty if row.startswith('c')][-20:] == [f'c{n} {n + 1} 1' for n in reversed(range(20))]
    assert not [row for row in twenty if 'between' in row]


def test_of_more_the_ten_largest_and_the_ten_smallest_are():
    text = rows(shown(of_counts(list(range(1, 26)), [1] * 25)))
    at = text.index('class train test')
    assert text[at + 1 : at + 11] == [f'c{n} {n + 1} 1' for n in range(24, 14, -1)]
    assert text[at + 11] == '… 5 classes between'
    assert text[at + 12 :] == [f'c{n} {n + 1} 1' for n in range(9, -1, -1)]
    assert 'largest class / smallest 25 / 1 = 25.0 1 / 1 = 1.0' in text


def test_the_first_twenty_unreadable_images_are_named_and_the_rest_are_counted():
    def lines(count):
        text = rows(shown(survey({'train': Given([(b'', 0)] * count)}, ['a'], 8, silent)))
        return text[text.index('unreadable why') + 1 :]

    assert len(lines(20)) == 20 and lines(20)[-1].startswith('place 19 ')
    assert len(lines(1021)) == 21 and lines(1021)[-1] == '... and 1,001 more'
    assert 'unreadable why' not in rows(shown(of_counts([1, 1], [1, 1])))
