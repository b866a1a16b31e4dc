"""What the sweeps here start from."""

from ml_collections import ConfigDict

from configs import cifar10, digits
from resnet_jax.errors import UserError


def base(data: str) -> ConfigDict:
    """cifar10: He et al. 2015's recipe, always warmed up. digits: networks half as wide, minutes on two CPU cores."""
    if data == 'cifar10':
        config = cifar10.get_config('preact_resnet20')
    elif data == 'digits':
        config = digits.get_config('preact_resnet20')
        config.network.update(stem_width=8, widths=(8, 16, 32))
        config.run.save_every = config.run.steps
    else:
        raise UserError(f'there is no base {data!r} of a sweep; there are cifar10, digits')
    config.run.tensorboard = False
    return config


def stages(depth: int) -> tuple[int, int, int]:
    """Blocks of two layers in three stages, for a depth of 6n + 2."""
    blocks = (depth - 2) // 6
    return blocks, blocks, blocks
