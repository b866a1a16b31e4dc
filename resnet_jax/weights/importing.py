"""Weights of torchvision and timm as a run of step 0, which every command takes."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.data import augment
from resnet_jax.errors import UserError
from resnet_jax.files import write_atomically
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import directory
from resnet_jax.runtime.environment import environment, fingerprint
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.start import open_checkpoints
from resnet_jax.train.state import TrainState, initial_state
from resnet_jax.weights import files, names
from resnet_jax.weights.files import Stored
from resnet_jax.weights.names import Tensor

SHOWN = 20  # of the tensors that do not fit
IGNORED = '.num_batches_tracked'  # a count that torch keeps and uses nowhere in these networks


class Found(NamedTuple):
    """Variables out of a file, whose names they bore there, and which dtypes were converted to float32: how many."""

    variables: dict
    library: str
    converted: dict[str, int]


def import_weights(file: Path, name: str, run_dir: Path, *, labels: Path | None = None, sha256: str = '') -> Found:
    """Makes `run_dir` a run whose checkpoint of step 0 holds the weights of a file; whole, or not at all.

    Args:
      file: a state dict as torchvision or timm names it: safetensors, or of torch.save.
      name: of the architecture, one of `names.REFERENCES`.
      labels: a file of the classes' names, one a line; None: they are numbers.
      sha256: what the file's must be; empty: whatever it is.

    Raises:
      UserError: the file, a tensor in it or the labels do not fit, or there is something in place of the run.
    """
    config = names.settings(name)
    if run_dir.exists():
        raise UserError(f'{run_dir} exists; give a new directory with --out')
    arch = spec.architecture(config)
    classes = read_labels(labels, arch.classes)
    read = files.read(file, sha256)
    found = take(read.tensors, arch, f'{file} is no {name}')
    # What the run began from is part of its identity: it is neither one from scratch, nor that of another file.
    config.train.update(start_from=f'sha256:{read.sha256}', new_head=False)
    record = {'file': file.name, 'sha256': read.sha256, 'format': read.format, 'names': found.library}
    _write(run_dir, config, found.variables, classes, record)
    return found


def read_labels(labels: Path | None, count: int) -> list[str]:
    """The names of `count` classes, one a line of a file; '0', '1', … without one."""
    if labels is None:
        return [str(label) for label in range(count)]
    try:
        found = [line.strip() for line in labels.read_text(encoding='utf-8').splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f'{labels} cannot be read ({error}); give a text file, one name a line') from None
    if len(found) != count:
        raise UserError(f'{labels} has {len(found)} lines; give one for each of the {count} classes')
    return found


def take(stored: dict[str, Stored], arch: Architecture, refusal: str) -> Found:
    """The variables of a network, float32, out of a state dict.

    Args:
      refusal: how the error begins, where a tensor is missing, surplus, of another shape, no float or not finite.

    Raises:
      UserError: with a line for each tensor that does not fit.
    """
    stored = {name: value for name, value in stored.items() if not name.endswith(IGNORED)}
    known = {library: names.tensors(arch, theirs) for library, theirs in names.libraries(arch).items()}
    library = max(known, key=lambda library: sum(tensor.name in stored for tensor in known[library]))
    if faults := _faults(known[library], stored, arch):
        more = [f'… and {len(faults) - SHOWN} more'] if len(faults) > SHOWN else []
        raise UserError('\n  '.join([f'{refusal} (by the names of {library}):', *faults[:SHOWN], *more]))
    variables = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), names.shapes(arch))
    for tensor in known[library]:
        names.put(tensor, _float32(stored[tensor.name]), variables)
    dtypes = Counter(stored[tensor.name].dtype for tensor in known[library])
    return Found(variables, library, {dtype: count for dtype, count in dtypes.items() if dtype != 'float32'})


def _faults(expected: Sequence[Tensor], stored: dict[str, Stored], arch: Architecture) -> list[str]:
    """A line for each tensor that does not fit."""
    faults = []
    for tensor in expected:
        found, wanted = stored.get(tensor.name), f'expected {_size(tensor.shape)}'
        if found is None:
            faults.append(f'{tensor.name}: {wanted}, found none')
        elif found.shape != tensor.shape:
            hint = f'; a classifier must have the {arch.classes} classes of the dataset' * (
                'head' in tensor.path and found.shape[1:] == tensor.shape[1:]
            )
            faults.append(f'{tensor.name}: {wanted}, found {_size(found.shape)}{hint}')
        elif found.values is None:
            faults.append(f'{tensor.name}: expected floats, found {found.dtype}')
        elif not np.isfinite(_float32(found)).all():
            faults.append(f'{tensor.name}: expected finite numbers, found NaN or infinity')
    surplus = stored.keys() - {tensor.name for tensor in expected}
    return faults + [f'{name}: expected none, found {_size(stored[name].shape)}' for name in sorted(surplus)]


def _size(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape)) or 'a number'


def _float32(stored: Stored) -> np.ndarray:
    with np.errstate(over='ignore'):  # what float64 alone can hold becomes infinite, and is refused
        return np.asarray(stored.values, np.float32)


def _write(run_dir: Path, config: ConfigDict, variables: dict, classes: Sequence[str], record: dict) -> None:
    """The whole run, made beside its place and then moved there."""
    partial = run_dir.absolute().with_name(f'.{run_dir.name}.{os.getpid()}.partial')
    try:
        partial.mkdir(parents=True)
        directory.create(partial, config)
        directory.write_environment(partial, environment())
        directory.write_preprocessing(partial, augment.IMAGENET, classes, '')
        checkpoints = open_checkpoints(partial, config)
        checkpoints.save(0, _state(config, variables), fingerprint(config.run))
        checkpoints.wait()
        checkpoints.close()
        write_atomically(partial / 'weights.json', (json.dumps(record, indent=2) + '\n').encode())
        partial.rename(run_dir)
    except OSError as error:
        raise UserError(f'cannot write {run_dir} ({error.strerror}); give another directory with --out') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _state(config: ConfigDict, variables: dict) -> TrainState:
    """The state of step 0, but for the variables. Compiled as a whole, what initialisation would draw is not drawn."""
    network, optimizer = ResNet(spec.architecture(config)), make_optimizer(config)

    def make(variables: dict) -> TrainState:
        state = initial_state(network, optimizer, config.seed)
        return state._replace(**variables, opt_state=optimizer.init(variables['params']))

    return jax.jit(make)(variables)
