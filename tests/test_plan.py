"""`resnet-jax plan`: what it prints, what it advises, what it refuses, and that it needs no JAX."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet_jax.commands.console import console
from resnet_jax.planning.devices import DEVICES
from tests.command_line import call, one_line

ROOT = Path(__file__).parents[1]
RESNET50 = ('plan', '--config', 'configs/imagenet.py:goyal2017')
RESNET110 = ('plan', '--config', 'configs/cifar10.py:resnet110')


def printed(*arguments):
    done = call(*arguments)
    assert (done.code, done.error) == (0, ''), done
    return done.out


def row(out, begins):
    """What stands in a row behind its name, by two blanks or more."""
    line = next(line for line in out.splitlines() if line.startswith(begins))
    return re.split(r' {2,}', line.strip())[1:]


def test_resnet50_on_eight_gpus():
    out = printed(*RESNET50, '--devices', 8, '--device', 'h100')
    assert 'imagenet2012, 224 px: 25,557,032 parameters, 102,228,128 bytes' in out
    assert 'batches of 256 on 8 devices, 32 at once on each, float32, sgd' in out
    assert row(out, 'parameters')[0] == row(out, 'optimizer state')[0] == row(out, 'gradients')[0] == '102 MB'
    assert row(out, 'kept for the backward pass')[0] == '2.99 GB'  # 32 times 93.5 MB, as JAX keeps
    assert row(out, 'TFLOP') == ['6.281', '0.785']
    assert row(out, 'sent: gradients') == ['1.43 GB', '179 MB']  # 2 (7 / 8) of 102 MB from each
    assert row(out, 'step, communication hidden') and row(out, '8 ')
    assert out.splitlines()[-1].startswith('fits the memory: 3.5 of 80.0 GB on each device')


def test_without_a_device_the_last_line_says_which_flags_say_more():
    out = printed(*RESNET110, '--devices', 8)
    assert 'time of a step' not in out and 'efficiency' not in out
    assert row(out, 'parameters')[0] == '6.91 MB' and row(out, 'sent: gradients')
    assert out.splitlines()[-1] == (
        f'for whether it fits and how long a step takes: --device NAME ({", ".join(DEVICES)}), or --memory GB, '
        '--flops TFLOPS, --memory-bandwidth GB/s, --bandwidth GB/s'
    )


@pytest.mark.parametrize(
    ('flags', 'missing'),
    [
        (('--memory', 16), '--flops TFLOPS, --memory-bandwidth GB/s, --bandwidth GB/s'),
        (('--device', 'cpu'), '--bandwidth GB/s'),
        (('--memory', 16, '--flops', 10, '--memory-bandwidth', 100), '--bandwidth GB/s'),
    ],
)
def test_what_is_missing_is_asked_for_and_then_the_time_is_said(flags, missing):
    out = printed(*RESNET110, '--devices', 8, *flags)
    assert out.splitlines()[-2].startswith('fits the memory')
    assert out.splitlines()[-1] == f'for how long a step takes: {missing}'
    values = {'TFLOPS': 1, 'GB/s': 10}
    given = [word for flag in missing.split(', ') for word in (flag.split()[0], values[flag.split()[1]])]
    assert 'efficiency' in printed(*RESNET110, '--devices', 8, *flags, *given)


def test_one_device_sends_nothing():
    out = printed(*RESNET110, '--devices', 1, '--device', 'cpu')
    assert 'sent' not in out and 'efficiency' not in out and 'images/s' in out


def test_what_it_advises_where_it_does_not_fit_does_fit():
    large = (*RESNET50, '--devices', 8, '--device', 'tpu_v5e', '--config.train.batch_size=2048')
    last = printed(*large).splitlines()[-1]
    assert last.startswith('does not fit the memory: 26.') and 'of 16.0 GB on each device; it would with ' in last
    settings = last.partition('it would with ')[2].split(' or ')
    assert {setting.split('=')[0] for setting in settings} >= {'config.run.remat', 'config.train.microbatches'}
    for setting in settings:
        assert printed(*large, f'--{setting}').splitlines()[-1].startswith('fits the memory')


def test_where_no_setting_would_do_it_says_so():
    last = printed(*RESNET50, '--devices', 8, '--memory', 0.1).splitlines()[-2]
    assert last.endswith('use more devices, fewer pixels or a smaller network')


def test_of_phases_the_one_with_most_pixels_is_planned():
    phases = {'epochs': '3,3', 'pixels': '128,192', 'batch_sizes': '512,256'}
    out = printed(*RESNET50, '--devices', 8, *(f'--config.train.phases.{key}={text}' for key, text in phases.items()))
    assert '192 px' in out and 'batches of 256 on' in out and 'the largest of the phases' in out


MISTAKES = {
    'batch': ((*RESNET50, '--devices', '7'), 'batch_size is 256; it must divide by the 7 devices: the nearest is 259'),
    'microbatches': ((*RESNET50, '--devices', '8', '--config.train.microbatches=64'),
                     'batch_size is 256; it must divide by the 8 devices in 64 microbatches: the nearest is 512'),
    'fsdp': ((*RESNET50, '--devices', '8', '--config.run.fsdp=3'), 'fsdp is 3; it must divide the 8 devices: use 2'),
    'device': ((*RESNET50, '--devices', '8', '--device', 'v100'),
               '--device v100 is unknown; there are h100, h200, a100, tpu_v5e, cpu'),
    'devices': ((*RESNET50, '--devices', '-8'), '--devices is -8; it must be at least 1'),
    'memory': ((*RESNET50, '--devices', '8', '--memory', '-3'), '--memory is -3; it must be a positive finite number'),
    'bandwidth': ((*RESNET50, '--devices', '8', '--bandwidth', 'nan'), '--bandwidth is nan'),
    'no memory bandwidth': ((*RESNET50, '--devices', '8', '--memory-bandwidth', '0'), '--memory-bandwidth is 0'),
    'no config': (('plan', '--devices', '8'), 'plan needs to know what is trained: --config FILE'),
    'unknown images': (('plan', '--config', 'configs/folder.py', '--devices', '8'), 'config.data.pixels is 0'),
    'unknown key': ((*RESNET50, '--devices', '8', '--config.train.batch=64'), 'no setting is called config.train.b'),
}  # fmt: skip


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_one_line(name):
    arguments, said = MISTAKES[name]
    assert said in one_line(call(*arguments))


def test_a_dataset_that_is_not_here_is_planned_by_what_is_said_of_it():
    out = printed('plan', '--config', 'configs/folder.py', '--devices', 1, '--config.data.pixels=64',
                  '--config.data.channels=3', '--config.data.labels=5')  # fmt: skip
    assert ' on folder, 64 px: ' in out


def test_it_needs_no_jax_and_no_second():
    program = (
        'import sys; from resnet_jax import cli; '
        f'code = cli.main({[*map(str, RESNET50), "--devices", "8", "--device", "h100"]}); '
        'sys.exit(code or "jax" in sys.modules)'
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - begin < 4  # half a second on a quiet machine


@pytest.mark.parametrize('width', [80, 120])
def test_tables_fit_the_terminal(monkeypatch, width):
    monkeypatch.setattr(console, 'width', width)
    out = printed(*RESNET50, '--config.train.batch_size=8192', '--devices', 256, '--device', 'h100')
    tables = out.splitlines()[2:-1]
    assert max(map(len, tables)) <= 80 and '…' not in out
