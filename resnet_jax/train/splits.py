"""A dataset for the devices of a run: what fits lives there, what does not is streamed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from resnet_jax import memory, spec
from resnet_jax.data import resident, sources
from resnet_jax.data.augment import IMAGENET, Normalization, statistics
from resnet_jax.data.resident import Examples
from resnet_jax.data.source import Part, chunks
from resnet_jax.data.stream import Streamed
from resnet_jax.data.views import views
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress, silent
from resnet_jax.runtime import mesh

SAMPLE = 50_000  # training images that the normalisation is taken of, evenly spaced, where there are more
AT_ONCE = 1000  # images decoded for it


@dataclass(frozen=True, eq=False)
class Splits:
    """A split is read, and placed on the devices, when it is first asked for.

    Attributes:
      placement: `run.placement`.
      workers: `run.workers`.
    """

    dataset: sources.Dataset
    sharding: NamedSharding
    placement: str
    workers: int

    @cached_property
    def train(self) -> Examples | Streamed:
        """The evaluation views; what is trained on is cut from the originals where `data.crop` says so."""
        return self._split('train')

    @cached_property
    def selection(self) -> Examples | Streamed:
        return self._split('selection')

    @cached_property
    def test(self) -> Examples | Streamed:
        return self._split('test')

    @cached_property
    def normalization(self) -> Normalization:
        """Of `data.normalize`: ImageNet's, or what the evaluation views of the training split give."""
        how = self.dataset.data.normalize
        found = IMAGENET if how == 'imagenet' else statistics(self._sample(), how)
        return mesh.place(found, self.sharding)

    @property
    def devices(self) -> Mesh:
        devices = self.sharding.mesh
        assert isinstance(devices, Mesh)  # and no abstract one: these are real devices
        return devices

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @cached_property
    def streamed(self) -> bool:
        """Are the test images streamed? As the run says, or else where they do not fit the device: whatever there is of
        the training images, which need not be there.

        Raises:
          UserError: it says what cannot be.
        """
        if self.placement == 'stream' and self.dataset.data.dataset in spec.PIXELS_ALREADY:
            raise UserError(f'config.run.placement is stream, but the images of {self.dataset.data.dataset} are pixels '
                            'in memory already; leave it at auto')  # fmt: skip
        return self.placement == 'stream' or self._too_large('test')

    @property
    def training_streamed(self) -> bool:
        """Are the training images streamed? Crops of the originals always are.

        Raises:
          UserError: the run says what cannot be.
        """
        crop = self.dataset.data.crop
        if crop != 'view' and self.placement == 'device':
            raise UserError(f'config.run.placement is device, but data.crop {crop} cuts from the originals, which are '
                            'streamed; set data.crop=view or leave the placement at auto')  # fmt: skip
        return crop != 'view' or self.streamed or self._too_large('test', 'train')

    def skipped(self, name: str) -> list[str]:
        """What of a split could not be read when it was read last, where and why."""
        split = getattr(self, name)
        return split.skipped if isinstance(split, Streamed) else self.dataset.skipped.get(name, [])

    def read(self) -> 'Splits':
        """Itself, with all read now that training needs and that fits: what is damaged is found before anything is
        computed."""
        for name in ('test',) if self.training_streamed else ('train', 'test'):
            getattr(self, name)
        return self

    def _too_large(self, *names: str) -> bool:
        """Do these splits not fit the device together, where the run leaves open what to do then?"""
        if self.placement != 'auto':
            return False
        count = sum(map(self.dataset.count, names))
        return count * math.prod(spec.image_shape(self.dataset.data)) > memory.room()

    def _split(self, name: str) -> Examples | Streamed:
        if self.streamed or (name == 'train' and self._too_large('test', 'train')):
            data, dataset = self.dataset.data, self.dataset
            return Streamed(name, dataset.source(name), data, spec.image_shape(data), self.sharding)
        split = getattr(self.dataset, name)
        return mesh.place(resident.Examples(split.images, split.labels), self.sharding)

    def _sample(self) -> Iterator[np.ndarray]:
        """Evaluation views of training images, some at a time."""
        dataset, data = self.dataset, self.dataset.data
        if not self.training_streamed:
            yield from np.array_split(dataset.train.images, -(-len(dataset.train) // AT_ONCE))
            return
        source = dataset.source('train')
        taken = np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int)
        for part in chunks(len(taken), AT_ONCE):
            some = Part(source, taken[part.start : part.stop])
            yield views(some, 'train', spec.image_shape(data), data.crop_fraction, data.corrupt, silent)[0]
            dataset.progress('normalisation', part.stop, len(taken))


def place_dataset(config: ConfigDict, sharding: NamedSharding, progress: Progress = silent) -> Splits:
    """The dataset of a config, for the devices of `sharding`."""
    return Splits(sources.load(config.data, progress), sharding, config.run.placement, config.run.workers)
