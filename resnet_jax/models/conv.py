"""The convolution as a layer: its parameters, and standardised kernels."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from resnet_jax.models.convolve import Images, Kernel, convolve
from resnet_jax.models.initializers import he_normal
from resnet_jax.models.remat import keep

# One over the deviation that a ReLU leaves of a normal variable of deviation 1 (Brock et al. 2021, arXiv 2101.08692,
# section 4.1): sqrt(2 / (1 - 1 / pi)) = 1.71286, in the authors' code and in timm as estimated by sampling.
RELU_GAIN = 1.7139588594436646
STANDARDIZE_EPSILON = 1e-5


class Conv(nn.Module):
    """A convolution, symmetric padding of (kernel - 1) / 2 as the papers and torch have it.

    Attributes:
      kernel_size: height and width, both odd.
      bias: what the bias starts at; None: there is none.
      init_scale: factor of He's deviation.
      kind: plain, standardized (Qiao et al. 2019, arXiv 1903.10520) or scaled_standardized (Brock et al. 2021,
        arXiv 2101.08692, eq. 3, with a learned gain a feature and the gain of ReLU).
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int
    groups: int
    bias: float | None
    init_scale: float
    kind: str

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, 'n h2 w2 o']:
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param('kernel', lambda *arguments: self.init_scale * he_normal(*arguments), shape, x.dtype)
        if self.kind != 'plain':
            kernel = standardize(kernel)
        if self.kind == 'scaled_standardized':
            gain = self.param('gain', nn.initializers.ones, (self.features,), x.dtype)
            kernel = kernel * gain * (RELU_GAIN / math.sqrt(math.prod(shape[:3])))
        y = keep(convolve(x, kernel, strides=self.strides))
        if self.bias is None:
            return y
        return y + self.param('bias', nn.initializers.constant(self.bias), (self.features,), x.dtype)


def standardize(kernel: Kernel) -> Kernel:
    """Every filter minus its mean, divided by its deviation."""
    centred = kernel - jnp.mean(kernel, axis=(0, 1, 2))
    return centred * lax.rsqrt(jnp.mean(jnp.square(centred), axis=(0, 1, 2)) + STANDARDIZE_EPSILON)
