"""Datasets that are pixels already, and no encoded images: handwritten digits, and noise."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.data.hold_out import held_out

DIGITS_TEST = 359  # of 1,797
WHITE = {'digits': 16}  # what a dataset stores for white, where that is not 255


@dataclass(frozen=True, eq=False)
class Split:
    images: np.ndarray  # uint8 (n, h, w, c)
    labels: np.ndarray  # int32 (n,)

    def __len__(self) -> int:
        return len(self.labels)


def _digits(data: ConfigDict) -> tuple[Split, Split, tuple[str, ...]]:
    """scikit-learn's handwritten digits, (n, 8, 8, 1): counts of inked pixels, 0 to 16, left as they are."""
    package: Any = find_spec('sklearn')  # its file alone: to import it takes longer than a small network's first step
    file = Path(package.submodule_search_locations[0]) / 'datasets' / 'data' / 'digits.csv.gz'
    table = np.loadtxt(file, np.uint8, delimiter=',')  # 64 pixels and the digit
    images, labels = table[:, :-1].reshape(-1, 8, 8, 1), table[:, -1].astype(np.int32)
    test = held_out(labels, DIGITS_TEST)
    return Split(images[~test], labels[~test]), Split(images[test], labels[test]), tuple('0123456789')


def _synthetic(data: ConfigDict) -> tuple[Split, Split, tuple[str, ...]]:
    """Noise with random labels: what costs time in a real run but reading and decoding."""
    random, labels = np.random.RandomState(0), spec.outputs(data)

    def noise(count: int) -> Split:
        images = random.randint(0, 256, (count, *spec.image_shape(data)), np.uint8)
        return Split(images, random.randint(0, labels, count).astype(np.int32))

    return noise(spec.DATASETS['synthetic'][2]), noise(TESTS['synthetic']), tuple(map(str, range(labels)))


MADE_BY = {'digits': _digits, 'synthetic': _synthetic}
PLACES = {'digits': 'in scikit-learn', 'synthetic': 'noise, made when it is asked for'}
TESTS = {'digits': DIGITS_TEST, 'synthetic': 256}
