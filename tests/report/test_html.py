import base64
import dataclasses
import json
import math
import re
from html.parser import HTMLParser

import pytest

from resnet_jax.errors import UserError
from resnet_jax.report import figures, findings, html
from resnet_jax.report.claims import Interval
from resnet_jax.report.text import number, plain, span

HOSTILE = '</script></style></title><img src=x onerror=alert(1)>"\'{{ name }}&<!--'


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    VOID = ('meta', 'img', 'rect', 'line', 'circle')

    def __init__(self, path):
        super().__init__()
        self.elements, self.text, self.open = [], '', []
        self.feed(path.read_text(encoding='utf-8'))
        self.close()
        self.text = re.sub(r'\s+', ' ', self.text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
        if tag in ('td', 'th'):
            self.text += ' '

    def handle_data(self, data):
        if self.open and self.open[-1] != 'style':
            self.text = f'{self.text}{data}'

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def assert_self_contained(page):
    assert page.open == []  # every element is closed, in order
    assert not page.all('script') and not page.all('link') and not page.all('iframe') and not page.all('object')
    anchors = {attributes['id'] for _, attributes in page.elements if 'id' in attributes}
    for tag, attributes in page.elements:
        assert not any(name.startswith('on') for name in attributes), tag
        if 'src' in attributes:
            assert attributes['src'].startswith('data:image/svg+xml;base64,')
        if not (href := attributes.get('href', '')).startswith('data:text/csv;base64,'):
            assert 'href' not in attributes or (href[0] == '#' and href[1:] in anchors)
        assert 'url(' not in attributes.get('style', '')


def edit_settings(run_dir, change):
    path = run_dir / 'config.json'
    settings = json.loads(path.read_text())
    change(settings)
    path.write_text(json.dumps(settings))


def test_the_report_tells_the_run_and_its_verdicts(measured_run):
    path = html.write(measured_run)
    assert path == measured_run / 'report.html'
    page = Page(path)
    assert_self_contained(page)
    for words in ('preact_resnet110 (54 basic blocks, full preactivation, shortcut A) on digits',
                  '1.11 % test error (356 of 360 images right)', '1,727,674 parameters', '✓ 1 supported',
                  '✗ 1 refuted', '? 1 undecided', '0.2 (0.1 to 0.3333)',
                  'at most 1', 'at least 0.5', 'as a shape, on digits', 'entry blocks 1, 19, 37',
                  'train.batch_size 128', 'devices cpu:0'):  # fmt: skip
        assert words in page.text, words
    assert 'Not finished' not in page.text
    links = [link for link in page.all('a') if link.get('class', '').startswith('badge')]
    assert [link['href'] for link in links] == ['#figure-single_deletion', '#finding-lesion', '#finding-lesion']


def test_figures_and_their_numbers_are_inside_the_page(measured_run):
    page = Page(html.write(measured_run))
    curves, deletion = (base64.b64decode(image['src'].split(',')[1]) for image in page.all('img'))
    assert curves == (measured_run / 'figures/training_curves.svg').read_bytes()
    assert deletion == (measured_run / 'figures/single_deletion.svg').read_bytes()
    numbers = [link['href'] for link in page.all('a') if link.get('download') == 'single_deletion.csv']
    assert base64.b64decode(numbers[0].split(',')[1]) == b'block,error (%)\n1,1.1\n2,82.2\n'


def test_a_browser_is_told_to_load_and_run_nothing(measured_run):
    policies = [meta['content'] for meta in Page(html.write(measured_run)).all('meta') if 'http-equiv' in meta]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")


def test_the_same_run_has_the_same_report(measured_run):
    assert html.write(measured_run).read_bytes() == html.write(measured_run).read_bytes()


def test_a_run_without_findings_says_so(run_dir):
    page = Page(html.write(run_dir))
    assert_self_contained(page)
    assert 'No experiment has been done yet' in page.text
    assert len(page.all('img')) == 1


def test_an_unfinished_run_says_so(run_dir):
    lines = (run_dir / 'metrics.jsonl').read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)['step'] <= 165]
    (run_dir / 'metrics.jsonl').write_text(''.join(kept) + '{"kind": "train", "st')  # a line cut short
    page = Page(html.write(run_dir))
    assert 'Not finished: 165 of 330 steps are recorded' in page.text
    assert '1.11 % test error (356 of 360 images right) at step 165, 1,727,674' in page.text


def test_a_run_that_has_recorded_nothing_says_so(run_dir):
    (run_dir / 'metrics.jsonl').unlink()
    (run_dir / 'environment.json').unlink()
    page = Page(html.write(run_dir))
    assert_self_contained(page)
    for words in ('not yet evaluated', 'No step has been recorded yet', '0 of 330 steps', 'Not recorded.'):
        assert words in page.text, words


def test_of_a_step_done_twice_the_last_record_counts(run_dir):
    with (run_dir / 'metrics.jsonl').open('a') as file:
        file.write('{"kind": "test", "step": 330, "loss": 0.1, "error": 2.5, "correct": 351, "examples": 360}\n')
    assert '2.50 % test error (351 of 360' in Page(html.write(run_dir)).text


def test_a_missing_figure_is_said(measured_run):
    (measured_run / 'figures/single_deletion.svg').unlink()
    page = Page(html.write(measured_run))
    assert_self_contained(page)
    assert 'The file figures/single_deletion.svg is missing' in page.text


def test_a_finding_of_another_run_is_said(measured_run, finding):
    assert 'not on this one' not in Page(html.write(measured_run)).text
    findings.save(dataclasses.replace(finding, runs=(finding.runs[0]._replace(identity='another'),)), measured_run)
    assert 'measured on run another, not on this one' in Page(html.write(measured_run)).text


def test_a_finding_of_an_earlier_step_is_said(measured_run, finding):
    assert 'before the last one' not in Page(html.write(measured_run)).text
    findings.save(dataclasses.replace(finding, runs=(finding.runs[0]._replace(step=165),)), measured_run)
    assert 'cpu tier, 1 run, at step 165 before the last one recorded' in Page(html.write(measured_run)).text


def test_hostile_text_stays_text(measured_run, finding, make_claim):
    ordinary = Page(html.write(measured_run))

    drawn, axes = figures.figure(1, 1)
    axes[0, 0].set_title(HOSTILE)
    figures.save(drawn, measured_run / 'figures', 'single_deletion')
    texts = dict.fromkeys(('statement', 'source', 'quantity', 'expected', 'n', 'data'), HOSTILE)
    claims = [dataclasses.replace(claim, **texts) for claim in finding.claims]
    hostile = dataclasses.replace(
        finding, title=HOSTILE, question=HOSTILE, runs=(finding.runs[0]._replace(identity=HOSTILE),), tier=HOSTILE,
        data=HOSTILE, claims=tuple(claims), notes=(HOSTILE,),
        summary={HOSTILE: HOSTILE} | dict.fromkeys('abcd', HOSTILE), figures={'single_deletion': HOSTILE})  # fmt: skip
    findings.save(hostile, measured_run)

    def poison(settings):
        settings['identity'] = settings['config']['data']['data_dir'] = HOSTILE
        settings['config']['network']['shortcut'] = settings['config']['seed'] = HOSTILE

    edit_settings(measured_run, poison)
    (measured_run / 'environment.json').write_text(json.dumps({'schema': 4, 'jax': HOSTILE, 'devices': [HOSTILE]}))
    run_dir = measured_run.rename(measured_run.parent / '<img src=x onerror=alert(1)>"\'')

    page = Page(html.write(run_dir))
    assert_self_contained(page)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in ordinary.elements]
    assert page.text.count(HOSTILE) >= 3 * 6 + 10
    assert '<img src=x onerror=alert(1)>"\'' in page.text


def test_a_hostile_finding_cannot_reach_other_files(measured_run):
    path = measured_run / 'findings/lesion.json'
    path.write_text(path.read_text().replace('single_deletion', '../../secret'))
    (measured_run.parent / 'secret.svg').write_text('<svg/>')
    with pytest.raises(UserError, match='a name has'):
        html.write(measured_run)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'is neither a run \(config\.json\) nor a laboratory'):
        html.write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'line',
    [
        '{',
        '[]',
        '{"kind": "test", "step": 3}',
        '',
        '{"kind": []}',
        '\udcff',
        '{"kind": "test", "step": 3, "loss": "<b>", "error": 1, "correct": 1, "examples": 1}',
    ],
)
def test_a_damaged_record_is_named_by_its_line(run_dir, line):
    with (run_dir / 'metrics.jsonl').open('ab') as file:
        file.write(line.encode(errors='surrogateescape') + b'\n')
    with pytest.raises(UserError, match=r'metrics\.jsonl line 13 is no record'):
        html.write(run_dir)


@pytest.mark.parametrize('text', ['{', '[]', '{}', '{"schema": 4}', '{"schema": 4, "identity": "a", "config": {}}'])
def test_a_damaged_config_is_one_line(run_dir, text):
    (run_dir / 'config.json').write_text(text)
    with pytest.raises(UserError, match=r'config\.json'):
        html.write(run_dir)


def test_another_schema_is_refused(run_dir):
    edit_settings(run_dir, lambda settings: settings.update(schema=1))
    with pytest.raises(UserError, match='has schema 1, this version reads 4'):
        html.write(run_dir)


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0.0, '0'), (1727962, '1,727,962'), (6.4400001, '6.44'), (-0.8, '−0.8'), (9.9996, '10'), (100.0, '100'),
     (12345.6, '12,346'), (1 / 3, '0.3333'), (3.1e-8, '3.1e−08'), (float('inf'), '∞'), (float('-inf'), '−∞'),
     (float('nan'), 'not a number')],
)  # fmt: skip
def test_numbers_as_people_read_them(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ('ends', 'text'),
    [((7, 14), '7 to 14'), ((float('-inf'), 1), 'at most 1'), ((80, float('inf')), 'at least 80'), ((3, 3), '3'),
     ((math.nextafter(0, 1), math.inf), 'above 0'), ((-math.inf, math.nextafter(0, -1)), 'below 0'),
     ((float('-inf'), float('inf')), 'any')],
)  # fmt: skip
def test_intervals_in_words(ends, text):
    assert span(Interval(*ends)) == text


def test_settings_are_exact():
    texts = {'1e-05': 1e-5, 'true': True, '—': None, '16, 32': [16, 32], 'A': 'A'}
    assert [plain(value) for value in texts.values()] == list(texts)
    assert plain('') == '—'


@pytest.mark.parametrize(
    ('measured', 'low', 'high', 'accept'),
    [(0.2, 0.1, 0.3, (-float('inf'), 1)), (5, 5, 5, (5, 5)), (9, 8, float('inf'), (7, 14)),
     (float('inf'), float('inf'), float('inf'), (-float('inf'), float('inf')))],
)  # fmt: skip
def test_the_strip_holds_every_claim(make_claim, measured, low, high, accept):
    at = html.gauge(make_claim(measured, low, high, accept=Interval(*accept)))
    assert 0 <= at['low'] <= at['measured'] <= at['high'] <= 100
    assert 0 <= at['accept'] <= at['accept'] + at['accept_width'] <= 100
