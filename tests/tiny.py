"""The smallest run there is: a dozen steps of ResNet-8 on the digits, across the end of an epoch (11 steps).

A config file as any other. The tests read it by its path, in their own process and in those they start.
"""

from ml_collections import ConfigDict

from configs import digits


def get_config(network: str = 'resnet8') -> ConfigDict:
    config = digits.get_config(network)
    config.network.update(stem_width=4, widths=(4, 8, 16))
    config.train.schedule.update(steps=13, warmup_steps=3)
    config.run.update(steps=13, log_every=5, eval_every=6, save_every=6, eval_batch=100, tensorboard=False)
    return config
