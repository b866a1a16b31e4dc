"""A run, opened: `run = resnet_jax.load('runs/digits')`, then `run.evaluate()`, `run.lesion([3, 7])`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.analysis.lesion import delete, deletion
from resnet_jax.data import resident
from resnet_jax.data.augment import normalize
from resnet_jax.errors import UserError
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import directory, mesh
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train.evaluate import Evaluation, evaluate
from resnet_jax.train.loop import Splits, place_dataset
from resnet_jax.train.optimizer import sgd
from resnet_jax.train.state import TrainState, initial_state

SPLITS = ('train', 'selection', 'test')


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network with its data. What is costly (variables, dataset) is read when first asked for.

    Attributes:
      path: its directory.
      config: as it was resolved when the run started last.
      step: of the checkpoint that is open.
    """

    path: Path
    config: ConfigDict
    step: int

    @cached_property
    def network(self) -> ResNet:
        return ResNet(spec.architecture(self.config), self.config.run.scan_unroll)

    @cached_property
    def state(self) -> TrainState:
        """All that the checkpoint holds."""
        optimizer = sgd(self.config.train)
        like = jax.eval_shape(lambda: initial_state(self.network, optimizer, self.config.seed))
        whole = mesh.whole(mesh.data_mesh(jax.device_count()))
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), like)
        return Checkpoints(self.path, read_only=True).restore(self.step, like)

    @property
    def variables(self) -> dict:
        """`{'params', 'batch_stats'}`."""
        return self.state.variables

    @cached_property
    def dataset(self) -> Splits:
        return place_dataset(self.config.data, mesh.whole(mesh.data_mesh(jax.device_count())))

    def evaluate(self, split: str = 'test') -> Evaluation:
        """Loss, correct and examples of a split (train, selection or test)."""
        return self._evaluate(split, None)

    def lesion(self, blocks: Iterable[int], split: str = 'test') -> Evaluation:
        """The same after deleting the blocks of these numbers, counted from 1 in network order.

        Raises:
          UserError: a block does not exist, or nothing would pass in its place.
        """
        lesion = deletion(self.network.arch, blocks)
        return self._evaluate(split, delete(self.network.intact_gates(), lesion))

    def chunks(self, split: str) -> Iterator[tuple[jax.Array, jax.Array]]:
        """A split as (images as the network takes them, labels), `config.run.eval_batch` at a time."""
        examples, batch = getattr(self.dataset, split), self.config.run.eval_batch
        for start in range(0, len(examples.labels), batch):
            part = resident.Examples(examples.images[start : start + batch], examples.labels[start : start + batch])
            yield normalize(part.images, self.dataset.normalization), part.labels

    def _evaluate(self, split, gates) -> Evaluation:
        if split not in SPLITS:
            raise UserError(f'there is no split {split!r}; there are {", ".join(SPLITS)}')
        examples = getattr(self.dataset, split)
        if not len(examples.labels):
            raise UserError(f'the {split} split of {self.path} is empty; train a run with data.{split} above 0')
        return evaluate(
            self.network, self.variables, examples, self.dataset.normalization,
            batch=self.config.run.eval_batch, gates=gates,
        )  # fmt: skip


def load(run_dir: str | Path, step: int | None = None) -> Run:
    """Opens the run of a directory at its newest checkpoint, or at that of `step`.

    Raises:
      UserError: no run is there, or it has no such checkpoint.
    """
    path = Path(run_dir)
    config = directory.read_config(path)
    spec.validate(config)
    steps = Checkpoints(path, read_only=True).steps if (path / 'checkpoints').is_dir() else []
    if not steps or (step is not None and step not in steps):
        there = ', '.join(map(str, steps)) or 'none'
        wanted = 'checkpoint' if step is None else f'checkpoint of step {step}'
        raise UserError(f'{path} has no {wanted} (it has: {there}); train it: resnet-jax train --run {path}')
    return Run(path, config, steps[-1] if step is None else step)
