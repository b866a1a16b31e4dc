"""A run directory as training and an experiment leave it, small."""

import json

import numpy as np
import pytest

from configs import digits
from resnet_jax import spec
from resnet_jax.report import figures, findings
from resnet_jax.report.claims import Claim, Interval

INFINITY = float('inf')


def _claim(measured, low, high, **fields):
    return Claim(
        **{
            'statement': 'Deleting any one block hardly raises the error.',
            'source': 'Veit et al. 2016, arXiv 1605.06431, section 4.1',
            'quantity': 'median increase of test error, percentage points',
            'expected': '+0.4 points',
            'accept': Interval(-INFINITY, 1.0),
            'form': 'shape',
            'measured': measured,
            'interval': Interval(low, high),
            'n': '359 test images, 51 blocks',
            'data': 'digits',
        }
        | fields
    )


@pytest.fixture
def make_claim():
    return _claim


@pytest.fixture
def finding():
    """One supported, one refuted, one undecided claim; arrays of several types, one not finite."""
    return findings.Finding(
        experiment='lesion',
        title='Lesions',
        question='Is a network resilient to losing any one of its blocks?',
        tier='cpu',
        settings={'draws': 12, 'counts': [1, 2, 3]},
        code='0123456789abcdef',
        runs=(findings.Subject(spec.identity(digits.get_config()), 'preact_resnet110', 0, 330),),
        data='digits',
        summary={'blocks': 54, 'error (%)': 1.1, 'entry blocks': [1, 19, 37], 'exact': True, 'worst': None},
        claims=(
            _claim(0.2, 0.1, 1 / 3, figure='single_deletion'),
            _claim(2.0, 1.5, 2.5),
            _claim(0.9, 0.5, INFINITY),
        ),
        arrays={
            'error': findings.Array(np.array([[1.1, 82.2], [np.nan, np.inf]]), ('draw', 'block'), '%'),
            'block': findings.Array(np.array([1, 2]), ('block',), ''),
        },
        figures={'single_deletion': 'Test error after deleting one block.'},
        notes=('Evaluation mode.',),
    )


def _records():
    for step in range(33, 331, 33):
        yield {'kind': 'train', 'step': step, 'epoch': step / 11, 'loss': 20 / step, 'error': 900 / step,
               'learning_rate': 0.1, 'seconds': 2.0, 'images_per_second': 700.0}  # fmt: skip
    for step in (165, 330):
        yield {'kind': 'test', 'step': step, 'loss': 25 / step, 'error': 100 * 4 / 360, 'correct': 356, 'examples': 360}


@pytest.fixture
def records():
    return list(_records())


@pytest.fixture
def run_dir(tmp_path, records):
    """A finished run without findings."""
    directory = tmp_path / 'digits-110'
    directory.mkdir()
    config = digits.get_config()
    settings = {
        'schema': 4,
        'identity': spec.identity(config),
        'title': 'preact_resnet110',
        'config': config.to_dict(),
    }
    (directory / 'config.json').write_text(json.dumps(settings))
    (directory / 'environment.json').write_text(json.dumps({'schema': 4, 'jax': '0.10.2', 'devices': ['cpu:0']}))
    (directory / 'metrics.jsonl').write_text(''.join(json.dumps(record) + '\n' for record in records))
    return directory


@pytest.fixture
def measured_run(run_dir, finding):
    """A finished run with a finding and its figure."""
    drawn, axes = figures.figure(1, 1)
    axes[0, 0].plot([1, 2], [1.1, 82.2], **figures.SERIES[0].line)
    figures.save(drawn, run_dir / 'figures', 'single_deletion')
    figures.save_numbers(run_dir / 'figures', 'single_deletion', {'block': [1, 2], 'error (%)': [1.1, 82.2]})
    findings.save(finding, run_dir)
    return run_dir
