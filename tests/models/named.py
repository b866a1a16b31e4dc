"""Named networks for the images they were made for."""

from configs import default
from resnet_jax import spec
from resnet_jax.models import zoo


def named(name, **changes):
    """The architecture of a named network, with other network settings where given."""
    config = default.get_config()
    config.network.update({**zoo.settings(name), **changes})
    config.data.dataset = zoo.dataset(name)
    return spec.architecture(config)
