"""What devices send each other: the plan against the sums in the compiled training step, and rings by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_jax import config as configuration
from resnet_jax.models import counts
from resnet_jax.planning import memory, sent
from resnet_jax.planning.setup import setup

ROOT = Path(__file__).parents[2]
SCALARS = 16  # bytes: loss, errors, and whether they are finite


def all_reduced(devices, **settings):
    """Devices -> bytes that the compiled step sums up over so many."""
    words = [f'{key.replace("__", ".")}={value}' for key, value in settings.items()]
    done = subprocess.run(
        [sys.executable, '-m', 'tests.planning.all_reduced', devices, *words], cwd=ROOT,
        env=os.environ | {'JAX_PLATFORMS': 'cpu'}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {int(devices): size for devices, size in json.loads(done.stdout).items()}


def tiny(devices, **settings):
    texts = {key.replace('__', '.'): str(value) for key, value in settings.items()}
    return setup(configuration.overridden(configuration.load(str(ROOT / 'tests' / 'tiny.py')), texts), devices)


@pytest.mark.parametrize(
    ('devices', 'settings'),
    [
        ('1,2,4,8', {}),
        ('8', {'network__norm_examples': 16}),  # no more than a device's share of 128
        ('2,8', {'network__norm_examples': 64}),  # that of two devices, and four times that of eight
        ('2', {'network__placement': 'original', 'train__compute': 'bfloat16'}),
    ],
    ids=['', 'groups of a device', 'groups of several', 'bfloat16'],
)
def test_gradients_and_statistics_are_all_that_the_compiled_step_sums_up(devices, settings):
    """Gradients are float32 there whatever is computed in: the CPU has no sums of bfloat16."""
    for count, size in all_reduced(devices, **settings).items():
        planned = tiny(count, **settings)
        numbers = counts.parameters(planned.arch) + sent.bn_numbers(planned)
        assert (0 <= size - 4 * numbers <= SCALARS) if count > 1 else size == 0, count


def test_a_ring_by_hand():
    """Two devices send their half once and the sum of the other once: all of it. Many send it almost twice."""
    two, many = tiny(2), tiny(128)
    size = 4 * counts.parameters(two.arch)
    assert sent.gradients(tiny(1)) == {'gradients': 0.0} and sent.bn_bytes(tiny(1)) == 0
    assert sent.gradients(two) == {'gradients': pytest.approx(size)}
    assert sent.gradients(many) == {'gradients': pytest.approx(2 * size * 127 / 128)}
    layers, channels = memory.bn_channels(two)
    assert (layers, channels) == (7, 3 * 4 + 2 * 8 + 2 * 16)
    assert sent.bn_bytes(two) == 4 * 6 * channels and sent.bn_rounds(two) == 3 * layers


def test_every_microbatch_sends_anew():
    one, four = tiny(8), tiny(8, train__microbatches=4)
    assert sent.gradients(four)['gradients'] == pytest.approx(4 * sent.gradients(one)['gradients'])
    assert sent.bn_bytes(four) == 4 * sent.bn_bytes(one) and sent.bn_rounds(four) == 4 * sent.bn_rounds(one)


def test_cutting_parameters_deals_gradients_out_and_gathers_parameters():
    """resnet20 on 8 devices in cuts of 4: arrays of 2**14 numbers and more are cut, and summed over two copies."""
    config = configuration.load('configs/cifar10.py:resnet20')
    whole = setup(config, 8)
    config.run.fsdp = 4
    made = setup(config, 8)
    # Of stages 2 and 3: entry and body kernels, the bodies' of two blocks; 32 -> 32 at the entry is smaller.
    cut = 4 * (2 * 9 * 32**2 * 2 + 9 * 32 * 64 + 9 * 64**2 + 2 * 9 * 64**2 * 2)
    rest = 4 * counts.parameters(made.arch) - cut
    assert sent.gradients(made) == {
        'gradients': pytest.approx(2 * 7 / 8 * rest + 2 * 1 / 2 * cut / 4),
        'gradients dealt out (fsdp)': pytest.approx(3 / 4 * cut),
        'parameters gathered (fsdp)': pytest.approx(3 / 4 * cut),
    }
    # 2 (3 / 4) + 2 (1 / 2) / 4 is 2 (7 / 8): in rings of four and then of two, or in one of all, it is as much.
    assert sum(sent.gradients(made).values()) == pytest.approx(sent.gradients(whole)['gradients'])
