"""The page of a sweep and its files: what the runs came to, and what they did not."""

import base64
import csv
import dataclasses
import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from configs import digits
from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.report import findings, html, lesions
from resnet_jax.runtime import result
from resnet_jax.sweep import Sweep, axis, conditions, plan, product, seeds, state
from tests.report.test_html import HOSTILE, Page

STUDENT = 4.302653  # the 97.5 % quantile of t with 2 degrees of freedom (tables)
NETWORKS = conditions('network', {'residual': {}, 'plain': {'network.shortcut': 'none'}})
DEPTHS = conditions('depth', {depth: {'network.stage_blocks': ((depth - 2) // 6,) * 3} for depth in (14, 20)})


def begin(path, grid, **settings):
    """A sweep of which no run has begun."""
    base = digits.get_config('preact_resnet20')
    base.update_from_flattened_dict(settings)
    return state.create(path / 'a_sweep', 'a_sweep', '', plan.plan(Sweep(base, grid), {}))


def finish(sweep, run, error, diverged=False, **numbers):
    """As the launcher leaves a run that is done."""
    numbers = {'step': 330, 'test_error': error} | numbers  # a figure costs a tenth of a second
    settings = json.loads((sweep.path / run / 'config.json').read_text())
    result.write(sweep.path / run, spec.identity(settings['config']), numbers | {'diverged': diverged})
    state.write_status(sweep.run(run.partition('/')[0]), state.Status('done'))


def fail(sweep, run, *lines):
    state.write_status(sweep.run(run), state.Status('failed', lines=lines))


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def drawn(path, **where):
    """The row of a figure's numbers that is there."""
    rows = [row for row in table(path) if all(row[key] == str(value) for key, value in where.items())]
    assert len(rows) == 1
    return rows[0]


@pytest.fixture
def depths(tmp_path):
    """Two networks, two depths, three seeds: the errors are 1, 2, 3, …, 12 % in the order of the runs."""
    sweep = begin(tmp_path, product(NETWORKS, DEPTHS, seeds(3)))
    for number, run in enumerate(sweep.runs, start=1):
        finish(sweep, run, float(number))
    return sweep


def test_the_table_has_every_number_of_every_run(depths, finding):
    findings.save(finding, depths.run('network-plain_depth-20_seed-2'))
    finish(depths, 'network-plain_depth-20_seed-2', 12.0, test_loss=0.5)
    assert html.write(depths.path) == depths.path / 'report.html'
    rows = table(depths.path / 'runs.csv')
    statement = 'lesion: Deleting any one block hardly raises the error.'
    assert list(rows[0]) == [
        'run', 'network', 'depth', 'seed', 'state', 'diverged', 'step', 'test_error', 'test_loss',
        statement, f'{statement} (2)', f'{statement} (3)',
    ]  # fmt: skip
    assert [row['run'] for row in rows] == list(depths.runs)
    assert [float(row['test_error']) for row in rows] == list(range(1, 13))
    last = {key: rows[-1][key] for key in ('network', 'depth', 'seed', 'state', 'diverged', 'test_loss')}
    assert last == {
        'network': 'plain', 'depth': '20', 'seed': '2', 'state': 'done', 'diverged': 'False', 'test_loss': '0.5',
    }  # fmt: skip
    assert [rows[-1][f'{statement}{number}'] for number in ('', ' (2)', ' (3)')] == ['0.2', '2.0', '0.9']
    assert rows[0][statement] == ''


def test_points_are_means_over_seeds_with_students_intervals(depths):
    page = Page(html.write(depths.path))
    point = drawn(depths.path / 'figures/test_error.csv', network='plain', depth=14)  # 7, 8 and 9 %
    assert (point['mean'], point['runs']) == ('8.0', '3')
    ends = [float(point[end]) for end in ('low', 'high')]
    np.testing.assert_allclose(ends, 8 + np.array([-1, 1]) * STUDENT / np.sqrt(3), rtol=1e-6)
    assert 'Against depth, by network: means over 3 seeds with 95 % intervals' in page.text
    assert '12 of 12 runs.' in page.text


def test_of_one_seed_there_is_no_interval_but_its_claims(tmp_path, finding):
    sweep = begin(tmp_path, DEPTHS)
    for run in sweep.runs:
        finish(sweep, run, 1.0)
        findings.save(dataclasses.replace(finding, claims=finding.claims[1:2], figures={}), sweep.run(run))
    page = Page(html.write(sweep.path))
    point = drawn(sweep.path / 'figures/test_error.csv', depth=14)
    assert (point['mean'], point['low'], point['high']) == ('1.0', '', '')
    point = drawn(sweep.path / 'figures/lesion_deleting_any_one_block_hardly_raises_the_error.csv', depth=14)
    assert (point['mean'], point['low'], point['high']) == ('2.0', '1.5', '2.5')
    assert 'one seed each, no interval.' in page.text
    assert (
        'one seed each, the bars are the intervals of the claims. Shaded: where it is accepted (at most 1)' in page.text
    )


def test_what_diverged_and_what_failed_is_shown_and_no_part_of_a_mean(depths):
    first, second, third, *_ = depths.runs
    finish(depths, first, 90.0, diverged=True)
    (depths.run(second) / 'result.json').unlink()
    fail(depths, second, 'out of memory', '(exit code 1)')
    page = Page(html.write(depths.path))
    point = drawn(depths.path / 'figures/test_error.csv', network='residual', depth=14)
    assert [point[key] for key in ('mean', 'low', 'runs', 'diverged', 'failed')] == ['3.0', '', '1', '1', '1']
    for words in ('11 done, 1 failed; 1 diverged.', '10 of 12 runs; 1 diverged (× above); 1 failed (! above).',
                  f'Failures {second} out of memory (exit code 1)', 'failed out of memory'):  # fmt: skip
        assert words in re.sub(r'(?<=\w)\s+', ' ', page.text), words
    states = {row['run']: (row['state'], row['diverged']) for row in table(depths.path / 'runs.csv')}
    assert [states[run] for run in (first, second, third)] == [('done', 'True'), ('failed', ''), ('done', 'False')]


def test_runs_that_failed_alike_are_told_together(depths):
    for number, run in enumerate(depths.runs):
        fail(depths, run, 'no space' if number else 'no GPU', '(exit code 1)')
    first, *others = depths.runs
    said = f'Failures {first} no GPU (exit code 1) {", ".join(others[:5])} and 6 more no space (exit code 1)'
    assert said in Page(html.write(depths.path)).text


def test_two_numeric_axes_make_a_map_too(tmp_path):
    rates, batches = axis('train.schedule.learning_rate', (0.01, 0.1, 1.0)), axis('train.batch_size', (16, 32, 64))
    sweep = begin(tmp_path, product(rates, batches))
    for number, run in enumerate(sweep.runs):
        finish(sweep, run, float(number + 1), diverged=number == 8)
    html.write(sweep.path)
    assert (sweep.path / 'figures/test_error_map.png').exists()
    numbers = table(sweep.path / 'figures/test_error_map.csv')
    assert [(each['batch_size'], each['learning_rate'], each['mean']) for each in numbers[-2:]] == [
        ('64', '0.1', '6.0'), ('64', '1.0', '')]  # fmt: skip


def test_the_cost_of_deleting_a_block_is_by_hand(finding):
    right = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)  # errors of 25, 75, 50, 100 %
    values = {'single_right': right, 'intact_right': np.ones(4, bool), 'is_entry': np.array([False] * 3 + [True])}
    arrays = {f'run1.{name}': findings.Array(each, ('a', 'b')[: each.ndim], '') for name, each in values.items()}
    assert lesions.cost(arrays) == 50
    assert lesions.cost(finding.arrays) is None
    arrays['run1.is_entry'] = findings.Array(np.ones(4, bool), ('a',), '')
    assert lesions.cost(arrays) is None


def test_claims_are_counted_place_by_place(depths, finding):
    for number, run in enumerate(depths.runs):
        if run.startswith('network-residual'):
            claim = finding.claims[number % 2]  # supported, refuted, …
            findings.save(
                dataclasses.replace(finding, claims=(claim,), figures={'single_deletion': ''}), depths.run(run)
            )
    page = Page(html.write(depths.path))
    claims = page.text.partition('Claims depth')[2].partition('Runs of which')[0]
    said = '14 20 lesion Deleting any one block hardly raises the error. ✓ 3 ✗ 3 residual ✓ 2 ✗ 1 ✓ 1 ✗ 2'
    assert ' '.join(claims.split()) == said
    assert '6 of 12 runs; 6 without it.' in page.text


def test_a_run_is_linked_where_it_has_a_report(depths):
    first, *_ = depths.runs
    html.write(depths.run(first))
    page = Page(html.write(depths.path))
    links = [link['href'] for link in page.all('a') if link['href'].startswith('./')]
    assert links == [f'./{first}/report.html', './runs.csv']
    assert all((depths.path / link).is_file() for link in links)
    anchors = {attributes['id'] for _, attributes in page.elements if 'id' in attributes}
    assert all(link['href'][1:] in anchors for link in page.all('a') if link['href'].startswith('#'))
    assert not page.all('link') and all(image['src'].startswith('data:image/svg+xml') for image in page.all('img'))


def test_hostile_text_stays_text_and_the_one_script_is_the_one_allowed(depths, finding, make_claim):
    ordinary = Page(html.write(depths.path)).all('script')
    first, second, *_ = depths.runs
    claim = make_claim(0.2, 0.1, 0.3, statement=HOSTILE, quantity=f'{HOSTILE} $x$')
    findings.save(dataclasses.replace(finding, claims=(claim,), figures={}), depths.run(first))
    fail(depths, second, HOSTILE)
    path = depths.path / 'sweep.json'
    path.write_text(path.read_text().replace('"a_sweep"', json.dumps(HOSTILE)))
    page = Page(html.write(depths.path))
    assert page.open == [] and page.all('script') == ordinary == [{}]
    assert page.text.count(HOSTILE) >= 6
    source = (depths.path / 'report.html').read_text()
    (script,) = re.findall('<script>(.*?)</script>', source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in source
    assert not any(name.startswith('on') for _, attributes in page.elements for name in attributes)


def test_a_damaged_finding_is_one_line_in_the_page(depths, finding):
    first, second, *_ = depths.runs
    findings.save(finding, depths.run(first)).write_text('{')
    findings.save(finding, depths.run(second))
    page = Page(html.write(depths.path))
    assert len(page.all('li')) and page.text.count(f'{first}/findings/lesion.json cannot be read') == 1
    assert '1 of 12 runs; 11 without it.' in page.text


def test_a_finding_of_another_version_is_said(depths, finding):
    path = findings.save(finding, depths.run(next(iter(depths.runs))))
    path.write_text(path.read_text().replace('"schema": 3', '"schema": 1'))
    assert 'Not shown: lesion, found by another version.' in Page(html.write(depths.path)).text


def test_a_result_that_is_damaged_is_said(depths):
    first, *_ = depths.runs
    path = depths.run(first) / 'result.json'
    path.write_text(path.read_text().replace('1.0', '0.1'))
    page = Page(html.write(depths.path))
    assert '11 of 12 runs; 1 without it.' in page.text
    assert page.text.count('its result.json is missing or damaged') == 2  # in the table, and below it


def test_a_run_without_its_config_is_refused_in_one_line(depths):
    (depths.run(next(iter(depths.runs))) / 'config.json').unlink()
    with pytest.raises(UserError, match=r'has no config\.json; begin the sweep again'):
        html.write(depths.path)


def test_of_a_run_of_several_seeds_each_is_a_row(tmp_path):
    sweep = begin(tmp_path, DEPTHS, **{'train.seeds': 3, 'seed': 5})
    run = next(iter(sweep.runs))
    for seed, error in ((5, 1.0), (6, 3.0)):  # the last one has not begun
        settings = json.loads((sweep.run(run) / 'config.json').read_text())
        settings['config'] |= {'seed': seed}
        settings['config']['train']['seeds'] = 1
        (sweep.run(run) / f'seed{seed}').mkdir()
        (sweep.run(run) / f'seed{seed}/config.json').write_text(json.dumps(settings))
        finish(sweep, f'{run}/seed{seed}', error)
    state.write_status(sweep.run(run), state.Status('pending'))
    page = Page(html.write(sweep.path))
    rows = table(sweep.path / 'runs.csv')
    assert [(row['run'], row['seed'], row['test_error']) for row in rows[:3]] == [
        (f'{run}/seed5', '5', '1.0'), (f'{run}/seed6', '6', '3.0'), (f'{run}/seed7', '7', '')]  # fmt: skip
    assert drawn(sweep.path / 'figures/test_error.csv', depth=14)['mean'] == '2.0'
    assert '2 runs: 2 pending.' in page.text and '2 of 6 runs; 4 not done yet.' in page.text


def test_a_sweep_of_which_nothing_is_done_says_so(tmp_path):
    page = Page(html.write(begin(tmp_path, seeds(2)).path))
    assert '2 runs: 2 pending.' in page.text and 'No run has come to a number yet.' in page.text
    assert page.open == []


def test_settings_are_told_apart_by_whether_all_runs_have_them(depths):
    page = Page(html.write(depths.path))
    assert 'The runs differ in network.shortcut, network.stage_blocks, seed.' in page.text
    assert 'train.batch_size 128' in page.text and 'network.shortcut A' not in page.text


def test_the_same_sweep_has_the_same_files(depths):
    def files():
        html.write(depths.path)
        return {path: path.read_bytes() for path in depths.path.rglob('*') if path.is_file()}

    assert files() == files()


def test_a_report_imports_no_jax(depths):
    code = 'import sys; from pathlib import Path; from resnet_jax.report import html; html.write(Path(sys.argv[1])); '
    code += "assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, '-c', code, depths.path], check=True)
