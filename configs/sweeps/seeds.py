"""One network, many seeds: how much an error varies by chance.

./launch.sh sweep seeds            # ResNet-110 on CIFAR-10, five seeds as in He et al. 2015, Table 6: 6.61 ± 0.16 %
./launch.sh sweep seeds:digits     # ten seeds of ResNet-20 on digits
"""

from configs.sweeps._base import base, stages
from resnet_jax.sweep import Sweep, seeds


def get_sweep(data: str = 'cifar10') -> Sweep:
    config = base(data)
    depth, count = (110, 5) if data == 'cifar10' else (20, 10)
    config.network.update(placement='original', shortcut='A', stage_blocks=stages(depth))
    return Sweep(config, seeds(count))
