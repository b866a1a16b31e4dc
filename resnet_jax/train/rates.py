"""How fast training goes: in images, in operations, and against what the devices could do."""

import jax

from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.planning.devices import of_kind
from resnet_jax.planning.speed import TRAINING


def rates(arch: Architecture, images_per_second: float, compute: str) -> dict[str, float]:
    """For a record, of the network as it is fed now. `mfu`, in percent of the device's peak, is missing where that is
    unknown: the FLOPs of the layers' products alone, forward and both gradients, without what is computed again
    (model FLOPs utilization: Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

    Args:
      compute: the dtype that the network computes in.
    """
    each = images_per_second / jax.device_count()
    flops = TRAINING * counts.multiply_adds(arch) * each
    peak = getattr(of_kind(jax.devices()[0].device_kind), compute)
    return {
        'images_per_second': round(images_per_second, 1),
        'images_per_second_per_device': round(each, 1),
        'teraflops_per_device': round(flops / 1e12, 4),
        **({'mfu': round(100 * flops / peak, 2)} if peak else {}),
    }
