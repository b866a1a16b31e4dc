"""What stands on the shortcut: He et al. 2016 (arXiv 1603.05027), Table 1, and options A, B, C of He et al. 2015.

    ./launch.sh sweep shortcuts            # ResNet-110 on CIFAR-10, five seeds as there; for accelerators
    ./launch.sh sweep shortcuts:digits     # ResNet-20, three seeds, on digits

Test errors there: identity 6.61 %, shortcut-only gating 6.91, exclusive gating 8.70, 1x1 convolution 12.22, constant
0.5 with residual 0.5 12.35; dropout and constant 0.5 alone fail.
"""

from configs.sweeps._base import base, stages
from resnet_jax.sweep import Sweep, conditions, product, seeds

FORMS = {
    'A': {'network.shortcut': 'A'},
    'B': {'network.shortcut': 'B'},
    'C': {'network.shortcut': 'C'},
    'half': {'network.shortcut_scale': 0.5},
    'both_half': {'network.shortcut_scale': 0.5, 'network.residual_scale': 0.5},
    'exclusive_gating': {'network.shortcut': 'exclusive_gating'},
    'shortcut_gating': {'network.shortcut': 'shortcut_gating'},
    'convolution': {'network.shortcut': 'conv'},
    'dropout': {'network.shortcut': 'dropout'},
}


def get_sweep(data: str = 'cifar10') -> Sweep:
    config = base(data)
    config.network.update(placement='original', shortcut='A', stage_blocks=stages(110 if data == 'cifar10' else 20))
    return Sweep(config, product(conditions('shortcut', FORMS), seeds(5 if data == 'cifar10' else 3)))
