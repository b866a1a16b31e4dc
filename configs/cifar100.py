"""CIFAR-100 by the recipe of He et al. 2016 for pre-activation networks. The argument names the network.

    ./launch.sh data prepare cifar100
    ./launch.sh train --config configs/cifar100.py:preact_resnet164 --run runs/c100

| network           | paper                                             | test error there, %              |
|-------------------|---------------------------------------------------|----------------------------------|
| preact_resnet164  | He et al. 2016, arXiv 1603.05027, table 4         | 24.33 (median of 5)              |
| preact_resnet1001 | the same                                          | 22.71 (median of 5)              |
| wrn28_10          | Zagoruyko and Komodakis 2016, arXiv 1605.07146, table 5; its own recipe below | 19.25 |

Any other network of `resnet-jax describe` is trained like the first. Wide networks get their paper's recipe: decay
5e-4, Nesterov, the rate times 0.2 after epochs 60, 120 and 160 of 200, channel statistics; the crops are padded with
zeros here, with reflections there.

64,000 steps of 128, or 78,000 of a wide one; minutes on an accelerator for the shallow ones, days on two CPU cores.
Not trained here.
"""

from ml_collections import ConfigDict

from configs import default
from resnet_jax.models import zoo


def get_config(network: str = 'preact_resnet164') -> ConfigDict:
    config = default.get_config()
    config.network.update(zoo.settings(network))
    config.data.dataset = 'cifar100'
    if network.startswith('wrn'):
        _wide(config)
    else:
        config.train.schedule.update(warmup='constant', warmup_steps=400, warmup_rate=0.01)
    return config


def _wide(config: ConfigDict) -> None:
    config.unit = 'epoch'
    config.data.normalize = 'channel'
    config.train.update(weight_decay=5e-4, nesterov=True)
    config.train.schedule.update(factor=0.2, boundaries=(60, 120, 160), steps=200)
    config.run.update(steps=200, eval_every=5, save_every=5)
