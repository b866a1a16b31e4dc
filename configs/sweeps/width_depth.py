"""Width against depth: what more filters bring, and what more layers; three seeds.

./launch.sh sweep width_depth            # on CIFAR-10, for accelerators
./launch.sh sweep width_depth:digits     # half as wide, on digits
"""

from configs.sweeps._base import base, stages
from resnet_jax.sweep import Sweep, conditions, product, seeds

DEPTHS = (8, 14, 20, 32, 56)
FACTORS = (1, 2, 4)


def get_sweep(data: str = 'cifar10') -> Sweep:
    config = base(data)
    widths = {
        factor: {
            'network.stem_width': config.network.stem_width * factor,
            'network.widths': tuple(width * factor for width in config.network.widths),
        }
        for factor in FACTORS
    }
    depths = {depth: {'network.stage_blocks': stages(depth)} for depth in DEPTHS}
    return Sweep(config, product(conditions('width', widths), conditions('depth', depths), seeds(3)))
