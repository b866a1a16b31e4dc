"""The command line: what it says when something is wrong, how fast, and what its help names."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resnet_jax import cli, spec
from resnet_jax import config as configuration
from resnet_jax.models import counts, zoo
from resnet_jax.runtime import directory
from resnet_jax.runtime.checkpoint import Checkpoints
from tests.command_line import call, one_line

ROOT = Path(__file__).parents[1]
TINY = ROOT / 'tests' / 'tiny.py'


def process(*arguments, **environment):
    """The command in a process of its own, and how long it took."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, '-m', 'resnet_jax.cli', *map(str, arguments)], cwd=ROOT, env=os.environ | environment,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return SimpleNamespace(
        code=done.returncode, out=done.stdout, error=done.stderr, seconds=time.perf_counter() - begin
    )


def train(run_dir, *overrides):
    return 'train', '--config', TINY, '--run', run_dir, *overrides


# Training that cannot be

MISTAKES = {
    'unknown key': (['--config.train.batchsize=64'], 'no setting is called config.train.batchsize',
                    'the nearest is config.train.batch_size'),
    'stages': (['--config.network.stage_blocks=3,3'], 'network.widths is [4, 8, 16]', 'one number for each of the 2'),
    'negative rate': (['--config.train.schedule.learning_rate=-0.1'], 'train.schedule.learning_rate is -0.1',
                      'positive finite number'),
    'rate that is no number': (['--config.train.schedule.learning_rate=nan'], 'learning_rate is nan', 'finite'),
    'unknown dataset': (['--config.data.dataset=mnist', '--config.data.data_dir=/nowhere'], '/nowhere',
                        'tfds build mnist'),
    'dataset that is not there': (['--config.data.dataset=cifar10', '--config.data.data_dir=/nowhere'], '/nowhere',
                                  'data prepare cifar10'),
    'experiment': (['--then', 'lesions'], "no experiment 'lesions'", 'there are activations'),
    'flag': (['--steps=5'], 'unknown argument --steps', '--config.KEY=VALUE'),
    'batch larger than the data': (['--config.train.batch_size=2000'], 'train.batch_size is 2000', '1438'),
}  # fmt: skip


@pytest.mark.parametrize(('overrides', 'received', 'advice'), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_what_was_given_and_what_to_do(tmp_path, overrides, received, advice):
    message = one_line(call(*train(tmp_path / 'run', *overrides)))
    assert received in message and advice in message
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('name', ['unknown key', 'dataset that is not there', 'experiment'])
def test_a_mistake_is_said_before_anything_heavy_is_imported(tmp_path, name):
    done = process(*train(tmp_path / 'run', *MISTAKES[name][0]))
    assert MISTAKES[name][1] in one_line(done)
    assert done.seconds < 4  # it is to take less than 2 on a quiet machine; it takes a quarter of one


def test_an_unknown_config_file_is_refused_with_those_there_are(tmp_path):
    message = one_line(call('train', '--config', 'configs/cifar.py', '--run', tmp_path / 'run'))
    assert 'no config file configs/cifar.py' in message and 'configs/cifar10.py' in message


@pytest.mark.parametrize('inside', [False, True], ids=['a file', 'under a file'])
def test_a_run_directory_that_cannot_be_written_is_refused(tmp_path, inside):
    (tmp_path / 'file').write_text('kept')
    run_dir = tmp_path / 'file' / 'run' if inside else tmp_path / 'file'
    message = one_line(call(*train(run_dir)))
    assert f'cannot write to {run_dir}' in message and '--run' in message
    assert (tmp_path / 'file').read_text() == 'kept'


def test_a_directory_that_holds_another_run_is_refused_and_left_as_it_is(tmp_path):
    config = configuration.load(str(TINY))
    directory.create(tmp_path, config)
    before = (tmp_path / 'config.json').read_bytes()
    message = one_line(call(*train(tmp_path, '--config.train.batch_size=64', '--config.run.steps=7')))
    assert 'holds another run: its train.batch_size is 128, here 64' in message
    assert (tmp_path / 'config.json').read_bytes() == before


def test_a_directory_that_a_process_holds_is_refused_and_left_as_it_is(tmp_path):
    directory.create(tmp_path, configuration.load(str(TINY)))
    before = (tmp_path / 'config.json').read_bytes()
    with directory.held(tmp_path):
        assert 'another process works on' in one_line(call(*train(tmp_path, '--config.run.steps=7')))
    assert (tmp_path / 'config.json').read_bytes() == before


def test_a_batch_that_does_not_divide_by_the_devices_is_refused_as_by_plan_and_the_advice_works(tmp_path):
    """With three devices in place of one; nothing is left that would refuse the batch size it advises."""
    done = process(*train(tmp_path / 'run'), JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES='3')
    message = one_line(done)
    assert 'train.batch_size is 128; it must divide by the 3 devices: the nearest is 129' in message
    assert message == one_line(call('plan', '--config', TINY, '--devices', 3))
    config = configuration.load(str(TINY))
    config.train.batch_size = 129
    directory.check(tmp_path / 'run', config)


# Runs that are not there


@pytest.fixture
def plain(tmp_path):
    """The directory of a plain network, with a checkpoint of nothing that belongs to it."""
    directory.create(tmp_path, configuration.load(f'{TINY}:plain14'))
    saved = Checkpoints(tmp_path)
    saved.save(3, {'other': np.zeros(2, np.float32)})
    saved.wait()
    return tmp_path


@pytest.mark.parametrize('command', ['evaluate', 'report', 'experiment lesion', 'train'])
def test_a_run_that_is_not_there_is_one_line(tmp_path, command):
    message = one_line(call(*command.split(), '--run', tmp_path / 'none'))
    assert str(tmp_path / 'none') in message and 'config.json' in message


def test_a_run_without_a_checkpoint_is_one_line(tmp_path):
    directory.create(tmp_path, configuration.load(str(TINY)))
    for command in (['evaluate'], ['experiment', 'lesion']):
        assert 'has no checkpoint (it has: none)' in one_line(call(*command, '--run', tmp_path))


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--step', 5], 'has no checkpoint of step 5 (it has: 3)'),
        (['--delete', '9'], 'block 9 does not exist; this network has blocks 1 to 6'),
        (['--delete', '0'], 'block 0 does not exist'),
        (['--delete', '3'], 'block 3 cannot be deleted: it changes the shape and has no shortcut'),
        (['--delete', 'two'], "--delete takes block numbers with commas between, as 3,7; got 'two'"),
        ([], 'is of another network'),
        (['--steps'], 'evaluate does not take --steps'),
        (['--views', 'ten_crop'], 'the images of digits have one view each; leave out --views'),
        (['--views', 'ten_crop', '--delete', '2'], '--views and --delete do not go together'),
    ],
    ids=['step', 'no such block', 'block 0', 'entry of a plain one', 'no number', 'network', 'flag', 'views', 'both'],
)
def test_an_evaluation_that_cannot_be_is_one_line(plain, arguments, said):
    assert said in one_line(call('evaluate', '--run', plain, *arguments))


def test_an_unknown_experiment_is_one_line_with_those_there_are(plain):
    assert "there is no experiment 'lesions'; there are activations" in one_line(
        call('experiment', 'lesions', '--run', plain)
    )


@pytest.mark.parametrize(('words', 'said'), [(['--stepz'], 'there is no option --stepz'), ([], 'give a COMMAND')])
def test_without_a_command_what_is_wrong_is_named(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


# Help

OPTIONS = {
    '': ['train', 'evaluate', 'experiment', 'report', 'describe', 'data', 'exit codes'],
    'train': ['--run', '--config', '--config.KEY=VALUE', '--then', '--alone'],
    'evaluate': ['--run', '--split', '--step', '--delete', '--views', '--probabilities', '--features', '--out'],
    'predict': ['--run', 'FILE', '--top', '--saliency'],
    'experiment': ['--run', '--lab', '--tier', 'NAME', 'experiment all', '--config.KEY=VALUE'],
    'sweep': [
        'NAME|FILE|ACTION',
        'sweep status',
        '--dir',
        '--dry-run',
        '--then',
        '--launcher',
        '--slots',
        '--slurm',
        '--address',
    ],
    'report': ['--run'],
    'describe': ['NAME', '--config'],
    'plan': ['--config', '--devices', '--device', '--flops', '--bandwidth', '--memory-bandwidth', '--memory', 'h100'],
    'data': ['list', 'prepare', 'show', 'stats'],
    'data list': ['--data-dir'],
    'data prepare': ['DATASET|FOLDER', '--archive', '--data-dir', '--out', '--name'],
    'data show': ['--config', '--config.KEY=VALUE', '--out', '--examples', '--draws', '--operations'],
    'data stats': ['DATASET|FOLDER', '--pixels', '--data-dir'],
    'weights': ['import', 'export'],
    'weights import': ['FILE', '--architecture', '--out', '--labels', '--sha256'],
    'weights export': ['RUN', '--out', '--names'],
}


@pytest.mark.parametrize('command', OPTIONS)
def test_the_help_of_every_command_names_its_options(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), '--help'])
    shown = capsys.readouterr()
    assert ended.value.code == 0 and not shown.err
    assert all(option in shown.out for option in OPTIONS[command])


def test_no_command_is_without_a_test_of_its_help():
    subparsers = next(action for action in cli.parser()._actions if action.dest == 'command')
    assert set(subparsers.choices or ()) == {command.split()[0] for command in OPTIONS if command}


def test_help_takes_no_second_and_imports_neither_jax_nor_the_datasets():
    script = """
import sys
from resnet_jax.cli import main
try:
    main(['--help'])
finally:
    print(sorted({'jax', 'flax', 'numpy', 'tensorflow_datasets', 'sklearn', 'matplotlib'} & sys.modules.keys()))
"""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True)
    assert time.perf_counter() - begin < 1
    assert (done.returncode, done.stderr, done.stdout.splitlines()[-1]) == (0, '', '[]')


def test_an_unknown_command_exits_with_2(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(['trian'])
    assert ended.value.code == 2 and "invalid choice: 'trian'" in capsys.readouterr().err


# What needs no run


def test_describe_names_every_network_with_its_depth_and_parameters():
    shown = call('describe')
    assert shown.code == 0
    rows = {words[0]: words[1:] for words in map(str.split, shown.out.splitlines()) if words}
    assert set(zoo.NAMES) <= rows.keys()
    assert rows['resnet20'][:3] == ['20', '0.27', 'M']  # He et al. 2015, table 6
    assert rows['resnet50'][:3] == ['50', '25.56', 'M']  # torchvision: 25.6M


def test_describe_shows_the_layers_of_a_name():
    shown = call('describe', 'resnet20')
    assert shown.code == 0
    rows = [line.split() for line in shown.out.splitlines()]
    assert ['stem/conv1', '32x32x16', '432', '442,368', '16,384', '3'] in rows
    assert ['network', '269,722', '40,551,040', '188,426', '81'] in rows


@pytest.mark.parametrize('given', [['--config', TINY], [f'--config={TINY}']], ids=['two words', 'one word'])
def test_describe_describes_one_config(given):
    config = configuration.load(str(TINY))
    shown = call('describe', *given)
    assert shown.code == 0 and f'{counts.parameters(spec.architecture(config)):,}' in shown.out


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['resnet21'], "no network is called 'resnet21'; did you mean resnet20 or resnet26?"),
        (['resnet20', '--config', TINY], 'describe takes a name or a --config, not both; got resnet20'),
        (['--config'], '--config needs a value'),
        (['--config', TINY, '--config.network.share=some'], 'it must be one of none, kernels, parameters, all'),
    ],
    ids=['name', 'both', 'no value', 'setting'],
)
def test_what_cannot_be_described_is_one_line(arguments, said):
    assert said in one_line(call('describe', *arguments))


def test_the_list_of_datasets_says_what_is_here_and_how_to_get_what_is_not(tmp_path):
    shown = call('data', 'list', '--data-dir', tmp_path)
    assert shown.code == 0
    assert 'train 1,438, test 359' in shown.out and 'data prepare cifar10' in shown.out
