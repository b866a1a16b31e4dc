"""CIFAR-10 by the recipe of He et al. 2015. The argument names the network; without one it is resnet20.

    ./launch.sh train --config configs/cifar10.py:resnet20 --run runs/resnet20

| argument           | paper                                         | test error there, %                      |
|--------------------|-----------------------------------------------|------------------------------------------|
| resnet20 … 1202    | He et al. 2015, arXiv 1512.03385, section 4.2 | 20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97,  |
|                    |                                               | 110: 6.61 (mean of 5), 1202: 7.93        |
| plain20 …          | the same without shortcuts                    | rises with depth                         |
| preact_resnet110 … | He et al. 2016, arXiv 1603.05027, table 2     | 110: 6.37 (median of 5)                  |
| veit2016           | Veit et al. 2016, arXiv 1605.06431, section 4 | 6.03                                     |

Any other network of `resnet-jax describe` is trained by the same recipe, which is not its own paper's.

64,000 steps of 128. On two CPU cores resnet20 takes about seven hours, resnet110 more than a day; an accelerator
does them in minutes.
"""

from ml_collections import ConfigDict

from configs import default
from resnet_jax.models import zoo


def get_config(recipe: str = 'resnet20') -> ConfigDict:
    config = default.get_config()
    if recipe == 'veit2016':
        return _veit2016(config)
    config.network.update(zoo.settings(recipe))
    # He 2016 always warms up; He 2015 does for 110 layers and more, until the training error is below 80 %,
    # "about 400 iterations": taken as 400 here.
    if config.network.placement == 'full_preactivation' or sum(config.network.stage_blocks) >= 54:
        config.train.schedule.update(warmup='constant', warmup_steps=400, warmup_rate=0.01)
    return config


def _veit2016(config: ConfigDict) -> ConfigDict:
    """164 epochs, the rate divided by 10 after epochs 81 and 122; mean and deviation a channel."""
    epoch = 390  # steps of 128 in 50,000 images
    config.network.update(zoo.settings('preact_resnet110'))
    config.data.normalize = 'channel'
    config.train.schedule.update(boundaries=(81 * epoch, 122 * epoch), steps=164 * epoch)
    config.run.steps = 164 * epoch
    return config
