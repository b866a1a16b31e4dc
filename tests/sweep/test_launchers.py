"""What cannot be launched is refused in one line, before anything is written or begun."""

import socket
import subprocess
import sys

import pytest

from resnet_jax.sweep import slurm
from tests.command_line import call, one_line
from tests.slurm import ROOT

SLURM = ('--launcher', 'slurm')
RAY = ('--launcher', 'ray')


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """`refused(*options)` -> what is said of them; where no SLURM is."""
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('RAY_ADDRESS', raising=False)
    monkeypatch.setenv('RAY_AUTH_MODE', 'token')

    def go(*options):
        said = one_line(call('sweep', 'seeds:digits', '--dir', tmp_path / 'sweep', *options))
        assert not (tmp_path / 'sweep').exists()
        return said

    return go


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (SLURM, 'there is no SLURM here (no sbatch on PATH)'),
        ((*SLURM, '--dry-run'), 'there is no SLURM here (no sbatch on PATH)'),
        ((*SLURM, '--slurm', 'partitio=gpu'), "--slurm takes no 'partitio'; the nearest is partition"),
        ((*SLURM, '--slurm', 'xyz=1'), "--slurm takes no 'xyz'; it takes account, array_parallelism, "),
        ((*SLURM, '--slurm', 'partition'), '--slurm partition: partition needs a value'),
        ((*SLURM, '--slurm', 'timeout_min=4h'), '--slurm timeout_min=4h: timeout_min needs a whole number from 1'),
        ((*SLURM, '--slurm', 'timeout_min=2'), 'a job of 2 min cannot be warned 120 s before its end'),
        ((*SLURM, '--slots', 2), '--slots is for --launcher local, and this one is slurm'),
        ((*RAY, '--slots', 2), '--slots is for --launcher local, and this one is ray'),
        (('--slurm', 'partition=gpu'), '--slurm is for --launcher slurm, and this one is local'),
        (('--gpus', 0), '--gpus is for --launcher ray, and this one is local'),
    ],
    ids=lambda value: ' '.join(map(str, value)) if isinstance(value, tuple) else '',
)
def test_what_makes_no_sense_is_one_line(refused, options, says):
    assert says in refused(*options)


def test_a_gpu_for_runs_on_cpus_is_refused(refused, tmp_path, monkeypatch):
    """`launch.sh` takes the login node, which has none, for the measure of all."""
    (tmp_path / 'sbatch').touch(mode=0o755)
    monkeypatch.setenv('RESNET_JAX_PLATFORM', 'cpu')
    for key in ('gpus_per_node=a100:1', 'gres=gpu:1'):
        assert f'--slurm {key}, but RESNET_JAX_PLATFORM is cpu' in refused(*SLURM, '--slurm', key)


def test_without_ray_it_is_said_how_to_get_it(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert "pip install 'resnet-jax[ray]'" in refused(*RAY)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        ((), '--launcher ray needs --address HOST:PORT, or RAY_ADDRESS'),
        (('--address', 'head'), "--address is 'head'; it must be HOST:PORT"),
        (('--address', 'ray://head:10001'), "--address is 'ray://head:10001'; it must be HOST:PORT"),
        (('--cpus', 0), '--cpus is 0; a run has at least 1'),
        (('--gpus', 1.5), '--gpus is 1.5; a run has a whole number of them, or a part of one'),
    ],
)
@pytest.mark.ray
def test_what_ray_cannot_do_is_one_line(refused, options, says):
    pytest.importorskip('ray')
    assert says in refused(*RAY, *options)


@pytest.mark.ray
def test_no_ray_cluster_is_one_line_at_once(refused):
    pytest.importorskip('ray')
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{closed.getsockname()[1]}'
        assert f'no Ray cluster at {address}' in refused(*RAY, '--address', address)


def test_every_key_is_one_that_submitit_takes():
    from submitit.slurm.slurm import SlurmExecutor

    assert set(slurm.KEYS) - {'timeout_min'} <= SlurmExecutor._valid_parameters()
    assert slurm.parameters(['cpus_per_task=8', 'mem=32G']) == slurm.DEFAULTS | {'cpus_per_task': 8, 'mem': '32G'}


def test_a_launcher_starts_at_once():
    """Whatever it launches with, and what it sends, imports no JAX."""
    code = 'from resnet_jax.sweep import launchers, slurm_job; import sys; assert not {"jax", "ray"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
