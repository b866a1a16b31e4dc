"""Where a run begins: from its seed, or from the variables of another run (fine-tuning)."""

from pathlib import Path

import jax
from ml_collections import ConfigDict
from optax import GradientTransformation

from resnet_jax import spec, validity
from resnet_jax.errors import UserError
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import directory, mesh
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.state import TrainState, initial_state


def make_network(config: ConfigDict) -> ResNet:
    """The network of a validated config, as it is to be run."""
    return ResNet(spec.architecture(config), config.run.scan_from, tuple(config.train.frozen), config.run.remat)


def starting_state(network: ResNet, optimizer: GradientTransformation, config: ConfigDict) -> TrainState:
    """The state of step 0: a function of the seed, and of the run `train.start_from` where there is one.

    Raises:
      UserError: that run is of another network, or saw its images otherwise; the first difference is named.
    """
    average = config.train.ema > 0
    state = initial_state(network, optimizer, config.seed, average=average)
    if not config.train.start_from:
        return state
    _check_settings(directory.read_config(Path(config.train.start_from)), config)
    there = stored_state(Path(config.train.start_from)).variables
    params = dict(there['params'])
    if config.train.new_head:
        params['head'] = {**params['head'], 'dense': state.params['head']['dense']}
    _check_alike(
        {'params': params, 'batch_stats': there['batch_stats']}, state.variables, config.train.start_from
    )  # fmt: skip
    variables = {'params': params, 'batch_stats': there['batch_stats']}
    return state._replace(**variables, ema=variables if average else {})


def stored_state(run_dir: Path, step: int | None = None) -> TrainState:
    """All that a run's checkpoint holds: of that step, or the newest.

    Raises:
      UserError: there is no such run or checkpoint, or it is damaged.
    """
    config = directory.read_config(run_dir)
    validity.check(config)
    step, whole = found_step(run_dir, step), mesh.whole(mesh.all_devices())
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), like_state(config))
    return open_checkpoints(run_dir, config, read_only=True).restore(step, like)


def like_state(config: ConfigDict) -> TrainState:
    """The shapes of a run's state."""
    return jax.eval_shape(
        lambda: initial_state(make_network(config), make_optimizer(config), config.seed, average=config.train.ema > 0)
    )


def open_checkpoints(run_dir: Path, config: ConfigDict, *, read_only: bool = False) -> Checkpoints:
    """The checkpoints of a run, kept as it says."""
    run = config.run
    return Checkpoints(
        run_dir, directory.own_place(config), keep=run.keep, keep_best=run.keep_best, snapshots=run.snapshots,
        read_only=read_only,
    )  # fmt: skip


def found_step(run_dir: Path, step: int | None) -> int:
    """The step of a run's newest checkpoint, or `step` where it has that.

    Raises:
      UserError: it has not; with those that there are. Or it is a directory of several runs, one a seed.
    """
    config = directory.read_config(run_dir)
    if len(seeds := spec.seeds(config)) > 1:
        raise UserError(f'{run_dir} holds {len(seeds)} runs, one a seed; give one of them: {run_dir}/seed{seeds[0]} to '
                        f'{run_dir}/seed{seeds[-1]}')  # fmt: skip
    steps = open_checkpoints(run_dir, config, read_only=True).steps
    if not steps or (step is not None and step not in steps):
        there = ', '.join(map(str, steps)) or 'none'
        wanted = 'checkpoint' if step is None else f'checkpoint of step {step}'
        raise UserError(f'{run_dir} has no {wanted} (it has: {there}); train it: resnet-jax train --run {run_dir}')
    return steps[-1] if step is None else step


# In these two runs may differ and still compute the same of the same variables.
FREE = ('network.dropout', 'network.head_dropout', 'network.shortcut_dropout', 'network.norm_examples',
        'network.norm_momentum')  # fmt: skip


def _check_settings(there: ConfigDict, here: ConfigDict) -> None:
    """Would the variables mean the same here?"""
    theirs, ours = spec.flatten(there), spec.flatten(here)
    for key in ours:
        matters = (key.startswith('network.') and key not in FREE) or key == 'data.normalize'
        if matters and theirs.get(key) != ours[key]:
            raise UserError(
                f'train.start_from {here.train.start_from} was trained with {key} {theirs.get(key)!r}, here it is '
                f'{ours[key]!r}; what was learned would mean something else: set --config.{key} to what it was there'
            )


def _check_alike(there: dict, here: dict, start_from: str) -> None:
    theirs, ours = _shapes(there), _shapes(here)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            hint = 'set train.new_head=True' if name.startswith('params/head/dense/') else 'the images differ in shape'
            raise UserError(
                f'train.start_from {start_from}: {name} is {theirs.get(name, "absent")} there, '
                f'{ours.get(name, "absent")} here; {hint}'
            )


def _shapes(params: dict) -> dict[str, list[int]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator='/'): list(leaf.shape) for path, leaf in leaves}
