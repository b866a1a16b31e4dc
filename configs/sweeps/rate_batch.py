"""Learning rate against batch: where training is stable, and how the best rate grows with the batch; three seeds.

    ./launch.sh sweep rate_batch            # ResNet-20 on CIFAR-10
    ./launch.sh sweep rate_batch:digits     # on digits

As many steps for every batch. Runs that diverge are results too.
"""

from configs.sweeps._base import base
from resnet_jax.sweep import Sweep, axis, product, seeds

RATES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
BATCHES = (32, 128, 512)


def get_sweep(data: str = 'cifar10') -> Sweep:
    rates, batches = axis('train.schedule.learning_rate', RATES), axis('train.batch_size', BATCHES)
    return Sweep(base(data), product(batches, rates, seeds(3)))
