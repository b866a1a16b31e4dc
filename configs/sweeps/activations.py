"""The order of BN, ReLU and addition: He et al. 2016 (arXiv 1603.05027), Figure 4 and Table 2; five seeds.

    ./launch.sh sweep activations            # 110 and 164 layers on CIFAR-10, for accelerators
    ./launch.sh sweep activations:digits     # 20 and 56 layers, three seeds, on digits

Test errors there with 110 and 164 layers: original 6.61 and 5.93 %, BN after the addition 8.17 and 6.50, ReLU before it
7.84 and 6.14, ReLU-only pre-activation 6.71 and 5.91, full pre-activation 6.37 and 5.46.
"""

from configs.sweeps._base import base
from resnet_jax.sweep import Sweep, axis, networks, product, seeds

PLACEMENTS = (
    'original', 'bn_after_addition', 'relu_before_addition', 'relu_only_preactivation', 'full_preactivation',
)  # fmt: skip


def get_sweep(data: str = 'cifar10') -> Sweep:
    depths, count = (('resnet110', 'resnet164'), 5) if data == 'cifar10' else (('resnet20', 'resnet56'), 3)
    return Sweep(base(data), product(networks(*depths), axis('network.placement', PLACEMENTS), seeds(count)))
