"""A process of eight devices: what the compiled training step sums up over some of them, in bytes, as JSON.

python -m tests.planning.all_reduced 1,2,8 KEY=VALUE …        numbers of devices, settings of tests/tiny.py
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.data.augment import Normalization
from resnet_jax.data.resident import Masked
from resnet_jax.runtime.mesh import whole
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.start import make_network
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import one_step

SIZES = {'pred': 1, 'bf16': 2, 'f32': 4, 's32': 4, 'u32': 4}
SUM = re.compile(r'= (?P<result>.*?) all-reduce(-start)?\(')  # which gives what it is given, in shape and dtype


def bytes_of(program: str) -> int:
    """Of the operands of all sums, each of which stands once in the text."""
    found = (SUM.search(line) for line in program.splitlines())
    return sum(_bytes(shape) for match in found if match for shape in re.findall(r'\w+\[[\d,]*\]', match['result']))


def _bytes(shape: str) -> int:
    """`f32[3,3,16]` -> 576."""
    dtype, _, sides = shape.removesuffix(']').partition('[')
    size = SIZES[dtype]
    for side in filter(None, sides.split(',')):
        size *= int(side)
    return size


def compiled(config, devices: int) -> str:
    mesh = jax.make_mesh(
        (devices, 1), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:devices]
    )  # fmt: skip
    network, optimizer = make_network(config), make_optimizer(config)
    state = jax.eval_shape(lambda: initial_state(network, optimizer, 0))
    size, (height, width, channels) = config.train.batch_size, spec.image_shape(config.data)
    images = jax.ShapeDtypeStruct((size, height, width, channels), jnp.uint8)
    labels, number = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((size,), ()))
    batch = Masked(images, labels, jax.ShapeDtypeStruct((size,), jnp.bool))
    channel = jax.ShapeDtypeStruct((1, 1, channels), jnp.float32)
    layout = jax.tree.map(lambda _: whole(mesh), state)
    step = one_step(network, optimizer, config, mesh, layout)
    return step.lower(state, batch, Normalization(channel, channel), number).compile().as_text()


if __name__ == '__main__':
    jax.config.update('jax_num_cpu_devices', 8)
    numbers = [int(number) for number in sys.argv[1].split(',')]
    settings = dict(word.split('=') for word in sys.argv[2:])
    config = configuration.overridden(configuration.load('tests/tiny.py'), settings)
    print(json.dumps({devices: bytes_of(compiled(config, devices)) for devices in numbers}))
