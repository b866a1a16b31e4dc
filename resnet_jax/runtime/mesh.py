"""The devices of a run, and where on them each array lies.

All devices form one mesh, `data` times `fsdp`. A batch is spread over all of them. Parameters, optimizer state and
average are cut along `fsdp` and copied along `data`; everything else is whole on each.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.planning import setup


def all_devices(fsdp: int = 1) -> Mesh:
    """All devices as (data, fsdp).

    Raises:
      UserError: where `fsdp` does not divide them.
    """
    setup.check_fsdp(fsdp, jax.device_count())
    devices = np.array(in_order(jax.devices())).reshape(-1, fsdp)
    return Mesh(devices, ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2)


def in_order(devices: Iterable[Any]) -> list[Any]:
    """Process by process: each has one part of every batch, in their order (`data.batches.Share`).

    `jax.make_mesh` follows the wires of a TPU pod instead, from process to process and back.
    """
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def check_batch(batch: int, microbatches: int) -> None:
    """Refuses a batch of which the devices have no equal shares.

    Raises:
      UserError: with the nearest that would do.
    """
    setup.check_batch(batch, jax.device_count(), microbatches)


def whole(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def spread(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The sharding of a batch: over all devices, along this axis of its arrays."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, ('data', 'fsdp')))


def cut(tree: Any, mesh: Mesh) -> Any:
    """The sharding of each array of a tree (or of its shape): along its longest axis that the `fsdp` devices divide.

    The block axis of a body is never cut, and small arrays are left whole.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: NamedSharding(mesh, _spec(path, leaf, mesh)), tree)


def _spec(path: tuple, leaf: Any, mesh: Mesh) -> PartitionSpec:
    parts, shape = mesh.shape['fsdp'], leaf.shape
    blocks = any(getattr(step, 'key', None) == 'body' for step in path)
    able = [axis for axis in range(int(blocks), len(shape)) if shape[axis] % parts == 0]
    if parts == 1 or math.prod(shape) < setup.SMALL or not able:
        return PartitionSpec()
    chosen = max(able, key=lambda axis: shape[axis])
    return PartitionSpec(*(None,) * chosen, 'fsdp')


def place(tree: Any, shardings: Any) -> Any:
    """Arrays that each process has whole in its memory, onto the devices: bit for bit, however many there are."""

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    one = isinstance(shardings, NamedSharding)
    return jax.tree.map(lambda leaf: put(leaf, shardings), tree) if one else jax.tree.map(put, tree, shardings)


def shares(tree: Any, shardings: Any, parts: Callable[[tuple], str]) -> dict[str, tuple[int, int, int]]:
    """What a device holds of a tree: {part: (numbers in all, numbers of arrays that are cut, bytes a device)}."""
    found: dict[str, tuple[int, int, int]] = {}
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for (path, leaf), sharding in zip(leaves, jax.tree.leaves(shardings), strict=True):
        numbers, own = math.prod(leaf.shape), math.prod(sharding.shard_shape(leaf.shape))
        before = found.get(name := parts(path), (0, 0, 0))
        added = (numbers, numbers if own < numbers else 0, own * leaf.dtype.itemsize)
        found[name] = tuple(map(sum, zip(before, added, strict=True)))  # pyright: ignore[reportArgumentType]
    return found
