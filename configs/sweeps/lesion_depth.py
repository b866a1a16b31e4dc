"""What deleting blocks costs, by depth, plain and residual, on CIFAR-10: Veit et al. 2016 (arXiv 1605.06431); 3 seeds.

    ./launch.sh sweep lesion_depth

Their recipe (164 epochs) for every network. With 110 layers a network loses next to nothing with one block; plain ones
fall to chance. 18 runs, for accelerators; ./launch.sh sweep digits_depth is the like on a laptop.
"""

from configs import cifar10
from configs.sweeps._base import stages
from resnet_jax.sweep import Sweep, conditions, product, seeds


def get_sweep() -> Sweep:
    networks = conditions('network', {'residual': {}, 'plain': {'network.shortcut': 'none'}})
    depths = conditions('depth', {depth: {'network.stage_blocks': stages(depth)} for depth in (20, 56, 110)})
    return Sweep(cifar10.get_config('veit2016'), product(networks, depths, seeds(3)), then='lesion:beyond=False')
