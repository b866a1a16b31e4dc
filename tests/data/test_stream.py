"""Streams: a batch is a function of its number, whoever makes it; what cannot be read stops it or is counted."""

import hashlib
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from PIL import Image

from configs import default
from resnet_jax.data import records, sources, stored
from resnet_jax.data.batches import EvaluationBatches, Share, TrainingBatches
from resnet_jax.data.crops import DRAWS, drawing
from resnet_jax.data.decode import cut
from resnet_jax.data.folder import open_folder
from resnet_jax.data.order import order, plan
from resnet_jax.data.stream import stream
from resnet_jax.errors import UserError
from tests.data.folders import encode, noise, settle, write

ALONE = Share(0, 1)


@pytest.fixture(scope='session')
def photographs(tmp_path_factory):
    """A folder of two classes, 20 training and 7 test images of many sizes."""
    root = tmp_path_factory.mktemp('photographs')
    for split, count in (('train', 10), ('test', 3)):
        for name in ('cat', 'dog'):
            for number in range(count):
                path = root / split / name / f'{number}.jpg'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(noise(40 + 7 * number, 60 - 3 * number, hash_of(path)), 'JPEG'))
    write(root, 'test/dog/more.png')
    settle(root)
    return root


def hash_of(path):
    return int.from_bytes(hashlib.sha256(path.name.encode() + path.parent.name.encode()).digest()[:4], 'big')


def config(root, **data):
    made = default.get_config()
    made.train.batch_size = 6
    made.data.update(dataset='folder', data_dir=str(root), pixels=16, channels=3, labels=2, crop='random_resized')
    made.data.update(data)
    return made


def training(settings, steps=20, share=ALONE):
    source = sources.load(settings.data).source('train')
    return TrainingBatches(source, plan(settings, len(source), 16), settings.data, 3, steps, share)


def evaluation(settings, batch, share=ALONE):
    return EvaluationBatches(sources.load(settings.data).source('test'), settings.data, (16, 16, 3), batch, share)


def bytes_of(source, index):
    (example,) = source.read([index])
    assert isinstance(example, tuple), example
    return example[0]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one[:3], other[:3], strict=True)) and one[3:] == other[3:]


# Order


def test_a_batch_holds_the_examples_of_its_step_each_cut_by_its_own_draws(photographs):
    settings = config(photographs)
    batches, source = training(settings), open_folder(photographs, 0.2, lambda *_: None).splits['train']
    for step in (0, 2, 3, 7):
        indices = order(0, step // 3, 20)[6 * (step % 3) : 6 * (step % 3) + 6]
        batch = batches[step]
        np.testing.assert_array_equal(batch.labels, source.labels[indices])
        draws = np.random.RandomState([0x63726F70, 0, step]).random_sample((6, DRAWS))
        for at, index in enumerate(indices):
            encoded = bytes_of(source, int(index))
            choose = drawing(settings.data, 16)
            image = cut(encoded, lambda w, h, row=draws[at], choose=choose: choose(row, w, h), 16, 3, exact=False)
            np.testing.assert_array_equal(batch.images[at], image)
    assert not np.array_equal(batches[0].images, batches[3].images)


@pytest.mark.parametrize('workers', [0, 2])
def test_neither_workers_nor_where_a_stream_begins_change_a_batch(photographs, workers):
    batches = training(config(photographs))
    whole = list(stream(batches, 0, workers))
    assert len(whole) == 20 and all(same(batch, batches[step]) for step, batch in enumerate(whole))
    tail = list(stream(batches, 13, workers))
    assert len(tail) == 7 and all(same(*pair) for pair in zip(tail, whole[13:], strict=True))


@pytest.mark.parametrize('count', [2, 3])
def test_the_shares_of_several_processes_are_the_whole_batch(photographs, count):
    settings = config(photographs)
    whole, shares = training(settings), [training(settings, share=Share(index, count)) for index in range(count)]
    for step in range(4):
        parts = [share[step] for share in shares]
        for whole_part, together in zip(whole[step][:3], zip(*(part[:3] for part in parts), strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(together), whole_part)


@pytest.mark.parametrize('batch', [1, 2, 4, 6, 7, 8, 100])
@pytest.mark.parametrize('count', [1, 2])
def test_every_evaluation_example_is_counted_exactly_once(photographs, batch, count):
    if batch % count:
        pytest.skip('a batch is rounded up to the devices')
    settings = config(photographs)
    split, seen = sources.load(settings.data).test, []
    shares = [evaluation(settings, batch, Share(index, count)) for index in range(count)]
    for number in range(len(shares[0])):
        for share in shares:
            part = share[number]
            assert len(part.images) == batch // count
            seen += [(image.tobytes(), int(label)) for image, label, inside in zip(*part[:3], strict=True) if inside]
    assert seen == [(image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)]


def test_phases_change_size_and_batch(photographs):
    settings = config(photographs)
    settings.train.phases.update(epochs=(1, 1), pixels=(8, 16), batch_sizes=(10, 5))
    shapes = [batch.images.shape for batch in stream(training(settings, steps=7), 0, 0)]
    assert shapes == [(10, 8, 8, 3)] * 2 + [(5, 16, 16, 3)] * 5


# Bad bytes

BROKEN = {
    'empty': b'',
    'no image': b'not an image\n' * 10,
    'cut off': encode(noise(64, 64), 'JPEG')[:-900],
    'bomb': encode(Image.new('1', (20_000, 20_000)), 'PNG'),
}


@pytest.fixture(params=BROKEN)
def broken(request, tmp_path):
    """A folder of which one training and one test image cannot be read."""
    write(tmp_path, *(f'{split}/{name}/{number}.png' for split in ('train', 'test') for name in 'ab'
                      for number in range(5)))  # fmt: skip
    for split in ('train', 'test'):
        (tmp_path / split / 'b' / '3.png').write_bytes(BROKEN[request.param])
    settle(tmp_path)
    return tmp_path


@pytest.mark.parametrize('crop', ['view', 'random_resized'])
def test_what_cannot_be_read_stops_with_its_file_and_why(broken, crop):
    settings = config(broken, crop=crop)
    settings.train.batch_size = 10
    (said,) = [batch.error for batch in stream(training(settings, steps=1), 0, 0)]
    assert str(broken / 'train' / 'b' / '3.png') in said and 'data.corrupt=skip' in said and '\n' not in said
    (last,) = [batch.error for batch in stream(evaluation(settings, 10), 0, 0)]
    assert str(broken / 'test' / 'b' / '3.png') in last and '\n' not in last


def test_what_is_skipped_is_counted_and_its_place_is_taken_by_the_next_with_its_own_label(broken):
    settings = config(broken, corrupt='skip')
    settings.train.batch_size = 10
    batch, again = training(settings)[0], training(settings)[0]
    indices = order(0, 0, 10)
    labels = np.repeat([0, 1], 5)
    expected = [labels[9] if index == 8 else labels[index] for index in indices]  # b/3.png is example 8
    np.testing.assert_array_equal(batch.labels, expected)
    assert batch.error == '' and len(batch.skipped) == 1 and str(broken / 'train' / 'b' / '3.png') in batch.skipped[0]
    assert same(batch, again)
    (tested,) = stream(evaluation(settings, 10), 0, 0)
    assert tested.inside.sum() == 9 and not tested.inside[8] and len(tested.skipped) == 1


def test_the_last_examples_stand_in_is_the_first(tmp_path):
    write(tmp_path, *(f'train/{name}/{number}.png' for name in 'ab' for number in range(3)), 'test/a/0.png')
    (tmp_path / 'train/b/2.png').write_bytes(b'')
    settle(tmp_path)
    batch = training(config(tmp_path, corrupt='skip'))[0]
    labels = [0 if index == 5 else [0, 0, 0, 1, 1, 1][index] for index in order(0, 0, 6)]
    np.testing.assert_array_equal(batch.labels, labels)


def test_where_nothing_can_be_read_it_says_so_and_does_not_look_for_ever(tmp_path):
    write(tmp_path, *(f'train/{name}/{number}.png' for name in 'ab' for number in range(3)), 'test/a/0.png')
    for path in tmp_path.glob('train/*/*'):
        path.write_bytes(b'x')
    settle(tmp_path)
    error = training(config(tmp_path, corrupt='skip'))[0].error
    assert error.startswith('100 images one after the other cannot be read; the last: ') and '\n' not in error


def test_a_damaged_record_is_named_by_file_and_number_or_skipped(write_copy, tmp_path):
    copy = write_copy(tmp_path)
    file = copy / stored.file_name('cifar10', 'train', 0, 1)
    sound = file.read_bytes()
    data = bytearray(sound)
    ends = [at for at in range(len(data)) if data[at : at + 4] == b'IEND']
    data[ends[17] - 100] ^= 1
    file.write_bytes(data)
    settings = default.get_config()
    settings.train.batch_size = 40
    settings.data.update(dataset='cifar10', data_dir=str(tmp_path))
    said = training(settings)[0].error
    assert f'{file}, record 17: cannot be read: ' in said
    settings.data.corrupt = 'skip'
    batch = training(settings)[0]
    assert len(batch.skipped) == 1 and f'{file}, record 17' in batch.skipped[0]
    file.write_bytes(sound)
    labels = sources.load(settings.data).source('train').labels
    np.testing.assert_array_equal(batch.labels, labels[[18 if index == 17 else index for index in order(0, 0, 40)]])


# Processes


def test_a_worker_ended_from_outside_is_one_line_and_no_hang(photographs):
    batches = stream(training(config(photographs), steps=10**6), 0, 2)
    next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    begin = time.monotonic()
    os.kill(workers[0].pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r'ended from outside \(exit code -9\)'):
        list(batches)
    assert time.monotonic() - begin < 30
    assert not multiprocessing.active_children()


# The same photographs in three forms


@pytest.fixture(scope='session')
def imagenet_sample(tfds_dir, tmp_path_factory):
    """The training photographs of the sample as a folder whose order is that of the records."""
    if not (tfds_dir / 'imagenet2012').is_dir():
        pytest.skip('needs imagenet2012 as ArrayRecord beside cifar10')
    copy = stored.find('imagenet2012', tfds_dir)
    source = records.open_split(copy, 'train', records.features(copy))
    root = tmp_path_factory.mktemp('imagenet')
    for index in range(len(source)):
        encoded = bytes_of(source, index)
        for split in ('train', 'test'):
            path = root / split / f'{index:04}' / 'photograph.jpg'
            path.parent.mkdir(parents=True)
            path.write_bytes(encoded)
    settle(root)
    return root


def test_the_same_photographs_as_records_as_a_folder_and_as_records_of_that_folder_give_the_same_batches(
    imagenet_sample, tfds_dir, tmp_path
):
    from resnet_jax.data.convert import convert

    convert(open_folder(imagenet_sample, 0.2, lambda *_: None), tmp_path, 'photographs', lambda *_: None)
    found = []
    for dataset, data_dir in (
        ('imagenet2012', tfds_dir),
        ('folder', imagenet_sample),
        ('photographs', tmp_path),
    ):
        settings = config(data_dir, dataset=dataset, pixels=64, labels=1000)
        settings.train.batch_size = 32
        source = sources.load(settings.data).source('train')
        assert len(source) == 320
        made = TrainingBatches(source, plan(settings, 320, 64), settings.data, 3, 10, ALONE)
        found.append([made[step] for step in (0, 3, 9)])
    for records_batch, folder_batch, converted_batch in zip(*found, strict=True):
        np.testing.assert_array_equal(records_batch.images, folder_batch.images)
        assert same(folder_batch, converted_batch)
        assert not records_batch.error and len(set(folder_batch.labels.tolist())) == 32
