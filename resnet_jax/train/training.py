"""What a run is made of, and how it is opened: in an empty directory, or where it was left."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from optax import GradientTransformation

from resnet_jax.data.order import Plan, plan
from resnet_jax.errors import UserError
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import directory, mesh, processes
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.runtime.environment import differences, fingerprint
from resnet_jax.train.feeding import Feeding, feeding
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.recorder import Recorder
from resnet_jax.train.splits import Splits, place_dataset
from resnet_jax.train.start import like_state, make_network, open_checkpoints, starting_state
from resnet_jax.train.state import TrainState, layout_of


class Shared(NamedTuple):
    """What runs have in common that differ in their seeds alone; data are read, and on the devices, once for all.

    Attributes:
      plan: of the first seed.
      like, layout: shapes of a state, and where its arrays lie.
    """

    network: ResNet
    optimizer: GradientTransformation
    splits: Splits
    plan: Plan
    like: TrainState
    layout: TrainState
    feeding: Feeding


class Training(NamedTuple):
    """What a run is made of."""

    config: ConfigDict
    network: ResNet
    splits: Splits
    plan: Plan
    feeding: Feeding
    checkpoints: Checkpoints
    recorder: Recorder


def open_shared(
    stack: ExitStack, config: ConfigDict, run_dirs: Iterable[Path], watch: Callable[[dict], None]
) -> Shared:
    """What the runs in these directories share, that of `config` and of its other seeds. `stack` closes it.

    Raises:
      UserError: what the config asks for cannot be; nothing was changed in directories that are not these runs'.
    """
    devices = mesh.all_devices(config.run.fsdp)
    splits, examples = _read_data(config, devices, watch)
    for run_dir in run_dirs:
        processes.on_first(partial(directory.check_data, run_dir, splits.dataset.fingerprint))
    network, optimizer = make_network(config), make_optimizer(config)
    like = like_state(config)
    layout = layout_of(like, devices)
    watch({'kind': 'layout', 'mesh': devices, 'shares': mesh.shares(like, layout, _part)})
    schedule = plan(config, examples, network.arch.image_shape[0])
    fed = feeding(network, optimizer, config, splits, schedule, layout)
    stack.callback(fed.close)
    return Shared(network, optimizer, splits, schedule, like, layout, fed)


def open_training(
    stack: ExitStack, shared: Shared, config: ConfigDict, run_dir: Path, watch: Callable[[dict], None]
) -> tuple[Training, TrainState]:
    """A run and the state it begins with, that of its newest checkpoint if it has one. `stack` closes it.

    Raises:
      UserError: its checkpoints are damaged, or of another network.
    """
    network, optimizer, splits, schedule, like, layout, fed = shared
    checkpoints = open_checkpoints(run_dir, config)
    stack.callback(checkpoints.close)
    if checkpoints.steps:
        state = _resumed(config.run, checkpoints, like, layout, partial(_note, watch))
    else:
        state = mesh.place(starting_state(network, optimizer, config), layout)
    recorder = _recorder(config, run_dir, splits, int(state.step), watch)
    stack.callback(recorder.close)
    checkpoints.errors.update(_selection_errors(recorder.kept))
    own = replace(schedule, seed=config.seed)
    return Training(config, network, splits, own, fed, checkpoints, recorder), state


def _read_data(config: ConfigDict, devices: Mesh, watch: Callable[[dict], None]) -> tuple[Splits, int]:
    """The data, of which all is read now that fits; and how many examples there are to train on."""
    splits = place_dataset(config, mesh.whole(devices), partial(_loading, watch))
    _check_batch(config, splits.dataset.count('train'))
    splits.read()
    examples = splits.dataset.count('train') if splits.training_streamed else len(splits.train.labels)
    _check_batch(config, examples)  # what was skipped is not among them
    return splits, examples


def _check_batch(config: ConfigDict, examples: int) -> None:
    """Refuses a batch that is larger than the training split, of which the data alone tell what the settings leave."""
    if examples < (largest := max(config.train.batch_size, *config.train.phases.batch_sizes, 0)):
        raise UserError(
            f'config.train.batch_size is {largest}; it must be at most the {examples} training '
            f'examples that the settings of data leave (data.classes {config.data.classes}, data.selection '
            f'{config.data.selection})'
        )


def _part(path: tuple) -> str:
    """Of the state's table: parameters by stage, all else by its kind."""
    kind = path[0].name
    return path[1].key if kind == 'params' else {'opt_state': 'optimizer', 'ema': 'average'}.get(kind, 'BN and counts')


def _resumed(
    run: ConfigDict, checkpoints: Checkpoints, like: TrainState, layout: TrainState, note: Callable[[str], None]
) -> TrainState:
    """The newest checkpoint's state, which is like this one."""
    shapes = jax.tree.map(lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to), like, layout)
    state, before = checkpoints.restore_newest(shapes, note)
    changes = differences(before, fingerprint(run))
    exactly = f'within float tolerance ({"; ".join(changes)})' if changes else 'exactly'
    note(f'resumed {exactly} at step {int(state.step):,}')
    return state


def _recorder(config: ConfigDict, run_dir: Path, splits: Splits, step: int, watch: Callable[[dict], None]) -> Recorder:
    """Of a directory that is this run's from here on: all was found to be possible."""

    def begin() -> None:
        directory.create(run_dir, config)
        directory.write_preprocessing(run_dir, splits.normalization, splits.classes, splits.dataset.fingerprint)

    processes.on_first(begin)
    run = config.run
    return Recorder(run_dir, step, watch, tensorboard=run.tensorboard, unsaved=run.unsaved, wandb=run.wandb)


def _selection_errors(records: list[dict]) -> dict[int, float]:
    return {record['step']: record['error'] for record in records if record['kind'] == 'selection'}


def _loading(watch: Callable[[dict], None], what: str, done: int, total: int) -> None:
    watch({'kind': 'loading', 'what': what, 'done': done, 'total': total})


def _note(watch: Callable[[dict], None], text: str) -> None:
    watch({'kind': 'note', 'text': text})
