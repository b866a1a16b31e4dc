"""What an imported run is good for, by the commands: on a copy of ImageNet of six images, and without PyTorch."""

import contextlib
import io
import json
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

import resnet_jax
from resnet_jax import cli
from resnet_jax.data.decode import encode_png
from resnet_jax.errors import Stopped, UserError
from resnet_jax.report import findings
from resnet_jax.runtime import directory
from resnet_jax.train import loop
from resnet_jax.weights import names

IMAGES = 6


def call(*arguments):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = cli.main([str(argument) for argument in arguments])
    assert (code, error.getvalue()) == (0, ''), error.getvalue()
    return SimpleNamespace(out=' '.join(out.getvalue().split()))


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(0).integers(0, 256, (IMAGES, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory, images):
    """A TFDS directory whose ImageNet has a validation split alone: its training files are not there."""
    root = tmp_path_factory.mktemp('tfds')
    path = root / 'imagenet2012' / '5.1.0'
    path.mkdir(parents=True)
    names = [f'class{label}' for label in range(1000)]
    features = tfds.features.FeaturesDict({
        'file_name': tfds.features.Text(), 'image': tfds.features.Image(encoding_format='jpeg'),
        'label': tfds.features.ClassLabel(names=names),
    })  # fmt: skip
    features.save_config(str(path))
    writer = ArrayRecordWriter(str(path / 'imagenet2012-validation.array_record-00000-of-00001'), 'group_size:1')
    for label, image in enumerate(images):
        writer.write(features.serialize_example({'file_name': 'x', 'image': encode_png(image), 'label': label}))
    writer.close()
    template = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
    (path / 'dataset_info.json').write_text(json.dumps({
        'name': 'imagenet2012', 'version': '5.1.0', 'fileFormat': 'array_record',
        'moduleName': 'tensorflow_datasets.datasets.imagenet2012.imagenet2012_dataset_builder',
        'splits': [
            {'name': name, 'numBytes': '0', 'shardLengths': [str(count)], 'filepathTemplate': template}
            for name, count in (('train', 1_281_167), ('validation', IMAGES))
        ],
    }))  # fmt: skip
    return root


@pytest.fixture(scope='module')
def run_dir(resnet18, tmp_path_factory):
    root = tmp_path_factory.mktemp('imported')
    safetensors.numpy.save_file(resnet18[2], root / 'r18.safetensors')
    call('weights', 'import', root / 'r18.safetensors', '--architecture', 'resnet18', '--out', root / 'run')
    return root / 'run'


@pytest.fixture(scope='module')
def probabilities(run_dir, imagenet):
    """What `evaluate` says, and what it writes of every image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TFDS_DATA_DIR', str(imagenet))
        done = call('evaluate', '--run', run_dir, '--probabilities', run_dir / 'p.npz')
    return done.out, np.load(run_dir / 'p.npz')


def test_it_is_evaluated_on_the_validation_split_alone(probabilities):
    said, arrays = probabilities
    p = arrays['probabilities']
    assert p.shape == (IMAGES, 1000) and arrays['labels'].tolist() == list(range(IMAGES))
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    wrong = int((p.argmax(axis=1) != arrays['labels']).sum())
    assert f'run at step 0: test error {100 * wrong / IMAGES:.2f} % ({wrong} of {IMAGES} wrong)' in said


def test_it_predicts_an_image_file_as_it_evaluates_the_same_one(run_dir, probabilities, images, tmp_path):
    (tmp_path / 'x.png').write_bytes(encode_png(images[2]))
    done = call('predict', '--run', run_dir, tmp_path / 'x.png', '--top', 2)
    row = probabilities[1]['probabilities'][2]
    best = np.argsort(-row)[:2]
    assert done.out == f'{tmp_path}/x.png: ' + ', '.join(f'{label} {100 * row[label]:.2f} %' for label in best)


def test_training_goes_on_from_it_and_not_from_a_run_of_its_name(run_dir, imagenet, tmp_path, monkeypatch):
    path = tmp_path / 'tfds' / 'imagenet2012' / '5.1.0'
    shutil.copytree(imagenet / 'imagenet2012' / '5.1.0', path)
    test = path / 'imagenet2012-validation.array_record-00000-of-00001'
    shutil.copy(test, path / test.name.replace('validation', 'train'))
    info = path / 'dataset_info.json'
    info.write_text(info.read_text().replace('1281167', str(IMAGES)))
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
    shutil.copytree(run_dir, tmp_path / 'run')
    stored = tmp_path / 'run' / 'config.json'
    record = json.loads(stored.read_text())
    record['config']['train']['batch_size'] = IMAGES
    stored.write_text(json.dumps(record))
    config, told = directory.read_config(tmp_path / 'run'), []

    def watch(record):
        told.append(record.get('text'))
        if record['kind'] == 'note':
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match='at step 0, saved'):
        loop.train(config, tmp_path / 'run', watch)
    assert 'resumed exactly at step 0' in told
    with pytest.raises(UserError, match=r'its train\.new_head is False'):
        directory.check(run_dir, names.settings('resnet18'))


def test_its_blocks_are_deleted_one_by_one(run_dir, imagenet, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(imagenet))
    call('experiment', 'lesion', '--run', run_dir, '--config.beyond=False')
    finding = findings.load(run_dir, 'lesion')
    right = finding.arrays['run1.single_right'].values
    errors = dict(zip(finding.arrays['run1.block'].values.tolist(), 100 * (1 - right.mean(axis=1)), strict=True))
    assert 2 in errors and (run_dir / 'report.html').is_file()
    assert errors[2] == pytest.approx(resnet_jax.load(run_dir).lesion([2]).error)
