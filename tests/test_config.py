"""From the command line to a validated config."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import default, digits
from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.models import counts, zoo

ROOT = Path(__file__).parents[1]

# Every config file with the arguments that it documents.
ARGUMENTS = {
    'default': [],
    # 8x8 px cannot be halved five times, as VGG does.
    'digits': [name for name in zoo.NAMES if not name.startswith('vgg')],
    'cifar10': ['veit2016', *zoo.NAMES],
    'cifar100': zoo.NAMES,
    'imagenet': ['he2015', 'goyal2017', 'bag_of_tricks', 'strikes_back_a2', 'he2015,plain34', *zoo.NAMES],
    'folder': ['resnet18', 'scratch,resnet18'],
}
# What a folder's images fill in when a run begins.
FILLED_IN = ['--config.data.pixels=224', '--config.data.channels=3', '--config.data.labels=5']
FILES = [
    f'configs/{name}.py{argument}'
    for name, arguments in ARGUMENTS.items()
    for argument in ('', *(f':{argument}' for argument in arguments))
]


def read(*arguments):
    config = configuration.from_arguments(arguments)
    assert config is not None
    return config


def refused(*arguments):
    with pytest.raises(UserError) as error:
        configuration.from_arguments(arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_every_config_file_is_tested():
    assert {path.stem for path in (ROOT / 'configs').glob('[!_]*.py')} == set(ARGUMENTS)


@pytest.mark.parametrize('file', FILES)
def test_every_config_file_is_valid_with_every_argument_and_has_every_key(file):
    config = read('--config', file, *(FILLED_IN if 'folder' in file else ()))
    assert config.is_locked
    assert spec.flatten(config).keys() == spec.flatten(default.get_config()).keys()
    assert counts.parameters(spec.architecture(config)) > 0


def test_a_config_is_validated_without_jax():
    code = f"""
import sys
from resnet_jax import config, spec
for file in {FILES!r}:
    spec.identity(config.from_arguments(['--config', file, *({FILLED_IN!r} if 'folder' in file else ())]))
heavy = {{'jax', 'flax', 'optax', 'orbax', 'tensorflow', 'tensorflow_datasets', 'matplotlib'}} & set(sys.modules)
assert not heavy, heavy
"""
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Overrides


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('seed=7', 7),
        ('train.batch_size=64', 64),
        ('train.schedule.learning_rate=0.3', 0.3),
        ('train.schedule.learning_rate=1', 1.0),
        ('train.schedule.learning_rate=1e-2', 0.01),
        ('train.nesterov=true', True),
        ('train.nesterov=True', True),
        ('data.flip=false', False),
        ('data.dataset=digits', 'digits'),
        ('data.data_dir=/data=x', '/data=x'),
        ('data.data_dir=', ''),
        ('network.widths=(16,24,32)', (16, 24, 32)),
        ('network.widths=16,24,32', (16, 24, 32)),
        ('network.widths=[16, 24, 32]', (16, 24, 32)),
        ('network.stage_blocks=4,4,4', (4, 4, 4)),
        ('network.head_widths=64', (64,)),
        ('network.mid_ratios=1,0.5', (1.0, 0.5)),
        ('network.mid_ratios=0.5', (0.5,)),
        ('network.dropout=0.3', 0.3),
        ('train.frozen=stem', ('stem',)),
        ('train.frozen=stem,stage1', ('stem', 'stage1')),
        ('train.schedule.boundaries=100', (100,)),
        ('train.schedule.boundaries=()', ()),
        ('run.snapshots=(0,500)', (0, 500)),
    ],
)
@pytest.mark.parametrize('separate', [False, True])
def test_a_setting_is_overridden_by_a_value_of_its_kind(override, expected, separate):
    key, value = override.split('=', 1)
    given = [f'--config.{key}', value] if separate else [f'--config.{key}={value}']
    found = read('--config=configs/default.py', *given)
    for part in key.split('.'):
        found = found[part]
    assert found == expected and type(found) is type(expected)


def test_overrides_come_before_validation_and_the_last_one_counts():
    # Of four stages and three widths there can be no network; of three there can.
    four, three = '--config.network.stage_blocks=3,3,3,3', '--config.network.stage_blocks=1,1,1'
    config = read(four, '--config', 'configs/cifar10.py:resnet20', three)
    assert config.network.stage_blocks == (1, 1, 1)
    assert 'have one number for each of the 4 stages' in refused(three, '--config', 'configs/cifar10.py', four)


def test_without_a_config_there_is_none():
    assert configuration.from_arguments([]) is None


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--config.seed=1'], '--config.seed overrides a config file: give one with --config FILE'),
        (['--config'], '--config needs a value: --config=VALUE'),
        (['--config', 'configs/default.py', '--config.seed'], '--config.seed needs a value'),
        (['--config', 'configs/default.py', '--seed=1'], 'unknown argument --seed; a setting is given as'),
        (['--config', 'configs/default.py', 'seed=1'], 'unknown argument seed'),
        (['--config', 'configs/cifar.py'], 'no config file configs/cifar.py; there are configs/cifar10.py, '),
        (['--config', 'configs'], 'there is no config file configs;'),
        (['--config', 'LICENSE'], 'LICENSE is not a Python file'),
        (['--config', 'resnet_jax/errors.py'], 'has no function get_config()'),
        (['--config', 'configs/default.py:resnet20'], "configs/default.py takes no argument, got 'resnet20'"),
        (['--config', 'configs/cifar10.py:resnet-20'], 'did you mean resnet20?'),
        (['--config', 'configs/digits.py:resnet21'], "is called 'resnet21'; did you mean resnet20 or resnet26?"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line(arguments, said):
    assert said in refused(*arguments)


@pytest.mark.parametrize(
    ('override', 'said'),
    [
        ('train.batchsize=64', 'no setting is called config.train.batchsize; the nearest is config.train.batch_size'),
        ('batch_size=64', 'the nearest is config.train.batch_size'),
        ('learning_rate=1', 'the nearest is config.train.schedule.learning_rate'),
        ('network=resnet20', 'no setting is called config.network'),
        ('xyzzy=1', 'no setting is called config.xyzzy'),
        ('=1', 'no setting is called config.'),
        ('train.batch_size=64.0', "config.train.batch_size is a int, as 128 is; got '64.0'"),
        ('train.batch_size=many', "got 'many'"),
        ('train.batch_size=', "got ''"),
        ('train.batch_size=True', "got 'True'"),
        ('train.batch_size={[]: 1}', "got '{[]: 1}'"),
        ('train.batch_size=__import__("os").getpid()', 'config.train.batch_size is a int'),
        ('train.nesterov=1', 'config.train.nesterov is a bool, as False is'),
        ('train.nesterov=yes', "got 'yes'"),
        ('train.schedule.learning_rate=fast', "config.train.schedule.learning_rate is a float, as 0.1 is; got 'fast'"),
        ('train.schedule.learning_rate=nan', 'config.train.schedule.learning_rate is nan'),
        ('train.schedule.learning_rate=-0.1', 'config.train.schedule.learning_rate is -0.1'),
        ('train.schedule.learning_rate=1e999', 'config.train.schedule.learning_rate is inf'),
        ('network.widths=wide', "config.network.widths is ['wide']; it must hold whole numbers of at least 1"),
        ('network.widths=16', 'config.network.widths is [16]; it must have one number for each of the 3 stages'),
        ('network.widths=8,32,64', "narrow in stage 1 (the stem's 16 to 8 filters), and shortcut A can only pad"),
        ('network.depth=20', 'no setting is called config.network.depth'),
        ('network.widths=16,32,x', "is ['16', '32', 'x']; it must hold whole numbers"),
        ('network.widths=16,32,0.5', 'is [16, 32, 0.5]; it must hold whole numbers'),
        ('network.widths=16,32,', "config.network.widths is [16, 32]; it must have one number for each"),
        ('network.widths={1: 2}', "config.network.widths is a tuple, as (16, 32, 64) is; got '{1: 2}'"),
        ('network.mid_ratios=half', "config.network.mid_ratios is ['half']; it must hold positive numbers"),
        ('train.frozen=stage9', "config.train.frozen is ['stage9']; it must be among stem, stage1, stage2, stage3"),
        ('train.frozen=[[1]]', 'config.train.frozen is [[1]]; it must be among stem'),
        ('network.widths="a","b","c"', 'it must hold whole numbers'),
        ('data.dataset=imagenet', "config.data.pixels is 0, which the dataset 'imagenet' fills in when a run begins"),
        ('seed=1.5', 'config.seed is a int'),
    ],
)  # fmt: skip
def test_a_wrong_override_is_one_line_with_what_is_right(override, said):
    assert said in refused('--config', 'configs/default.py', f'--config.{override}')


def test_a_config_file_is_taken_from_anywhere_and_first_from_here(tmp_path, monkeypatch):
    file = tmp_path / 'mine.py'
    file.write_text(
        'from configs import digits\n'
        'def get_config(seed="3"):\n'
        '    config = digits.get_config("plain8")\n'
        '    config.seed = int(seed)\n'
        '    return config\n'
    )
    monkeypatch.chdir(tmp_path)
    assert read('--config', str(file)).seed == read('--config', 'mine.py').seed == 3
    assert read('--config', 'mine.py:5').seed == 5
    assert read('--config', 'configs/digits.py') == digits.get_config().lock()  # of the checkout
