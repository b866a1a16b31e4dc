"""Makes the copy of CIFAR-10 or CIFAR-100 that training reads, from the official archive, without TensorFlow.

It is what TFDS itself makes of the archive as ArrayRecord: the same files, features and order of examples, so that a
run reads the same whichever of the two prepared its data. Images are stored as PNG, without loss.
"""

import errno
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np

from resnet_jax.data import archive as archives
from resnet_jax.data import stored
from resnet_jax.data.archive import ARCHIVES, SHAPE, Content
from resnet_jax.data.decode import encode_png
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress

VERSION = '3.0.2'  # of both datasets in TFDS: the order of examples belongs to it


def prepare(
    dataset: str, data_dir: Path, archive: Path | None, progress: Progress, *, sha256: str | None = None
) -> Path:
    """Makes `data_dir/dataset/3.0.2`, whole or not at all, and returns its path; a copy already there is left alone.

    Args:
      archive: the official archive in its binary version; None downloads it (170 MB).
      progress: told what is being done, and how much of how much of it.
      sha256: of another archive of the same format; None stands for the official one.

    Raises:
      UserError: no such dataset, not the archive meant, no network, no place to write.
    """
    if dataset == 'imagenet2012':
        raise UserError('imagenet2012 cannot be downloaded freely; with an account of image-net.org get '
                        'ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into a directory DIR, then: '
                        + stored.prepare_command(dataset, data_dir))  # fmt: skip
    if dataset not in ARCHIVES:
        raise UserError(f'{dataset!r} is not prepared from an archive; {" and ".join(ARCHIVES)} are, and digits needs '
                        'no preparing')  # fmt: skip
    official = ARCHIVES[dataset]
    target = data_dir / dataset / VERSION
    if target.exists():
        return _already(dataset, target, progress)
    if archive:
        archives.verify(archive, sha256 or official.sha256, official.url)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'.{dataset}-', dir=data_dir) as scratch:
            made = _make(dataset, Path(scratch), archive, progress, sha256 or official.sha256)
            target.parent.mkdir(exist_ok=True)
            try:
                made.rename(target)
            except OSError:
                if not target.exists():
                    raise
                return _already(dataset, target, progress)  # another process was first
    except OSError as error:
        raise UserError(f'{target} cannot be written: {error.strerror or error}; pass another --data-dir') from None
    return target


def _already(dataset: str, target: Path, progress: Progress) -> Path:
    found = stored.find(dataset, target.parent.parent)
    if found.path != target:
        raise UserError(f'{target} exists, but is not ArrayRecord; pass another --data-dir')
    progress('already prepared', 1, 1)
    return target


def _make(dataset: str, scratch: Path, archive: Path | None, progress: Progress, sha256: str) -> Path:
    official = ARCHIVES[dataset]
    if archive is None:
        archive = scratch / official.url.rpartition('/')[2]
        archives.download(official, archive, progress)
        archives.verify(archive, sha256, official.url)
    content = archives.read(official, archive)
    made = scratch / VERSION  # not the scratch directory itself, which is closed to others
    made.mkdir()
    write(dataset, made, content, progress)
    return made


def write(dataset: str, path: Path, content: Content, progress: Progress) -> None:
    """Fills an empty directory with the files of a prepared dataset."""
    import tensorflow_datasets as tfds

    labels = {label: tfds.features.ClassLabel(names=names) for label, names in content.names.items()}
    features = tfds.features.FeaturesDict(
        {'id': tfds.features.Text(), 'image': tfds.features.Image(shape=SHAPE), **labels}
    )
    features.save_config(str(path))
    splits = []
    for split, (images, numbers) in content.splits.items():
        size = _write_split(path / stored.file_name(dataset, split, 0, 1), split, images, numbers, features, progress)
        splits.append({'name': split, 'numBytes': str(size), 'shardLengths': [str(len(images))],
                       'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'})  # fmt: skip
    info = {
        'name': dataset,
        'version': VERSION,
        'fileFormat': 'array_record',
        'moduleName': 'tensorflow_datasets.image_classification.cifar',
        'location': {'urls': ['https://www.cs.toronto.edu/~kriz/cifar.html']},
        'supervisedKeys': {'tuple': {'items': [{'featureKey': 'image'}, {'featureKey': 'label'}]}},
        'splits': splits,
    }
    (path / 'dataset_info.json').write_text(json.dumps(info, indent=2, sort_keys=True))


def order(split: str, examples: int) -> list[int]:
    """The order in which TFDS stores a split: by the MD5 of the split's name and the example's number."""

    def key(index: int) -> bytes:
        return hashlib.md5(f'{split}{index}'.encode(), usedforsecurity=False).digest()

    return sorted(range(examples), key=key)


def _write_split(
    file: Path, split: str, images: np.ndarray, labels: dict[str, np.ndarray], features, progress: Progress
) -> int:
    """Returns the bytes of the records."""
    from array_record.python.array_record_module import ArrayRecordWriter

    size = 0
    try:
        writer = ArrayRecordWriter(str(file), 'group_size:1')  # each record on its own: read at random in no time
        for done, index in enumerate(order(split, len(images)), start=1):
            example = {label: int(numbers[index]) for label, numbers in labels.items()}
            example |= {'id': f'{split}_{index:05}', 'image': encode_png(images[index])}
            record = features.serialize_example(example)
            writer.write(record)
            size += len(record)
            if done % 1000 == 0 or done == len(images):
                progress(f'writing {split}', done, len(images))
        writer.close()
    except RuntimeError as error:  # what the writer raises, a full disk included
        raise OSError(errno.EIO, str(error)) from None
    return size
