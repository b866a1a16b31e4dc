"""A run's weights as a state dict that torchvision or timm loads."""

from pathlib import Path

import jax
import numpy as np
import safetensors.numpy

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.files import write_atomically
from resnet_jax.models.architecture import Architecture
from resnet_jax.run import load
from resnet_jax.weights import names


def export_weights(run_dir: Path, file: Path, library: str = '') -> str:
    """Writes the newest checkpoint's weights to a new safetensors file, float32; torch loads it with strict=True.

    Args:
      library: whose names, torchvision or timm; empty: torchvision's where it has the network, else timm's.

    Returns:
      The name of the network.

    Raises:
      UserError: the library has no such network, or the file is there or is to be of another format.
    """
    if file.suffix != '.safetensors':
        raise UserError(f'{file} must end in .safetensors, the one format that weights are written in')
    if file.exists():
        raise UserError(f'{file} exists; give a new file with --out')
    run = load(run_dir)
    name, arch = names.reference(run.config), run.network.arch
    check_map(name, arch)
    known = names.libraries(arch)
    library = library or next(iter(known))
    if library not in known:
        raise UserError(f'{library} has no names for {name}; export with --names {next(iter(known))}')
    tensors = state_dict(jax.device_get(run.variables), arch, known[library])
    try:
        write_atomically(file, safetensors.numpy.save(tensors, metadata={'format': 'pt'}))
    except OSError as error:
        raise UserError(f'cannot write {file} ({error.strerror}); give another file with --out') from None
    return name


def check_map(name: str, arch: Architecture) -> None:
    """Refuses a network whose first dense layer sees another map than the library's, which averages any to its own."""
    if arch.pool != 'flatten':
        return
    ours, theirs = (names.shapes(each)['params']['head']['dense1']['kernel'].shape[0] // arch.widths[-1]
                    for each in (arch, spec.architecture(names.settings(name))))  # fmt: skip
    if ours != theirs:
        size = 'x'.join(map(str, arch.image_shape[:2]))
        raise UserError(f'{name} of images of {size} flattens a map of {ours} pixels, the libraries\' one of {theirs}: '
                        'they cannot load it; only a run of data.dataset imagenet2012 can be exported')  # fmt: skip


def state_dict(variables: dict, arch: Architecture, theirs: names.Names) -> dict[str, np.ndarray]:
    """The tensors of a network's variables by their names, with torch's counts of batches (0), which it asks for."""
    found = {}
    for tensor in names.tensors(arch, theirs):
        found[tensor.name] = names.take(tensor, variables)
        if tensor.path[-1] == 'var':
            found[tensor.name.replace('running_var', 'num_batches_tracked')] = np.zeros((), np.int64)
    return found
