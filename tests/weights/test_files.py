"""Files of tensors: what is read, what is refused, and that nothing in them runs."""

import hashlib
import json
import os
import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from resnet_jax.errors import UserError
from resnet_jax.weights import files


def write(path, dtype, shape, data):
    """A safetensors file of one tensor `x`, by its published format."""
    header = json.dumps({'x': {'dtype': dtype, 'shape': shape, 'data_offsets': [0, len(data)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, 'little') + header + data)
    return path


@pytest.mark.parametrize(('dtype', 'ours'), [
    ('F64', 'float64'), ('F32', 'float32'), ('F16', 'float16'), ('BF16', 'bfloat16'),
])  # fmt: skip
def test_floats_are_read_to_the_bit(tmp_path, dtype, ours):
    values = np.array([[0.5, -1.25, 3.0]], jnp.dtype(ours))
    read = files.read(write(tmp_path / 'x.safetensors', dtype, [1, 3], values.tobytes()))
    assert read.format == 'safetensors' and read.tensors['x'].dtype == ours and read.tensors['x'].shape == (1, 3)
    np.testing.assert_array_equal(read.tensors['x'].values, values, strict=True)


@pytest.mark.parametrize('dtype', ['I64', 'U8', 'BOOL', 'F8_E4M3'])
def test_what_is_no_float_has_a_dtype_and_no_values(tmp_path, dtype):
    size = 8 if dtype == 'I64' else 1
    read = files.read(write(tmp_path / 'x.safetensors', dtype, [2], bytes(2 * size)))
    assert read.tensors['x'] == (dtype, (2,), None)


def test_the_hash_is_that_of_the_file_and_is_compared_first(tmp_path):
    path = tmp_path / 'x.safetensors'
    safetensors.numpy.save_file({'x': np.zeros(2, np.float32)}, path)
    true = hashlib.sha256(path.read_bytes()).hexdigest()
    assert files.read(path).sha256 == files.read(path, true.upper()).sha256 == true
    path.write_bytes(b'no tensors')
    with pytest.raises(UserError, match=f'not {true}; it was changed or cut short'):
        files.read(path, true)


@pytest.mark.parametrize('data', [b'', b'{}', b'\xff' * 64, (1 << 40).to_bytes(8, 'little') + b'{}'])
def test_what_is_no_safetensors_file_is_refused(tmp_path, data):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(data)
    with pytest.raises(UserError, match='is no whole safetensors file'):
        files.read(path)


def test_a_file_cut_short_is_refused(tmp_path):
    path = tmp_path / 'x.safetensors'
    data = safetensors.numpy.save({'x': np.zeros(20, np.float32)})
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match='is no whole safetensors file'):
        files.read(path)


@pytest.mark.parametrize('name', ['weights.npz', 'weights', 'weights.pkl'])
def test_other_formats_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b'')
    with pytest.raises(UserError, match=r'must end in \.safetensors, \.pt or \.pth'):
        files.read(tmp_path / name)


@pytest.mark.parametrize('name', ['absent.safetensors', 'absent.pth'])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(UserError, match=f'{name} cannot be read'):
        files.read(tmp_path / name)


def test_without_pytorch_it_is_said_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / 'x.pth').write_bytes(b'')
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(UserError, match='PyTorch, which is not installed; install the extra `torch`'):
        files.read(tmp_path / 'x.pth')


@pytest.fixture
def torch():
    return pytest.importorskip('torch')


@pytest.mark.torch
@pytest.mark.parametrize('name', ['x.pt', 'x.pth'])
@pytest.mark.parametrize('dtype', ['float64', 'float32', 'float16', 'bfloat16'])
def test_what_torch_saved_is_read_to_the_bit(tmp_path, torch, name, dtype):
    torch.save({'x': torch.tensor([0.5, -1.25, 3.0]).to(getattr(torch, dtype))}, tmp_path / name)
    read = files.read(tmp_path / name)
    assert read.format == 'torch' and read.tensors['x'].dtype == dtype
    np.testing.assert_array_equal(read.tensors['x'].values, np.array([0.5, -1.25, 3.0], jnp.dtype(dtype)))


@pytest.mark.torch
def test_torch_tensors_that_are_no_floats_have_no_values(tmp_path, torch):
    torch.save({'count': torch.tensor(3), 'sparse': torch.eye(2).to_sparse()}, tmp_path / 'x.pth')
    read = files.read(tmp_path / 'x.pth').tensors
    assert read == {'count': ('int64', (), None), 'sparse': ('sparse_coo float32', (2, 2), None)}


@pytest.mark.torch
def test_a_tensor_without_numbers_is_named(tmp_path, torch):
    torch.save({'x': torch.zeros(2), 'y': torch.zeros(2, device='meta')}, tmp_path / 'x.pth')
    with pytest.raises(UserError, match="has no numbers for 'y', which is on the device meta") as caught:
        files.read(tmp_path / 'x.pth')
    assert '\n' not in str(caught.value)


@pytest.mark.torch
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_a_sign_that_torch_only_noted_is_applied(tmp_path, torch, dtype):
    complex_dtype = {'float32': torch.complex64, 'float64': torch.complex128}[dtype]
    negative = torch.tensor([1 + 2j, 3 - 4j], dtype=complex_dtype).conj().imag
    assert negative.is_neg()
    torch.save({'x': negative}, tmp_path / 'x.pth')
    np.testing.assert_array_equal(files.read(tmp_path / 'x.pth').tensors['x'].values, np.array([-2, 4], dtype))


class Payload:
    """Unpickled, it makes the directory `marker`."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.torch
@pytest.mark.parametrize('how', ['pickle', 'torch', 'torch, within a state dict'])
def test_a_pickle_that_would_run_code_is_refused_and_never_runs(tmp_path, torch, how):
    marker, path = tmp_path / 'marker', tmp_path / 'x.pth'
    if how == 'pickle':
        path.write_bytes(pickle.dumps(Payload(marker), protocol=2))  # the one that torch writes
    elif how == 'torch':
        torch.save(Payload(marker), path)
    else:
        torch.save({'conv1.weight': torch.zeros(2), 'bn1.weight': Payload(marker)}, path)
    with pytest.raises(
        UserError, match=r'is refused: it is a pickle that calls \w+\.mkdir; save the state dict'
    ) as caught:
        files.read(path)
    assert '\n' not in str(caught.value)
    assert not marker.exists()
    # The payload is live.
    if how == 'pickle':
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.is_dir()


@pytest.mark.torch
@pytest.mark.parametrize('data', [b'', b'no pickle at all', b'PK\x03\x04' + bytes(64), b'\x80\x02}q\x00.'[:-2]])
def test_a_damaged_file_of_torch_is_refused(tmp_path, torch, data):
    (tmp_path / 'x.pth').write_bytes(data)
    with pytest.raises(UserError, match='is refused: it is damaged'):
        files.read(tmp_path / 'x.pth')


@pytest.mark.torch
@pytest.mark.parametrize('make', [lambda zeros: [zeros], lambda zeros: {'state_dict': {'x': zeros}, 'epoch': 3}])
def test_what_is_no_state_dict_is_refused(tmp_path, torch, make):
    torch.save(make(torch.zeros(2)), tmp_path / 'x.pth')
    with pytest.raises(UserError, match='is no state dict'):
        files.read(tmp_path / 'x.pth')


@pytest.mark.torch
def test_an_older_pytorch_is_refused(tmp_path, torch, monkeypatch):
    torch.save({'x': torch.zeros(2)}, tmp_path / 'x.pth')
    monkeypatch.setattr(torch, '__version__', '2.9.1+cpu')
    with pytest.raises(UserError, match=r'PyTorch 2\.9\.1\+cpu reads .* unsafely, take 2\.10 or newer'):
        files.read(tmp_path / 'x.pth')
