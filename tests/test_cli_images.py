"""The command line on images of one's own: trained on from the first look to the last number, or refused in a line."""

import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from resnet_jax.runtime import directory
from resnet_jax.runtime.checkpoint import Checkpoints
from tests.command_line import call, one_line
from tests.data.folders import encode, noise, settle, write

CLASSES = ('bird', 'cat', 'dog')
AN_EPOCH = 3  # steps: twelve training images in batches of four


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """A folder of twelve training and six test images of three classes."""
    root = tmp_path_factory.mktemp('images') / 'Holiday photos'
    for split, count in (('train', 4), ('test', 2)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = noise(40 + 3 * number, 50 - 2 * number, seed=10 * label + number)
                (root / split / name / f'{number}.jpg').write_bytes(encode(image, 'JPEG'))
    settle(root)
    return root


def settings(photographs, **more):
    """A narrow ResNet-10 on images of 32 pixels, with an output more than there are classes."""
    given = {
        'data.data_dir': photographs, 'data.pixels': 32, 'data.labels': 4, 'network.stem_width': 4,
        'network.widths': '4,8,16,32', 'network.stage_blocks': '1,1,1,1', 'train.batch_size': 4, 'run.steps': 2,
        'run.log_every': 1, 'run.tensorboard': False, **{key.replace('__', '.'): value for key, value in more.items()},
    }  # fmt: skip
    overrides = [f'--config.{key}={value}' for key, value in given.items()]
    return '--config', 'configs/folder.py:scratch,resnet18', *overrides


@pytest.fixture(scope='module')
def run(photographs, tmp_path_factory):
    """A run of two epochs, stopped after the first and gone on with: (directory, what was said)."""
    run_dir = tmp_path_factory.mktemp('runs') / 'mine'
    said = [
        call('train', '--run', run_dir, *settings(photographs, run__steps=steps), '--config.run.keep=1')
        for steps in (1, 2)
    ]
    assert [(done.code, done.error) for done in said] == [(0, '')] * 2, said
    return run_dir, [done.out for done in said]


# Training, evaluation, prediction


def test_a_folder_is_trained_on_and_gone_on_with(photographs, run):
    run_dir, (first, second) = run
    assert '3 steps of 4' in first and '6 steps of 4' in second and 'resumed exactly at step 3' in second
    records = directory.read_metrics(run_dir)
    assert [record['step'] for record in records if record['kind'] == 'train'] == [1, 2, 3, 4, 5, 6]
    tests = [record for record in records if record['kind'] == 'test']
    assert [(record['step'], record['examples']) for record in tests] == [(AN_EPOCH, 6), (2 * AN_EPOCH, 6)]
    assert all(np.isfinite(record['loss']) for record in records)
    assert Checkpoints(run_dir, read_only=True).steps == [0, 2 * AN_EPOCH]
    config = directory.read_config(run_dir)
    assert config.unit == 'step' and config.data.labels == 4 and len(config.data.fingerprint) == 16
    for again in (('--run', run_dir), ('--run', run_dir, *settings(photographs, run__keep=1))):
        assert 'this run is complete' in call('train', *again).out


def test_it_is_evaluated_by_one_view_and_by_ten(run):
    run_dir, _ = run
    last = [record for record in directory.read_metrics(run_dir) if record['kind'] == 'test'][-1]
    plain, ten = call('evaluate', '--run', run_dir), call('evaluate', '--run', run_dir, '--views', 'ten_crop')
    assert plain.code == ten.code == 0
    assert f'test error {last["error"]:.2f} % (' in plain.out and f'loss {last["loss"]:.4f}' in plain.out
    assert re.search(r'test error \d+\.\d\d % by ten_crop \(\d of 6 wrong\), loss \d+\.\d{4}', ten.out)
    said = one_line(call('evaluate', '--run', run_dir, '--views', 'ten_crop', '--split', 'selection'))
    assert 'the selection split' in said and 'is empty' in said


def test_it_predicts_by_the_names_of_the_folders_and_of_the_output_that_has_none(photographs, run):
    file = photographs / 'test' / 'cat' / '1.jpg'
    done = call('predict', '--run', run[0], file, '--top', 4)
    assert done.code == 0
    assert set(re.findall(r'(bird|cat|dog|output 3) \d+\.\d\d %', done.out)) == {*CLASSES, 'output 3'}


def test_a_folder_that_changed_is_refused_until_it_is_as_it_was(photographs, run):
    run_dir, _ = run
    write(photographs, 'test/dog/new.jpg')
    try:
        for command in (('train',), ('evaluate',), ('evaluate', '--views', 'ten_crop')):
            assert 'folder is not what this run began with' in one_line(call(*command, '--run', run_dir))
        said = one_line(call('train', '--run', run_dir, *settings(photographs)))
        assert 'its data.fingerprint is' in said and 'the images are not those it was trained on' in said
    finally:
        (photographs / 'test' / 'dog' / 'new.jpg').unlink()
    assert call('evaluate', '--run', run_dir).code == 0


MISTAKES = {
    'no folder': ({'data__data_dir': ''}, 'config.data.data_dir is empty', '--config.data.data_dir=DIR'),
    'a folder that is not there': ({'data__data_dir': '/nowhere'}, '/nowhere cannot be entered', 'give one that can'),
    'too few outputs': ({'data__labels': 2}, 'config.data.labels is 2, but folder has 3 classes', 'set it to 0'),
    'too large a batch': ({'train__batch_size': 13}, 'train.batch_size is 13', 'at most the 12 training examples'),
    'in the memory': ({'run__placement': 'device'}, 'cuts from the originals', 'data.crop=view'),
    'too much held out': ({'data__selection': 12}, 'data.selection is 12', 'below the 12 training examples'),
    'too few left': ({'data__examples': 13}, 'data.examples is 13', 'leave 12 training examples'),
    'negative': ({'data__examples': -1}, 'data.examples is -1', 'at least 0'),
    'a lost start': ({'train__start_from': '/nowhere'}, '/nowhere holds no run', 'train one'),
}


@pytest.mark.parametrize(('changes', 'received', 'advice'), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_no_run_is_begun(photographs, tmp_path, changes, received, advice):
    said = one_line(call('train', '--run', tmp_path / 'run', *settings(photographs, **changes)))
    assert received in said and advice in said
    assert not (tmp_path / 'run' / 'config.json').exists()


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        ([], 'holds no images'),
        (['cat/1.jpg'], "holds one class alone, 'cat'"),
        (['cat/1.jpg', 'dog/1.jpg'], "the class 'cat'"),
        (['cat/1.jpg', 'dog/1.jpg', 'other.jpg'], 'lies in no class folder'),
        (['train/cat/1.jpg', 'train/dog/1.jpg', 'test/cow/1.jpg'], "has a class 'cow'"),
    ],
    ids=['empty', 'one class', 'one image a class', 'no label', 'no such class'],
)
def test_a_folder_that_leaves_something_open_is_one_line(tmp_path, names, said):
    (tmp_path / 'images').mkdir()
    write(tmp_path / 'images', *names)
    for command in (
        ('train', '--run', tmp_path / 'run', *settings(tmp_path / 'images')),
        ('data', 'show', *settings(tmp_path / 'images')),
        ('data', 'stats', tmp_path / 'images'),
        ('data', 'prepare', tmp_path / 'images', '--out', tmp_path / 'tfds'),
    ):
        assert said in one_line(call(*command))
    assert not (tmp_path / 'run').exists() and not (tmp_path / 'tfds').exists()


# data show


def test_what_the_network_will_see_is_drawn(photographs, tmp_path):
    sizes = []
    for name, draws in (('one', 1), ('three', 3)):
        out = tmp_path / f'{name}.png'
        done = call('data', 'show', *settings(photographs), '--out', out, '--examples', 2, '--draws', draws)
        assert (done.code, done.error) == (0, '') and str(out) in done.out
        with Image.open(out) as image:
            sizes.append(image.size)
    assert sizes[0][0] * 2 == sizes[1][0] and sizes[0][1] == sizes[1][1]  # of 2 and 4 columns


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--examples', 13], '--examples is 13; it must be 1 to 12, the training examples'),
        (['--examples', 0], '--examples is 0; it must be 1 to 12'),
        (['--draw'], 'unknown argument --draw'),
        (['--config.data.crop=random'], "config.data.crop is 'random'; it must be one of view"),
        (['--out', '{photographs}/train/cat/0.jpg/sheet.png'], '0.jpg/sheet.png'),
    ],
    ids=['too many', 'none', 'flag', 'setting', 'nowhere to write'],
)
def test_a_sheet_that_cannot_be_is_one_line(photographs, tmp_path, arguments, said):
    arguments = [str(word).format(photographs=photographs) for word in arguments]
    assert said in one_line(call('data', 'show', *settings(photographs), '--out', tmp_path / 'sheet.png', *arguments))
    assert not (tmp_path / 'sheet.png').exists()


def test_a_sheet_takes_a_config():
    assert 'data show takes a config: --config FILE' in one_line(call('data', 'show'))


# data stats, data prepare, data list


def test_a_folder_is_surveyed_and_prepared_and_the_copy_is_surveyed_alike(photographs, tmp_path):
    done = call('data', 'prepare', photographs, '--out', tmp_path)
    assert done.code == 0
    assert '--config.data.dataset=holiday_photos' in done.out and f'--config.data.data_dir={tmp_path}' in done.out
    info = json.loads((tmp_path / 'holiday_photos' / '1.0.0' / 'dataset_info.json').read_text())
    assert [split['shardLengths'] for split in info['splits']] == [['12'], ['6']]
    surveys = [
        call('data', 'stats', *what, '--pixels', 32)
        for what in ((photographs,), ('holiday_photos', '--data-dir', tmp_path))
    ]
    assert [done.code for done in surveys] == [0, 0]
    assert all(name in surveys[0].out for name in CLASSES) and surveys[0].out == surveys[1].out
    assert 'holiday_photos' not in call('data', 'list', '--data-dir', tmp_path).out.split('Besides')[0]
    assert 'exists already; give another name' in one_line(call('data', 'prepare', photographs, '--out', tmp_path))


def test_the_survey_names_what_cannot_be_read_and_goes_on(photographs, tmp_path):
    for split, name in itertools.product(('train', 'test'), CLASSES):
        write(tmp_path, f'{split}/{name}/1.png')
    (tmp_path / 'train' / 'cat' / '1.png').write_bytes(b'not an image')
    done = call('data', 'stats', tmp_path, '--pixels', 16)
    assert done.code == 0 and 'train/cat/1.png' in ''.join(done.out.split()) and 'neither a JPEG' in done.out


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['stats', 'digits'], 'digits is no set of image files'),
        (['stats', 'mnist', '--data-dir', '/nowhere'], 'the data directory /nowhere does not exist'),
        (['stats', '{folder}', '--pixels', 0], '--pixels is 0; it must be at least 1'),
        (['stats', '{folder}', '--fast'], 'data stats does not take --fast'),
        (['list', '--all'], 'data list does not take --all'),
        (['prepare', 'nowhere'], 'nowhere is neither a folder nor cifar10 nor cifar100; give one'),
        (['prepare', 'digits'], 'digits needs no preparing'),
        (['prepare', 'cifar10', '--out', '{tmp}'], '--out and --name are for a folder of images'),
        (['prepare', 'imagenet2012'], 'with an account of image-net.org'),
        (['prepare', '{folder}', '--name', 'cifar10'], 'the name cifar10 is taken; give another with --name'),
        (['prepare', '{folder}', '--name', 'My-photos'], "the name 'My-photos' is none that TFDS reads"),
    ],
    ids=lambda value: ' '.join(map(str, value)) if isinstance(value, list) else '',
)
def test_what_cannot_be_told_or_prepared_is_one_line(photographs, tmp_path, arguments, said):
    out = ['--out', '{tmp}'] if '{folder}' in arguments and arguments[0] == 'prepare' else []
    words = [str(word).format(folder=photographs, tmp=tmp_path / 'tfds') for word in (*arguments, *out)]
    assert said in one_line(call('data', *words))
    assert not (tmp_path / 'tfds').exists()
