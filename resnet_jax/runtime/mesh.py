"""The devices of a run."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.errors import UserError


def data_mesh(batch_size: int) -> Mesh:
    """All devices along one axis, `data`, over which batches are spread.

    Raises:
      UserError: where the batch does not divide by the devices.
    """
    devices = jax.device_count()
    if batch_size % devices:
        near = max(devices, batch_size - batch_size % devices)
        raise UserError(f'train.batch_size is {batch_size}; it must divide by the {devices} devices: use {near}')
    return jax.make_mesh((devices,), ('data',), axis_types=(AxisType.Auto,))


def whole(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())
