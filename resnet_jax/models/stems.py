"""What comes before the first block."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float


class CifarStem(nn.Module):
    """3x3 convolution, BN, ReLU (He et al. 2015, section 4.2).

    With pre-activation the same: there the first activation stands right behind the convolution, before the
    first split (He et al. 2016, section 4).
    """

    features: int
    conv: Callable
    norm: Callable
    act: Callable

    @nn.compact
    def __call__(self, images: Float[Array, 'n h w c'], *, train: bool) -> Float[Array, 'n h w features']:
        x = self.conv(self.features, kernel_size=3, name='conv1')(images)
        return self.act(self.norm(name='bn1')(x, train=train))
