"""Checkpoints in an object store, which an emulator on loopback stands for; by hand, as it needs what nobody else does:
pip install gcsfs gcp-storage-emulator
"""

import socket
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.runtime.checkpoint import Checkpoints

STATE = {'a': jnp.arange(10), 'b': {'c': jnp.ones((30, 30))}}


@pytest.fixture
def bucket(monkeypatch):
    pytest.importorskip('gcsfs', reason='needs gcsfs')
    server = pytest.importorskip('gcp_storage_emulator.server', reason='needs gcp-storage-emulator')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for name in ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'):
        monkeypatch.setenv(name, f'http://127.0.0.1:{port}')
    monkeypatch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'any')
    monkeypatch.setenv('GOOGLE_CLOUD_PROJECT', 'any')
    emulator = server.create_server('127.0.0.1', port, in_memory=True, default_bucket='bucket')
    emulator.start()
    yield 'gs://bucket/run'
    emulator.stop()


@pytest.mark.filterwarnings('default')
def test_checkpoints_in_a_bucket_are_saved_kept_and_restored(bucket):
    saving = Checkpoints(Path('none'), bucket, keep=2)
    for step in (1, 2, 3):
        saving.save(step, jax.tree.map(lambda leaf, step=step: leaf * step, STATE))
        saving.wait()
    opened = Checkpoints(Path('none'), bucket, keep=2)
    assert opened.steps == saving.steps == [2, 3]
    state, _ = opened.restore_newest(STATE, pytest.fail)
    jax.tree.map(np.testing.assert_array_equal, state, jax.tree.map(lambda leaf: leaf * 3, STATE))


def test_a_bucket_without_the_library_for_it_is_one_line():
    try:
        import gcsfs  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(UserError, match='pip install gcsfs') as error:
            Checkpoints(Path('none'), 'gs://bucket/run')
        assert '\n' not in str(error.value)


def test_a_store_that_orbax_cannot_write_to_is_refused():
    with pytest.raises(UserError, match='gs://'):
        Checkpoints(Path('none'), 's3://bucket/run')
