"""What the supervisor knows before it starts anything; that it starts, stops and starts again is in faults/."""

import signal
import subprocess
import sys

import pytest

from configs import default
from resnet_jax import cli, spec, supervise
from resnet_jax.errors import UserError
from resnet_jax.runtime import directory


@pytest.mark.parametrize('elsewhere', [False, True])
def test_the_newest_checkpoint_is_found_where_the_run_keeps_them(tmp_path, elsewhere):
    config = default.get_config()
    config.run.checkpoints = str(tmp_path / 'elsewhere') if elsewhere else ''
    run_dir = tmp_path / 'run'
    assert supervise.reached(run_dir) == 0
    directory.create(run_dir, config)
    assert supervise.reached(run_dir) == 0
    place = tmp_path / 'elsewhere' / spec.identity(config) if elsewhere else run_dir / 'checkpoints'
    for name in ('0', '9', '10', '.11.damaged-1', '12.orbax-checkpoint-tmp'):
        _checkpoint(place / name)
    (place / '13').mkdir()  # without a manifest it is none
    assert supervise.reached(run_dir) == 11


def test_of_several_seeds_each_new_checkpoint_counts(tmp_path):
    """They are trained one group after the other: the newest step of all is soon the last one."""
    config = default.get_config()
    config.train.seeds = 2
    directory.create(tmp_path, config)
    config.train.seeds = 1
    for name in ('seed0', 'seed1'):
        directory.create(tmp_path / name, config)
    found = [supervise.reached(tmp_path)]
    for name in ('seed0/checkpoints/0', 'seed0/checkpoints/10', 'seed1/checkpoints/0', 'seed1/checkpoints/5'):
        _checkpoint(tmp_path / name)
        found.append(supervise.reached(tmp_path))
    assert found == [0, 1, 11, 12, 17]


def _checkpoint(path):
    path.mkdir(parents=True)
    (path / 'manifest.json').touch()


@pytest.fixture
def gpus(monkeypatch):
    """`gpus(visible)`: a machine with these, which nothing says to leave alone."""

    def make(visible):
        monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
        monkeypatch.delenv('RESNET_JAX_PLATFORM', raising=False)
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)

    return make


@pytest.mark.parametrize(
    ('visible', 'number', 'own'), [('0,1,2,3', 0, '0,1'), ('0,1,2,3', 1, '2,3'), ('4,GPU-a,6,7,8', 1, '6,7')]
)
def test_each_process_has_its_own_of_the_gpus_that_are_visible(gpus, visible, number, own):
    gpus(visible)
    assert supervise._devices(number, 2, 2) == {'CUDA_VISIBLE_DEVICES': own}


def test_more_gpus_than_there_are_are_refused(gpus):
    gpus('0,1,2')
    with pytest.raises(UserError, match='2 processes of 2 devices need 4 GPUs; there are 3'):
        supervise._devices(0, 2, 2)


def test_without_a_gpu_each_process_has_so_many_devices_of_the_cpu(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert supervise._devices(1, 2, 3) == {'JAX_NUM_CPU_DEVICES': '3', 'JAX_PLATFORMS': 'cpu'}


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        (['--processes', '0', 'train'], '--processes is 0; it must be at least 1'),
        (['--processes', '2', '--devices', '0', 'train'], '--devices is 0; it must be at least 1'),
        (['--processes', '2', 'train', '--heartbeat', '-5'], '--heartbeat is -5; it must be at least 1 s'),
        (['train', '--heartbeat', '0'], '--heartbeat is 0; it must be at least 1 s'),
        (['--processes', '2', 'train', '--process', '1'], 'starts all N itself'),
        (['--processes', '2', 'evaluate'], '--processes is for train, which evaluate is not'),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(tmp_path, capsys, line, says):
    assert cli.main([*line, '--run', str(tmp_path / 'run')]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count('\n') == 1
    assert not (tmp_path / 'run').exists()


def test_all_chips_of_a_tpu_host_are_one_processs(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    monkeypatch.setenv('RESNET_JAX_PLATFORM', 'tpu')
    assert cli.main(['--processes', '2', 'train', '--run', str(tmp_path / 'run')]) == 2
    error = capsys.readouterr().err
    assert error.startswith('resnet-jax: --processes is 2, and one process has all chips of a TPU host')
    assert error.count('\n') == 1 and not (tmp_path / 'run').exists()


@pytest.mark.parametrize('run', ['file', 'file/run'])
def test_a_directory_that_cannot_be_made_is_refused_as_it_is_without_a_supervisor(tmp_path, capsys, run):
    (tmp_path / 'file').touch()
    alone, together = (
        (cli.main([*how, 'train', '--config', 'tests/tiny.py', '--run', str(tmp_path / run)]), capsys.readouterr().err)
        for how in ([], ['--processes', '2'])
    )
    assert alone == together and alone[0] == 2
    assert alone[1].startswith('resnet-jax: cannot write to ') and alone[1].count('\n') == 1


def test_what_a_signal_does_not_end_is_killed_and_it_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(supervise, 'PATIENCE', 0.2)
    deaf = [subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']) for _ in range(2)]
    number, code = supervise._watch(deaf, [signal.SIGTERM])
    assert (number, code) == (0, -signal.SIGKILL) and all(process.returncode == code for process in deaf)
    error = capsys.readouterr().err
    assert error.startswith('resnet-jax: 0.2 s after SIGTERM not all processes had ended') and error.count('\n') == 1
