"""What a config means, worked out without JAX: the images, the architecture, a run's identity."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.models.architecture import Architecture

# Datasets whose shape is known without their files: (height, width, channels), classes, training examples.
DATASETS = {
    'digits': ((8, 8, 1), 10, 1438),
    'cifar10': ((32, 32, 3), 10, 50_000),
    'cifar100': ((32, 32, 3), 100, 50_000),
    'imagenet2012': ((224, 224, 3), 1000, 1_281_167),
    'synthetic': ((224, 224, 3), 1000, 1_024),
}
PIXELS_ALREADY = ('digits', 'synthetic')  # no encoded images

CARRIED_OUT = ('data.data_dir', 'data.corrupt')  # with what is under `run`: may change from one start to the next

# Settings that configs written before do not have, and what that means. So written they leave a run's identity alone.
ADDED = {'train.seeds': 1, 'run.wandb': ''}


def image_shape(data: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels of the images that the network sees.

    Raises:
      UserError: the dataset has to be there to know, and was not asked.
    """
    (height, width, channels), _, _ = DATASETS.get(data.dataset, ((0, 0, 0), 0, 0))
    shape = (data.pixels or height, data.pixels or width, data.channels or channels)
    if not all(shape):
        key = 'pixels' if not shape[0] else 'channels'
        raise UserError(
            f'config.data.{key} is 0, which the dataset {data.dataset!r} fills in when a run begins; set it'
        )
    return shape


def outputs(data: ConfigDict) -> int:
    """Of the head, one a class.

    Raises:
      UserError: the dataset has to be there to know, and was not asked.
    """
    found = data.labels or DATASETS.get(data.dataset, ((0, 0, 0), 0, 0))[1]
    if not found:
        raise UserError(
            f'config.data.labels is 0, which the dataset {data.dataset!r} fills in when a run begins; set it'
        )
    return found


def architecture(config: ConfigDict) -> Architecture:
    """The architecture that a validated config describes."""
    network = config.network.items()
    settings: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in network}
    return Architecture(**settings, image_shape=image_shape(config.data), classes=outputs(config.data))


def definition(config: ConfigDict | Mapping) -> dict[str, Any]:
    """The settings that define a run, flat (`train.batch_size` -> 128): all but how and where it is carried out."""
    flat = ADDED | flatten(config)
    return {key: value for key, value in flat.items() if not key.startswith('run.') and key not in CARRIED_OUT}


def identity(config: ConfigDict | Mapping) -> str:
    """The hash of a run's definition: equal for two runs exactly where they are the same run."""
    defined = {key: value for key, value in definition(config).items() if (key, value) not in ADDED.items()}
    return hashlib.sha256(json.dumps(defined, sort_keys=True).encode()).hexdigest()[:16]


def seeds(config: ConfigDict | Mapping) -> range:
    """The seeds of the networks that a config trains: one, or as many as `train.seeds` says."""
    flat = ADDED | flatten(config)
    return range(flat['seed'], flat['seed'] + flat['train.seeds'])


def flatten(config: ConfigDict | Mapping, prefix: str = '') -> dict[str, Any]:
    """Nested settings as `{'train.batch_size': 128, …}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            flat |= flatten(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
