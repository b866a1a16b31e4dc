"""Files of tensors: safetensors, and what torch.save writes. Nothing in a file is ever executed."""

import hashlib
import io
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors

from resnet_jax.errors import UserError

TORCH_SUFFIXES = ('.pt', '.pth')
OLDEST_TORCH = (2, 10)  # earlier ones' weights_only=True has known holes
SAFETENSORS = {'F64': 'float64', 'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16'}
SAVE_ALONE = 'save the state dict alone: torch.save(model.state_dict(), FILE)'
FLOATS = tuple(SAFETENSORS.values())


class Stored(NamedTuple):
    """A tensor of a file. `values` are its own dtype's, None where that is no float of 16, 32 or 64 bits."""

    dtype: str
    shape: tuple[int, ...]
    values: np.ndarray | None


class File(NamedTuple):
    """What a file holds; `format` is safetensors or torch."""

    format: str
    sha256: str
    tensors: dict[str, Stored]


def read(path: Path, sha256: str = '') -> File:
    """Every tensor of a file by its name.

    Args:
      sha256: what the file's must be, in hexadecimal; empty: whatever it is.

    Raises:
      UserError: there is no such file, it has another hash, or it is no file of tensors and nothing else.
    """
    if path.suffix not in ('.safetensors', *TORCH_SUFFIXES):
        raise UserError(f'{path} must end in .safetensors, .pt or .pth, as what it holds is read by that')
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}); give the path of a file of weights') from None
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256.lower():
        raise UserError(f'{path} has sha256 {found}, not {sha256.lower()}; it was changed or cut short: get it anew')
    if path.suffix in TORCH_SUFFIXES:
        return File('torch', found, _read_torch(path, data))
    return File('safetensors', found, _read_safetensors(path, data))


def _read_safetensors(path: Path, data: bytes) -> dict[str, Stored]:
    try:
        parts = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise UserError(f'{path} is no whole safetensors file ({error}); get it anew') from None
    return {name: _stored(part) for name, part in parts}


def _stored(part: dict) -> Stored:
    name, shape = str(part['dtype']), tuple(part['shape'])
    dtype = SAFETENSORS.get(name, name)
    values = np.frombuffer(part['data'], jnp.dtype(dtype)).reshape(shape) if dtype in FLOATS else None
    return Stored(dtype, shape, values)


def _read_torch(path: Path, data: bytes) -> dict[str, Stored]:
    torch = _torch(path)
    try:
        with warnings.catch_warnings(action='ignore'):
            state = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
    except Exception as error:  # whatever torch meets in bytes that are not its own
        # Its text is not passed on: it recommends to load the file all the same, and run what is in it.
        if called := re.search(r'GLOBAL ([\w.]+)', str(error)):
            raise UserError(f'{path} is refused: it is a pickle that calls {called[1]}; {SAVE_ALONE}') from None
        raise UserError(f'{path} is refused: it is damaged, or nothing that torch.save wrote; get it anew') from None
    if not isinstance(state, dict):
        raise UserError(f'{path} is no state dict but a {type(state).__name__}; {SAVE_ALONE}')
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(f'{path} is no state dict: its {name!r} is a {type(value).__name__}; {SAVE_ALONE}')
        if value.is_meta:
            raise UserError(f'{path} has no numbers for {name!r}, which is on the device meta; save one that has')
    return {str(name): _taken(torch, value.detach()) for name, value in state.items()}


def _taken(torch, tensor) -> Stored:
    dtype = str(tensor.dtype).removeprefix('torch.')
    if tensor.layout != torch.strided:
        dtype = f'{str(tensor.layout).removeprefix("torch.")} {dtype}'
    if dtype not in FLOATS:
        return Stored(dtype, tuple(tensor.shape), None)
    tensor = tensor.resolve_neg()  # of a part of a conjugate, torch may note the sign alone
    # NumPy knows no bfloat16: its bits are handed over.
    values = tensor.view(torch.int16).numpy().view(jnp.bfloat16) if dtype == 'bfloat16' else tensor.numpy()
    return Stored(dtype, tuple(tensor.shape), values)


def _torch(path: Path):
    """The module torch, of a version that reads foreign files safely."""
    install = "install the extra `torch`: pip install -e '.[torch]' in the checkout; a .safetensors file needs none"
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f'{path} is read by PyTorch, which is not installed; {install}') from None
    if tuple(map(int, torch.__version__.split('.')[:2])) < OLDEST_TORCH:
        oldest = '.'.join(map(str, OLDEST_TORCH))
        raise UserError(f'PyTorch {torch.__version__} reads {path} unsafely, take {oldest} or newer; {install}')
    return torch
