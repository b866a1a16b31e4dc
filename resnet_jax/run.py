"""A run, opened: `run = resnet_jax.load('runs/digits')`, then `run.evaluate()`, `run.lesion([3, 7])`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resnet_jax import memory, spec, validity
from resnet_jax.analysis.features import check_names, features
from resnet_jax.analysis.lesion import delete, deletion
from resnet_jax.analysis.saliency import saliency
from resnet_jax.data import resident
from resnet_jax.data.augment import Normalization, normalize
from resnet_jax.errors import UserError
from resnet_jax.models.gates import Gates
from resnet_jax.models.resnet import ResNet
from resnet_jax.progress import Progress, silent
from resnet_jax.runtime import directory, mesh
from resnet_jax.train.evaluate import Evaluation, evaluate
from resnet_jax.train.many_views import evaluate_views
from resnet_jax.train.splits import Splits, place_dataset
from resnet_jax.train.start import found_step, make_network, stored_state
from resnet_jax.train.state import TrainState

SPLITS = ('train', 'selection', 'test')


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network with its data. What is costly (variables, dataset) is read when first asked for.

    Attributes:
      path: its directory.
      config: as it was resolved when the run started last.
      step: of the checkpoint that is open.
      progress: hears of a dataset that is read.
      shared: the dataset, where another run of the same one has it already.
    """

    path: Path
    config: ConfigDict
    step: int
    progress: Progress = silent
    shared: Splits | None = None

    def at(self, step: int) -> 'Run':
        """The same run at another of its checkpoints.

        Raises:
          UserError: it has none of that step.
        """
        return replace(self, step=found_step(self.path, step), shared=self.dataset)

    @cached_property
    def diverged(self) -> bool:
        """Did its training end with a loss or a parameter that is not finite?"""
        return directory.diverged(self.path)

    @property
    def imported(self) -> bool:
        """Do its weights come from a file of another library?"""
        return directory.imported(self.path)

    @cached_property
    def network(self) -> ResNet:
        return make_network(self.config)

    @cached_property
    def title(self) -> str:
        """The name of its kind of network."""
        return directory.read_title(self.path)

    @cached_property
    def state(self) -> TrainState:
        """All that the checkpoint holds."""
        return stored_state(self.path, self.step)

    @property
    def variables(self) -> dict:
        """`{'params', 'batch_stats'}`."""
        return self.state.variables

    @cached_property
    def dataset(self) -> Splits:
        return self.shared or place_dataset(self.config, mesh.whole(mesh.all_devices()), self.progress)

    @cached_property
    def normalization(self) -> Normalization:
        """As the run's directory states it: neither evaluation nor prediction needs the training images."""
        (mean, deviation), _ = directory.read_preprocessing(self.path)
        return jax.device_put(Normalization(mean, deviation), mesh.whole(mesh.all_devices()))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Their names, in order of labels."""
        return directory.read_preprocessing(self.path)[1]

    def evaluate(self, split: str = 'test') -> Evaluation:
        """Loss, correct and examples of a split (train, selection or test)."""
        return self._evaluate(split, None)

    def lesion(self, blocks: Iterable[int], split: str = 'test') -> Evaluation:
        """The same after deleting the blocks of these numbers, counted from 1 in network order.

        Raises:
          UserError: a block does not exist, or nothing would pass in its place.
        """
        return self._evaluate(split, self._gates(blocks))

    def evaluate_views(self, views: str, split: str = 'test') -> Evaluation:
        """The same by the mean over ten crops (`ten_crop`) or five scales (`multi_scale`) of each image.

        Raises:
          UserError: the dataset has no image files, or the network takes images of one size alone.
        """
        data = self.config.data
        if data.dataset in spec.PIXELS_ALREADY:
            raise UserError(f'the images of {data.dataset} have one view each; leave out --views')
        self._check_split(split)
        return evaluate_views(
            self.network, self.variables, self.dataset.dataset.source(split), self.normalization,
            data=data, views=views, progress=self.progress,
        )  # fmt: skip

    def predict(self, images: np.ndarray | jax.Array, delete: Iterable[int] = ()) -> np.ndarray:
        """Softmax probabilities, float32 (n, classes), of images as the dataset stores them, uint8 (n, h, w, c).

        Args:
          delete: blocks to delete, numbered from 1.
        """
        return self._over_batches(partial(_probabilities, self.network), images, self._gates(delete))

    def features(
        self, names: Sequence[str], images: np.ndarray | jax.Array, delete: Iterable[int] = ()
    ) -> dict[str, np.ndarray]:
        """Features by name, each (n, …), of images as `predict` takes them: stem, stage1, …, block:N, pool, logits.

        Raises:
          UserError: there is no feature of that name, or all of them would not fit the memory.
        """
        check_names(self.network.arch, names)
        apply, gates = partial(features, self.network, names=tuple(names)), self._gates(delete)
        one = jax.ShapeDtypeStruct((1, *self.network.arch.image_shape), jnp.float32)
        shapes = jax.eval_shape(apply, self.variables, one, gates)
        sizes = {name: each.size * each.dtype.itemsize for name, each in shapes.items()}
        memory.check_fits(f'{", ".join(names)} of {len(images):,} images', len(images) * sum(sizes.values()),
                          f'ask for less: the largest is {max(sizes, key=sizes.__getitem__)}')  # fmt: skip
        found = self._over_batches(apply, images, gates)
        return {name: found[name] for name in names}  # JAX sorts them

    def saliency(self, images: np.ndarray | jax.Array, classes: np.ndarray) -> np.ndarray:
        """Where the probability of these classes (n,) comes from in images as `predict` takes them: (n, h, w)."""
        apply = partial(saliency, self.network)
        inputs = normalize(jnp.asarray(images), self.normalization)
        labels = jnp.asarray(classes)
        # One at a time: what the backward pass keeps of an image is large.
        parts = [apply(self.variables, inputs[i : i + 1], labels[i : i + 1]) for i in range(len(labels))]
        return np.concatenate(jax.device_get(parts))

    def chunks(self, split: str) -> Iterator[tuple[jax.Array, jax.Array]]:
        """A split as (images as the network takes them, labels), whole on every device.

        It is `config.run.eval_batch` at a time, rounded up to the devices.
        """
        examples, batch = getattr(self.dataset, split), self.config.run.eval_batch
        batch += -batch % jax.device_count()
        for start in range(0, len(examples.labels), batch):
            part = resident.Examples(examples.images[start : start + batch], examples.labels[start : start + batch])
            yield normalize(part.images, self.normalization), part.labels

    def examples(self, split: str, count: int) -> tuple[jax.Array, jax.Array]:
        """The first `count` of a split (all, where it has fewer): images as the network takes them, labels."""
        there = getattr(self.dataset, split)
        return normalize(there.images[:count], self.normalization), there.labels[:count]

    def _gates(self, blocks: Iterable[int]) -> Gates | None:
        """Of a lesion; None for the network as it is."""
        lesion = deletion(self.network.arch, blocks)
        return delete(self.network.intact_gates(), lesion) if lesion.any() else None

    def _over_batches(self, apply: Callable, images: np.ndarray | jax.Array, gates: Gates | None):
        """`apply(variables, images, gates)` over all images, `config.run.eval_batch` at a time: arrays (n, …).

        Each batch is spread over the devices, so it is rounded up to a multiple of them. The last one is filled up with
        its last image, so that one program is compiled.
        """
        count, results = len(images), []
        if not count:
            one = jax.ShapeDtypeStruct((1, *self.network.arch.image_shape), jnp.float32)
            shapes = jax.eval_shape(apply, self.variables, one, gates)
            return jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), shapes)
        over, batch = mesh.spread(mesh.all_devices()), min(self.config.run.eval_batch, count)
        batch += -batch % over.num_devices
        for start in range(0, count, batch):
            places = np.minimum(np.arange(start, start + batch), count - 1)
            part = mesh.place(images[places], over)
            result = apply(self.variables, normalize(part, self.normalization), gates)
            results.append(jax.tree.map(lambda rows, start=start: np.asarray(rows)[: count - start], result))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *results)

    def _check_split(self, split: str) -> None:
        if split not in SPLITS:
            raise UserError(f'there is no split {split!r}; there are {", ".join(SPLITS)}')
        if not self.dataset.dataset.count(split):
            raise UserError(f'the {split} split of {self.path} is empty; train a run with data.{split} above 0')

    def _evaluate(self, split, gates) -> Evaluation:
        self._check_split(split)
        examples = getattr(self.dataset, split)
        return evaluate(
            self.network, self.variables, examples, self.normalization,
            batch=self.config.run.eval_batch, gates=gates,
        )  # fmt: skip


@partial(jax.jit, static_argnames='network')
def _probabilities(network, variables, images, gates):
    return jax.nn.softmax(network.apply(variables, images, gates, train=False))


def load(
    run_dir: str | Path, step: int | None = None, progress: Progress = silent, dataset: Splits | None = None
) -> Run:
    """Opens the run of a directory at its newest checkpoint, or at that of `step`.

    Args:
      progress: hears of a dataset that is read.
      dataset: its dataset, where another run has read it already.

    Raises:
      UserError: no run is there, or it has no such checkpoint.
    """
    path = Path(run_dir)
    config = directory.read_config(path)
    validity.check(config)
    return Run(path, config, found_step(path, step), progress, dataset)
