"""Widths of wide residual networks on CIFAR-100: Zagoruyko and Komodakis 2016 (arXiv 1605.07146); three seeds.

    ./launch.sh sweep wrn_widths

28 layers, of 1 to 10 times the filters, by their recipe; WRN-28-10 has 19.25 % there (Table 5). For accelerators.
"""

from configs import cifar100
from resnet_jax.models import zoo
from resnet_jax.sweep import Sweep, conditions, product, seeds

EPOCH = 390  # steps of 128 in 50,000 images
FACTORS = (1, 2, 4, 8, 10)


def get_sweep() -> Sweep:
    config = cifar100.get_config('wrn28_10')
    config.unit = 'step'
    config.train.schedule.update(boundaries=(60 * EPOCH, 120 * EPOCH, 160 * EPOCH), steps=200 * EPOCH)
    config.run.update(steps=200 * EPOCH, eval_every=5 * EPOCH, save_every=5 * EPOCH)
    widths = {factor: {'network.widths': zoo.settings(f'wrn28_{factor}')['widths']} for factor in FACTORS}
    return Sweep(config, product(conditions('width', widths), seeds(3)))
