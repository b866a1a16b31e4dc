"""The parts that `loop.train` puts together, for the tiny run of tests/tiny.py."""

from pathlib import Path

import jax
import pytest

from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import mesh
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.splits import place_dataset
from resnet_jax.train.state import initial_state, layout_of

TINY = Path(__file__).parents[1] / 'tiny.py'


@pytest.fixture
def config():
    return configuration.load(str(TINY))


@pytest.fixture(scope='session')
def parts():
    """config, mesh, splits, network and optimizer; none of them is changed by its use."""
    config = configuration.load(str(TINY)).lock()
    return Parts(config, mesh.all_devices())


class Parts:
    def __init__(self, config, devices):
        self.config, self.mesh = config, devices
        self.splits = place_dataset(config, mesh.whole(devices))
        self.network = ResNet(spec.architecture(config), config.run.scan_from)
        self.optimizer = make_optimizer(config)
        self.layout = layout_of(initial_state(self.network, self.optimizer, 0), devices)


@pytest.fixture
def same():
    """Are two pytrees equal to the last bit, structure and dtypes and all?"""

    def compare(one, other):
        return jax.tree.structure(one) == jax.tree.structure(other) and all(
            jax.tree.leaves(jax.tree.map(_same_leaf, jax.device_get(one), jax.device_get(other)))
        )

    return compare


def _same_leaf(one, other):
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
