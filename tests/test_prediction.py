"""`resnet-jax predict`: image files by a run of the digits, of what kind and size they may be."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import resnet_jax
from resnet_jax import cli, prediction

TINY = f'{Path(__file__).parent}/tiny.py'


def call(*arguments):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = cli.main([str(argument) for argument in arguments])
    return SimpleNamespace(code=code, out=out.getvalue(), error=error.getvalue())


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp('runs') / 'tiny'
    assert call('train', '--config', TINY, '--run', run_dir).code == 0
    return run_dir


@pytest.fixture(scope='module')
def run(run_dir):
    return resnet_jax.load(run_dir)


@pytest.fixture
def files(run, tmp_path):
    """Five test digits as PNGs, of values from 0 to 255."""
    images = np.asarray(run.dataset.test.images[:5])
    for number, image in enumerate(images):
        Image.fromarray((image[..., 0] * (255 / 16)).round().astype(np.uint8)).save(tmp_path / f'{number}.png')
    return [tmp_path / f'{number}.png' for number in range(5)]


def lines(run, files, count):
    """What is to be printed of the first test digits."""
    for path, row in zip(files, run.predict(run.dataset.test.images[: len(files)]), strict=True):
        best = np.argsort(-row)[:count]
        yield f'{path}: ' + ', '.join(f'{label} {100 * row[label]:.2f} %' for label in best)


def test_files_are_taken_for_what_the_datasets_own_images_are(run_dir, run, files):
    done = call('predict', '--run', run_dir, *files, '--top', 3)
    assert (done.code, done.error) == (0, '')
    assert done.out.splitlines() == list(lines(run, files, 3))


def test_a_terminal_gets_a_table(run, files):
    out = io.StringIO()
    assert prediction.predict(run, files[:1], 2, None, Console(file=out, force_terminal=True, width=200)) == 0
    label, percent = next(lines(run, files[:1], 1)).removeprefix(f'{files[0]}: ').split(' ', 1)
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert rows[1] == [str(files[0]), label, *percent.split()] and len(rows[2]) == 3


def test_what_cannot_be_read_is_a_line_each_and_the_others_are_done(run_dir, run, files, tmp_path):
    (tmp_path / 'text.png').write_text('hello')
    done = call('predict', '--run', run_dir, tmp_path / 'text.png', files[0], tmp_path / 'absent.png', '--top', 1)
    assert done.code == 2
    assert done.out.splitlines() == list(lines(run, files[:1], 1))
    first, second = done.error.splitlines()
    assert first.startswith(f'resnet-jax: {tmp_path}/text.png: neither a JPEG nor a PNG')
    assert second == f'resnet-jax: {tmp_path}/absent.png: No such file or directory'
    assert call('predict', '--run', run_dir, tmp_path / 'absent.png').out == ''


def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(run_dir, run, files, tmp_path):
    first, *others = (Image.open(path) for path in files)
    first.save(tmp_path / 'film.webp', save_all=True, append_images=others, lossless=True)
    (line,) = call('predict', '--run', run_dir, tmp_path / 'film.webp', '--top', 2).out.splitlines()
    label, found = line.split(': ')
    assert label == f'{tmp_path}/film.webp (the first of 5 frames)'
    assert found == next(lines(run, files[:1], 2)).split(': ')[1]


@pytest.mark.parametrize('top', [0, 11, -1])
def test_more_or_fewer_classes_than_there_are_are_refused(run_dir, files, top):
    done = call('predict', '--run', run_dir, files[0], '--top', top)
    assert (done.code, done.out) == (2, '')
    assert done.error == f'resnet-jax: --top is {top}; it must be 1 to 10, the classes of this run\n'


def test_a_prediction_reads_no_dataset(run_dir, files):
    fresh = resnet_jax.load(run_dir)
    assert prediction.predict(fresh, files, 1, None, Console(file=io.StringIO())) == 0
    assert 'dataset' not in vars(fresh)


def test_each_file_gets_a_picture_of_its_saliency_and_keeps_its_own_name(run_dir, files, tmp_path):
    (tmp_path / 'other').mkdir()
    twin = tmp_path / 'other' / files[0].name
    twin.write_bytes(files[1].read_bytes())
    before = files[0].read_bytes()
    done = call('predict', '--run', run_dir, files[0], twin, '--saliency', tmp_path)
    assert done.code == 0 and f'2 pictures of saliency are in {tmp_path}' in done.out
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in ('0_saliency.png', '0_2_saliency.png')]
    assert not np.array_equal(*pictures) and files[0].read_bytes() == before
    done = call('predict', '--run', run_dir, files[0], '--saliency', files[0] / 'deeper')
    assert done.code == 2 and done.error.endswith('(Not a directory); give another --saliency\n')


def test_saliency_is_that_of_each_image_alone(run):
    images = np.asarray(run.dataset.test.images[:3])
    labels = run.predict(images).argmax(axis=1)
    together = run.saliency(images, labels)
    assert together.shape == (3, 8, 8) and together.any()
    np.testing.assert_allclose(run.saliency(images[1:2], labels[1:2])[0], together[1], rtol=1e-5)
