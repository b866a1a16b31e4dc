"""What a supervisor does about mistakes, about what never gets better, and about a stop before anything is saved."""

import os
import signal
import subprocess

import pytest

from tests.faults.conftest import alive, members
from tests.faults.together import ONE_DEVICE, TOGETHER

pytestmark = ONE_DEVICE


@pytest.mark.parametrize(
    ('setting', 'says'),
    [
        (
            {'train.batch_size': 10},
            'train.batch_size is 10; it must divide by the 4 devices: the nearest is 8 (process ',
        ),
        ({'train.bach_size': 8}, 'config.train.bach_size'),
    ],
    ids=['a batch that does not divide', 'no such setting'],
)
def test_a_mistake_is_one_line_once_and_starts_nothing_again(start, command, tmp_path, setting, says):
    code, _, error = start(*TOGETHER, *command(tmp_path / 'run', 9, **setting)).ended()
    assert code == 2
    assert error.startswith('resnet-jax: ') and says in error and error.count('\n') == 1
    assert not list(tmp_path.glob('run/config.json'))


def test_what_fails_again_and_again_is_given_up_after_three_starts(start, command, tmp_path):
    """XLA ends a process that is given a flag it does not know."""
    run_dir = tmp_path / 'run'
    code, out, error = start(*TOGETHER, *command(run_dir, 9), XLA_FLAGS='--xla_no_such_flag=1').ended()
    assert code == 2 and out == ''
    *again, last = error.splitlines()
    assert len(again) == 2 and all('ended with 1 (' in line and 'all start again' in line for line in again)
    assert ' ended with 1, in 3 starts without a new checkpoint; why, ' in last
    log = run_dir / 'processes' / f'{last.split("process ")[1].split()[0]}.log'
    assert str(log) in last and log.read_text().count('xla_no_such_flag') >= 3


def test_a_stop_asked_for_before_there_is_anything_to_save_is_no_fault(start, command, tmp_path):
    process = start(*TOGETHER, *command(tmp_path / 'run', 9))
    process.until(lambda: set(members(process)) == {0, 1})
    process.send_signal(signal.SIGTERM)
    assert process.ended() == (128 + signal.SIGTERM, '', '')


def test_a_process_that_has_joined_no_other_does_what_is_to_follow(start, tiny_file, tmp_path):
    """As on a single TPU host, where nothing but JAX tells that there is no other."""
    line = (
        'train', '--config', tiny_file, '--run', tmp_path / 'run', '--config.run.steps=1', '--then', 'gradient_flow',
        '--config.network.widths=(4,)', '--config.network.stage_blocks=(2,)',
    )  # fmt: skip
    code, out, error = start('--processes', 1, *line).ended()
    assert (code, error) == (0, '')
    assert (tmp_path / 'run' / 'findings' / 'gradient_flow.json').is_file() and 'report: ' in out


def test_what_is_to_follow_is_refused_where_there_are_others(start, tiny_file, tmp_path):
    line = ('train', '--config', tiny_file, '--run', tmp_path / 'run', '--then', 'paths')
    code, _, error = start(*TOGETHER, *line).ended()
    assert code == 2 and error.startswith('resnet-jax: --then is for one process; ') and error.count('\n') == 1


def test_what_a_process_says_last_is_shown_however_late_it_is_heard(start, tmp_path):
    """Its log is a pipe that nobody reads yet: what copies the line is held up there, when the process has ended."""
    log = tmp_path / 'run' / 'processes' / '0.log'
    log.parent.mkdir(parents=True)
    os.mkfifo(log)
    process, seen = start('--processes', 1, 'train', '--run', tmp_path / 'run', '--then', 'nothing'), {}
    process.until(lambda: seen.update(members(process)) or seen)
    process.until(lambda: not alive(seen[0]))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    code, _, error = process.ended()
    said = os.read(reader, 1000).decode()
    os.close(reader)
    assert code == 2 and error == said and error.startswith("resnet-jax: there is no experiment 'nothing'")
