import dataclasses
import json
import math

import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.report import findings


def test_a_finding_comes_back_exactly(tmp_path, finding):
    findings.save(finding, tmp_path)
    loaded = findings.load(tmp_path, 'lesion')
    for field in dataclasses.fields(finding):
        if field.name != 'arrays':
            assert getattr(loaded, field.name) == getattr(finding, field.name), field.name
    assert list(loaded.summary) == list(finding.summary)  # the order of the short table
    assert [claim.verdict for claim in loaded.claims] == ['supported', 'refuted', 'undecided']
    assert loaded.arrays.keys() == finding.arrays.keys()
    for name, array in finding.arrays.items():
        assert loaded.arrays[name].values.dtype == array.values.dtype
        np.testing.assert_array_equal(loaded.arrays[name].values, array.values)
        assert (loaded.arrays[name].axes, loaded.arrays[name].unit) == (array.axes, array.unit)


def test_the_file_is_strict_json_and_says_the_verdicts(tmp_path, finding):
    finding = dataclasses.replace(finding, summary={'least': -math.inf, 'none': math.nan, 'numpy': np.float32(0.5)})
    path = findings.save(finding, tmp_path)

    def refuse(constant):
        raise AssertionError(f'{constant} is not JSON')

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record['schema'] == findings.SCHEMA
    assert [claim['verdict'] for claim in record['claims']] == ['supported', 'refuted', 'undecided']
    summary = findings.load(tmp_path, 'lesion').summary
    assert summary['least'] == -math.inf
    assert str(summary['none']) == 'nan'
    assert summary['numpy'] == 0.5


def test_saving_the_same_finding_writes_the_same_bytes(tmp_path, finding):
    def files(directory):
        findings.save(finding, directory)
        return {path.name: path.read_bytes() for path in (directory / 'findings').iterdir()}

    first = files(tmp_path / 'a')
    assert first.keys() == {'lesion.json', 'lesion.npz'}
    assert first == files(tmp_path / 'b')


def test_all_findings_come_by_name(tmp_path, finding):
    for name in ('paths', 'lesion'):
        findings.save(dataclasses.replace(finding, experiment=name), tmp_path)
    (tmp_path / 'findings' / '.depth.json.7.partial').write_text('{')  # left by a killed process
    assert [found.experiment for found in findings.load_all(tmp_path)] == ['lesion', 'paths']
    assert findings.load_all(tmp_path / 'empty') == ()


def test_a_missing_finding_is_refused_with_those_there_are(tmp_path, finding):
    findings.save(finding, tmp_path)
    with pytest.raises(UserError, match=r"no finding 'paths' \(it has: lesion\)"):
        findings.load(tmp_path, 'paths')


def test_a_failed_save_leaves_the_old_finding(tmp_path, finding):
    findings.save(finding, tmp_path)
    with pytest.raises(TypeError, match='object'):
        findings.save(dataclasses.replace(finding, title='new', summary={'x': object()}), tmp_path)
    assert findings.load(tmp_path, 'lesion').title == 'Lesions'


def test_arrays_of_another_save_are_refused(tmp_path, finding):
    path = findings.save(finding, tmp_path)
    other = dataclasses.replace(finding, arrays={'error': findings.Array(np.zeros(2), ('block',), '%')})
    findings.save(other, tmp_path / 'other')
    (tmp_path / 'other/findings/lesion.npz').replace(path.with_suffix('.npz'))
    with pytest.raises(UserError, match='not the file it was saved with'):
        findings.load(tmp_path, 'lesion')


@pytest.mark.parametrize('damage', ['{', '[]', '{"schema": 1}', '"text"', 'null'])
def test_a_damaged_file_is_one_line(tmp_path, finding, damage):
    findings.save(finding, tmp_path).write_text(damage)
    with pytest.raises(UserError, match='run the experiment again') as error:
        findings.load(tmp_path, 'lesion')
    assert '\n' not in str(error.value)


def test_another_schema_is_refused(tmp_path, finding):
    path = findings.save(finding, tmp_path)
    path.write_text(path.read_text().replace('"schema": 3', '"schema": 1'))
    with pytest.raises(UserError, match='has schema 1, this version reads 3'):
        findings.load(tmp_path, 'lesion')
    assert findings.load_all(tmp_path) == () and findings.outdated(tmp_path) == ['lesion']


@pytest.mark.parametrize('name', ['../lesion', '.lesion', 'a b', '', 'a/b', '<b>', 'a' * 129])
def test_names_stay_inside_the_run(tmp_path, finding, name):
    with pytest.raises(UserError, match='a name has'):
        dataclasses.replace(finding, experiment=name)
    with pytest.raises(UserError, match='a name has'):
        dataclasses.replace(finding, figures={name: '', 'single_deletion': ''})
    with pytest.raises(UserError, match='a name has'):
        findings.load(tmp_path, name)


def test_a_claim_points_to_a_figure_of_its_finding(finding):
    with pytest.raises(ValueError, match='single_deletion'):
        dataclasses.replace(finding, figures={})


def test_an_array_names_its_axes_and_holds_no_objects():
    with pytest.raises(ValueError, match='each axis'):
        findings.Array(np.zeros((2, 3)), ('block',), '%')
    with pytest.raises(ValueError, match='object'):
        findings.Array(np.array([None]), ('block',), '')
