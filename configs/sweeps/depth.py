"""Depth, plain and residual, on CIFAR-10: He et al. 2015 (arXiv 1512.03385), section 4.2 and Figure 6; three seeds.

    ./launch.sh sweep depth

Test errors there, residual: 8.75 % at 20 layers, 7.51 at 32, 7.17 at 44, 6.97 at 56, 6.61 at 110; plain ones rise from
32 layers on. 30 runs of 64,000 steps; resnet20 takes minutes on an accelerator. Not trained here.
"""

from configs.sweeps._base import base, stages
from resnet_jax.sweep import Sweep, conditions, product, seeds

DEPTHS = (20, 32, 44, 56, 110)


def get_sweep() -> Sweep:
    config = base('cifar10')
    config.network.update(placement='original', shortcut='A')
    networks = conditions('network', {'residual': {}, 'plain': {'network.shortcut': 'none'}})
    depths = conditions('depth', {depth: {'network.stage_blocks': stages(depth)} for depth in DEPTHS})
    return Sweep(config, product(networks, depths, seeds(3)))
