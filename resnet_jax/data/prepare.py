"""Makes the copy of CIFAR-10 or CIFAR-100 that training reads, from the official archive, without TensorFlow.

It is what TFDS itself makes of the archive as ArrayRecord: the same files, features and order of examples, so that a
run reads the same whichever of the two prepared its data. Images are stored as PNG, without loss.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.data import archive as archives
from resnet_jax.data import store, stored
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

    def fill(path: Path) -> None:
        write(dataset, path, _content(dataset, path.parent, archive, progress, sha256 or official.sha256), progress)

    if not store.make(target, fill, 'pass another --data-dir'):
        return _already(dataset, target, progress)
    return target


def _already(dataset: str, target: Path, progress: Progress) -> Path:
    found = stored.find(dataset, target.parent.parent)
    if found.path != target:
        raise UserError(f'{target} exists, but is not ArrayRecord; pass another --data-dir')
    progress('already prepared', 1, 1)
    return target


def _content(dataset: str, scratch: Path, archive: Path | None, progress: Progress, sha256: str) -> Content:
    official = ARCHIVES[dataset]
    if archive is None:
        archive = scratch / official.url.rpartition('/')[2]
        archives.download(official, archive, progress)
        archives.verify(archive, sha256, official.url)
    return archives.read(official, archive)


def write(dataset: str, path: Path, content: Content, progress: Progress) -> None:
    """Fills an empty directory with the files of a prepared dataset."""
    import tensorflow_datasets as tfds

    labels = {label: tfds.features.ClassLabel(names=names) for label, names in content.names.items()}
    features = tfds.features.FeaturesDict(
        {'id': tfds.features.Text(), 'image': tfds.features.Image(shape=SHAPE), **labels}
    )
    splits = {}
    for split, (images, numbers) in content.splits.items():
        records = map(features.serialize_example, _examples(split, images, numbers, progress))
        splits[split] = (store.write_records(path / stored.file_name(dataset, split, 0, 1), records), [len(images)])
    about = {
        'name': dataset,
        'version': VERSION,
        'moduleName': 'tensorflow_datasets.image_classification.cifar',
        'location': {'urls': ['https://www.cs.toronto.edu/~kriz/cifar.html']},
    }
    store.write_description(path, features, splits, about)


def order(split: str, examples: int) -> list[int]:
    """The order in which TFDS stores a split: by the MD5 of the split's name and the example's number."""

    def key(index: int) -> bytes:
        return hashlib.md5(f'{split}{index}'.encode(), usedforsecurity=False).digest()

    return sorted(range(examples), key=key)


def _examples(
    split: str, images: np.ndarray, labels: dict[str, np.ndarray], progress: Progress
) -> Iterator[dict[str, Any]]:
    for done, index in enumerate(order(split, len(images)), start=1):
        numbers = {label: int(values[index]) for label, values in labels.items()}
        yield {'id': f'{split}_{index:05}', 'image': encode_png(images[index]), **numbers}
        if done % 1000 == 0 or done == len(images):
            progress(f'writing {split}', done, len(images))
