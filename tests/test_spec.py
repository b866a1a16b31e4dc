"""What configs mean without JAX: a run's identity, and the names of networks."""

import json

import pytest

from configs import cifar10, default, digits
from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.models import zoo

# Identity


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + '2'
    return (*value, 99) if isinstance(value, tuple) else value + 1


SETTINGS = spec.flatten(default.get_config())
OF_THE_RUN_ALONE = {key for key in SETTINGS if key.startswith('run.')} | {'data.data_dir', 'data.corrupt'}


@pytest.mark.parametrize('key', SETTINGS)
def test_the_identity_changes_with_every_setting_but_how_and_where_it_is_run(key):
    config = default.get_config()
    owner = config
    *sections, name = key.split('.')
    for section in sections:
        owner = owner[section]
    owner[name] = changed(owner[name])
    same = spec.identity(config) == spec.identity(default.get_config())
    assert same == (key in OF_THE_RUN_ALONE)
    assert (key in spec.definition(config)) == (not same)


def test_the_identity_is_that_of_the_stored_config():
    config = digits.get_config()
    stored = json.loads(json.dumps(config.to_dict()))
    assert spec.identity(stored) == spec.identity(config) == spec.identity(config.lock())
    assert len(spec.identity(config)) == 16
    assert len({spec.identity(cifar10.get_config(name)) for name in zoo.NAMES}) == len(zoo.NAMES)


def test_flatten_names_settings_by_their_path():
    flat = spec.flatten(default.get_config())
    assert flat['train.schedule.boundaries'] == [32_000, 48_000] and flat['seed'] == 0


# Names


def titled(name='resnet20', **changes):
    config = default.get_config()
    config.network.update({**zoo.settings(name), **changes})
    return configuration.title(config.network)


@pytest.mark.parametrize('name', zoo.NAMES)
def test_a_named_network_has_its_name_for_a_title(name):
    assert titled(name) == name


def test_another_network_is_called_after_the_nearest_and_by_what_it_differs_in():
    assert titled(stage_blocks=(4, 4, 4)) == 'resnet26'
    assert titled('preact_resnet110', shortcut='B') == 'preact_resnet110-shortcut-B'
    assert titled(shortcut='none', norm='group', norm_groups=8) == 'plain20-norm-group-norm_groups-8'
    assert titled(widths=(16, 24, 32), stage_blocks=(3, 1, 2)) == 'resnet20-stage_blocks-3_1_2-widths-16_24_32'
