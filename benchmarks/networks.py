"""What is timed: networks by their names in the zoo, on noise of any size."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from configs import default
from resnet_jax import spec
from resnet_jax.models import zoo
from resnet_jax.models.resnet import ResNet


def config(name: str) -> ConfigDict:
    """A named network and its dataset; the rest as everywhere."""
    made = default.get_config()
    made.network.update(zoo.settings(name))
    made.data.dataset = zoo.dataset(name)
    return made


def untrained(
    name: str, pixels: int, batch: int
) -> tuple[ResNet, dict, Float[Array, 'batch pixels pixels 3'], Int[Array, ' batch']]:
    """A named network as it is initialised, and a batch for it: (network, variables, images, labels)."""
    network = ResNet(spec.architecture(config(name)))
    images = jax.random.normal(jax.random.key(1), (batch, pixels, pixels, 3))
    return network, network.init_variables(jax.random.key(0)), images, jnp.zeros(batch, jnp.int32)
