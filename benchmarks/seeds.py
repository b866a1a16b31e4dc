"""Several networks in one program (`train.seeds`), as training has them: unrolled. Against one after the other, and
against one vmap over them; on two devices, each batch spread over both, against one network a device (shard_map).

./launch.sh bench seeds [NAME:SEEDS …]
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from optax import GradientTransformation

from benchmarks import timing
from configs import digits
from resnet_jax import spec
from resnet_jax.data import resident
from resnet_jax.data.augment import Normalization
from resnet_jax.data.resident import Examples
from resnet_jax.models.platform import compiler_options
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import mesh
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.start import make_network
from resnet_jax.train.state import TrainState, initial_state, layout_of
from resnet_jax.train.step import many_steps, train_on

CASES = ('resnet8:4',)
STEPS = 4  # of all networks, a call
EXAMPLES = 1438  # of the digits


class Setting(NamedTuple):
    """What the programs are made of, and what they take."""

    network: ResNet
    optimizer: GradientTransformation
    config: ConfigDict
    devices: Mesh
    layout: TrainState
    states: list[TrainState]
    examples: Examples
    normalization: Normalization
    orders: list[jax.Array]


def setting(config: ConfigDict, count: int, examples: int = EXAMPLES) -> Setting:
    """Networks of seeds 0, 1, … of a config, on noise: for the time it takes, pixels do not matter."""
    shape = spec.architecture(config).image_shape
    network, optimizer, devices = make_network(config), make_optimizer(config), mesh.all_devices()
    place, random = partial(mesh.place, shardings=mesh.whole(devices)), np.random.default_rng(0)
    made = Examples(
        place(random.integers(0, 256, (examples, *shape), dtype=np.uint8)),
        place(random.integers(0, 10, examples).astype(np.int32)),
    )
    normalization = Normalization(*(place(np.full((1, 1, shape[-1]), value, np.float32)) for value in (0.3, 0.2)))
    states = [place(initial_state(network, optimizer, seed)) for seed in range(count)]
    orders = [place(random.permutation(examples).astype(np.int32)) for _ in states]
    layout = layout_of(states[0], devices)
    return Setting(network, optimizer, config, devices, layout, states, made, normalization, orders)


def unrolled(given: Setting, steps: int = STEPS, chosen: slice = slice(None)) -> Callable[[], Any]:
    """Some of the networks by the program that training has, for so many more steps at each call."""
    held, orders = [tuple(jax.tree.map(jnp.copy, given.states[chosen]))], tuple(given.orders[chosen])
    layouts = (given.layout,) * len(orders)
    program = many_steps(given.network, given.optimizer, given.config, given.devices, layouts)

    def call() -> tuple[TrainState, ...]:
        stop = mesh.place(np.int32(int(held[0][0].step) + steps), mesh.whole(given.devices))
        held[0] = program(held[0], given.examples, given.normalization, orders, stop)
        return held[0]

    return call


def in_sequence(given: Setting, steps: int = STEPS) -> Callable[[], Any]:
    calls = [unrolled(given, steps, slice(number, number + 1)) for number in range(len(given.states))]
    return lambda: [call()[0] for call in calls]


def stacked(given: Setting, count: int = STEPS, *, a_device: bool) -> Callable[[], Any]:
    """The networks stacked: one vmap over them, or dealt out to the devices, unrolled on each."""
    network, optimizer, config, devices, *_ = given
    layout = NamedSharding(devices, PartitionSpec(devices.axis_names))

    def step(examples: Examples, normalization: Normalization, state: TrainState, order: jax.Array) -> TrainState:
        index = state.step % (len(given.examples.labels) // config.train.batch_size)
        batch = resident.batch(examples, order, index, config.train.batch_size)
        return train_on(network, optimizer, config, state, batch.images, batch.labels, normalization)

    def each(one: Callable, states: TrainState, orders: jax.Array) -> TrainState:
        if not a_device:
            return jax.vmap(one)(states, orders)
        return stack([one(jax.tree.map(lambda leaf, n=n: leaf[n], states), orders[n]) for n in range(len(orders))])

    def steps(states: TrainState, orders: jax.Array, examples: Examples, normalization: Normalization) -> TrainState:
        one = partial(step, examples, normalization)
        return jax.lax.fori_loop(0, count, lambda _, states: each(one, states, orders), states)

    def stack(trees: Sequence) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    dealt = PartitionSpec(devices.axis_names)
    spread = jax.shard_map(steps, mesh=devices, in_specs=(dealt, dealt, PartitionSpec(), PartitionSpec()),
                           out_specs=dealt, check_vma=False)  # fmt: skip
    program = jax.jit(spread if a_device else steps, donate_argnums=0, compiler_options=compiler_options())
    held, orders = [mesh.place(stack(given.states), layout)], mesh.place(stack(given.orders), layout)

    def call() -> TrainState:
        held[0] = program(held[0], orders, given.examples, given.normalization)
        return held[0]

    return call


def measure(case: str) -> list[tuple]:
    """Rows of (what, time of a step of all networks, ratio of one after the other to it, are the first call's bits the
    same)."""
    name, count = case.split(':')
    given = setting(digits.get_config(name), int(count))
    devices = jax.device_count()
    made = {'one after the other': in_sequence(given), 'unrolled': unrolled(given)}
    if devices == 1:
        made['one vmap'] = stacked(given, a_device=False)
    elif int(count) % devices == 0:
        made['one network a device'] = stacked(given, a_device=True)
    first = {what: jax.device_get(call()) for what, call in made.items()}
    alone = first['one after the other']
    times = timing.interleaved(made)
    return [
        (f'{name}, {count} networks, {devices} device{"s" * (devices > 1)}, {what}',
         timing.milliseconds(seconds / STEPS), f'{times["one after the other"] / seconds:.2f}x',
         {True: 'yes', False: 'no', None: ''}[_same(alone, first.get(what))])
        for what, seconds in times.items()
    ]  # fmt: skip


def _same(alone: list[TrainState], found: Any) -> bool | None:
    """Are these the states of networks trained alone, to the bit? None: there is nothing to compare."""
    if found is None:
        return None
    if isinstance(found, TrainState):
        found = [jax.tree.map(lambda leaf, n=n: leaf[n], found) for n in range(len(alone))]
    pairs = zip(jax.tree.leaves(alone), jax.tree.leaves(list(found)), strict=True)
    return all(np.asarray(one).tobytes() == np.asarray(other).tobytes() for one, other in pairs)


if __name__ == '__main__':
    cases = sys.argv[1:] or CASES
    timing.show(
        'Networks of several seeds in one program, 8 px, batch 128 each',
        ('what', 'a step of all', 'to one after the other', 'the same bits'),
        [row for case in cases for row in measure(case)],
    )
    if jax.default_backend() == 'cpu' and jax.device_count() == 1:
        subprocess.run([sys.executable, '-m', 'benchmarks.seeds', *cases], check=True,
                       env=os.environ | {'JAX_NUM_CPU_DEVICES': '2'})  # fmt: skip
