"""Plain and residual networks of five depths on handwritten digits, three seeds each; then blocks are deleted.

    ./launch.sh sweep digits_depth

Two findings that made residual networks famous, with error bars: deeper plain networks train worse and residual ones do
not (He et al. 2015, arXiv 1512.03385, Figure 6); and residual networks lose little with any one block, the less the
deeper they are (Veit et al. 2016, arXiv 1605.06431, Figure 3). Pre-activation networks, half as wide as on CIFAR-10,
all trained alike for 30 epochs.
"""

from configs.sweeps._base import base, stages
from resnet_jax.sweep import Sweep, conditions, product, seeds

DEPTHS = (14, 20, 32, 56, 110)


def get_sweep() -> Sweep:
    networks = conditions('network', {'residual': {}, 'plain': {'network.shortcut': 'none'}})
    depths = conditions('depth', {depth: {'network.stage_blocks': stages(depth)} for depth in DEPTHS})
    return Sweep(base('digits'), product(networks, depths, seeds(3)), then='lesion:beyond=False')
