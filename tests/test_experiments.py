"""What holds of every experiment: it asks a question, names networks that it can be measured on, and has its tests."""

from pathlib import Path

import pytest

from resnet_jax import experiment, spec, validity


@pytest.mark.parametrize('name', experiment.names())
def test_it_asks_one_question(name):
    module = experiment.find(name)
    asked = experiment.question(module)
    assert asked.endswith('?') and len(asked) < 100
    assert module.__doc__ and f'resnet-jax experiment {name}' in module.__doc__


@pytest.mark.parametrize('tier', experiment.TIERS)
@pytest.mark.parametrize('name', experiment.names())
def test_the_runs_it_names_are_valid_and_different_and_what_it_can_be_measured_on(name, tier):
    module = experiment.find(name)
    configs = module.runs(module.get_config(tier))
    for config in configs:
        validity.check(config)
    assert len({spec.identity(config) for config in configs}) == len(configs)
    experiment.check(module, configs)


def test_every_experiment_has_tests_and_every_test_its_experiment():
    names = set(experiment.names())
    files = {path.stem[5:] for path in (Path(__file__).parent / 'experiments').glob('test_*.py')}
    assert names <= files
    assert all(any(file == name or file.startswith(f'{name}_') for name in names) for file in files)
