"""Several seeds in one program: each network is that of its single run, whatever becomes of the others."""

import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import pytest

from configs import default
from resnet_jax import config as configuration
from resnet_jax import display, memory, spec
from resnet_jax import run as runs
from resnet_jax.errors import Stopped
from resnet_jax.planning.memory import held
from resnet_jax.planning.setup import setup
from resnet_jax.runtime import directory
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train import clock, loop, seeds
from resnet_jax.train.splits import place_dataset
from resnet_jax.train.start import stored_state
from tests.command_line import call, one_line
from tests.mistakes import refused
from tests.records import records
from tests.train.conftest import TINY

FIRST, COUNT, LAST = 4, 3, 13
SEEDS = range(FIRST, FIRST + COUNT)


def make_config(**settings):
    config = configuration.load(str(TINY))
    config.seed, config.train.seeds = FIRST, COUNT
    config.network.update(stage_blocks=(1,), widths=(4,))
    config.run.keep = 9
    config.update_from_flattened_dict(settings)
    return config


def train(config, run_dir):
    watched = []
    loop.train(config, run_dir, watched.append)
    return watched


def steps_of(run_dir):
    return Checkpoints(run_dir, read_only=True).steps


@pytest.fixture(scope='module')
def together(tmp_path_factory):
    """A run of three seeds: (directory, watched)."""
    run_dir = tmp_path_factory.mktemp('runs') / 'together'
    return run_dir, train(make_config(), run_dir)


@pytest.fixture
def copy(together, tmp_path):
    """The same, to be spoiled; each seed's checkpoints up to the step that is asked for: `copy({5: 6})`."""

    def make(newest):
        path = tmp_path / 'copy'
        shutil.copytree(together[0], path)
        for seed, step in newest.items():
            for later in (each for each in steps_of(path / f'seed{seed}') if each > step):
                shutil.rmtree(path / f'seed{seed}' / 'checkpoints' / str(later))
        return path

    return make


# What each is


@pytest.mark.parametrize('seed', [SEEDS[0], SEEDS[-1]])
def test_each_network_is_that_of_its_single_run_to_the_bit(together, tmp_path, same, seed):
    """Checkpoints and records, across the end of an epoch. On the CPU; `./launch.sh bench seeds` compares the bits of
    programs that are optimised, which these are not."""
    train(make_config(**{'seed': seed, 'train.seeds': 1}), tmp_path)
    own = together[0] / f'seed{seed}'
    assert steps_of(own) == steps_of(tmp_path) == [0, 6, 12, 13]
    for step in steps_of(own):
        assert same(stored_state(own, step), stored_state(tmp_path, step)), f'step {step}'
    assert records(own) == records(tmp_path)


def test_control_networks_of_different_seeds_differ_from_the_start(together, same):
    for step in (0, LAST):
        one, other = (stored_state(together[0] / f'seed{seed}', step) for seed in SEEDS[:2])
        assert not same(one.params, other.params)
    assert records(together[0] / f'seed{SEEDS[0]}') != records(together[0] / f'seed{SEEDS[1]}')


def test_a_directory_has_a_config_and_an_ordinary_run_of_each_seed(together):
    run_dir = together[0]
    named = {f'seed{seed}' for seed in SEEDS}
    assert {path.name for path in run_dir.iterdir()} == {'config.json', '.lock', *named}
    assert directory.read_config(run_dir).train.seeds == COUNT
    for seed in SEEDS:
        config = directory.read_config(run_dir / f'seed{seed}')
        single = make_config(**{'seed': seed, 'train.seeds': 1})
        assert config.to_dict() == single.to_dict()
        run = runs.load(run_dir / f'seed{seed}')
        assert (run.step, run.config.seed) == (LAST, seed)
        assert run.evaluate().correct == records(run.path)[-1]['correct']


def test_the_directory_of_all_is_itself_no_run(together):
    path = together[0]
    message = refused(runs.load, path)
    assert message == f'{path} holds 3 runs, one a seed; give one of them: {path}/seed4 to {path}/seed6'
    assert message in one_line(call('evaluate', '--run', path))
    assert 'its train.seeds is 3, here 1' in refused(train, make_config(**{'train.seeds': 1}), path)


def test_one_of_them_goes_on_alone(copy, together, same):
    path = copy({5: 6}) / 'seed5'
    train(directory.read_config(path), path)
    assert same(stored_state(path), stored_state(together[0] / 'seed5'))


def test_what_is_watched_says_of_which_seed_it_is_and_steps_once_for_all(together):
    watched = together[1]
    for seed in SEEDS:
        own = [{k: v for k, v in record.items() if k != 'seed'} for record in watched if record.get('seed') == seed]
        kept = [record for record in own if record['kind'] in ('train', 'test')]
        assert kept == directory.read_metrics(together[0] / f'seed{seed}')
    progress = [record['step'] for record in watched if record['kind'] == 'progress']
    assert progress == sorted(set(progress)) and progress[-1] == LAST


def test_a_config_from_before_there_were_several_seeds_is_the_same_run(copy):
    path = copy({}) / 'seed4'
    record = json.loads((path / 'config.json').read_text())
    del record['config']['train']['seeds']
    assert spec.identity(record['config']) == record['identity'] == spec.identity(directory.read_config(path))
    (path / 'config.json').write_text(json.dumps(record))
    assert runs.load(path).step == LAST
    assert spec.seeds(directory.read_config(path)) == range(4, 5)
    train(make_config(**{'train.seeds': 1}), path)  # it is not refused


def test_checkpoints_elsewhere_are_apart_by_seed(tmp_path):
    found = seeds.runs(make_config(**{'run.checkpoints': '/elsewhere'}), tmp_path)
    places = [directory.own_place(own) for own in found.values()]
    assert len({*places}) == len(SEEDS) and all(place.startswith('/elsewhere/') for place in places)
    alone = make_config(**{'run.checkpoints': '/elsewhere', 'train.seeds': 1})
    assert directory.own_place(alone) == places[0]  # as if it had been started there alone
    assert [*seeds.runs(make_config(**{'train.seeds': 1}), tmp_path)] == [tmp_path]


# Going on


def test_seeds_that_were_saved_at_unequal_steps_go_on_to_the_bit(copy, together, same):
    """The one behind by itself to step 12, then with the next; the third is done."""
    path = copy({5: 6, 6: 12})
    watched = train(make_config(), path)
    notes = [(record['seed'], record['text']) for record in watched if record['kind'] == 'note']
    assert notes == [(4, 'resumed exactly at step 13'), (5, 'resumed exactly at step 6'),
                     (6, 'resumed exactly at step 12')]  # fmt: skip
    for seed in SEEDS:
        name = f'seed{seed}'
        assert same(stored_state(path / name), stored_state(together[0] / name))
        assert records(path / name) == records(together[0] / name)


def test_a_signal_saves_all_at_one_step_and_they_go_on_to_the_bit(together, tmp_path, monkeypatch, same):
    def signal_at_four(record):
        if record['kind'] == 'progress' and record['step'] == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(clock, 'CALL_SECONDS', 0.0)  # a step a call
        with pytest.raises(Stopped, match='stopped by SIGTERM at step 4, saved'):
            loop.train(make_config(), tmp_path, signal_at_four)
    assert [steps_of(tmp_path / f'seed{seed}')[-1] for seed in SEEDS] == [4, 4, 4]
    train(directory.read_config(tmp_path), tmp_path)
    for seed in SEEDS:
        assert same(stored_state(tmp_path / f'seed{seed}'), stored_state(together[0] / f'seed{seed}'))
        assert records(tmp_path / f'seed{seed}') == records(together[0] / f'seed{seed}')


# Divergence


def spoil(run_dir):
    """Replaces the newest checkpoint by one whose head is so large that no batch is finite."""
    state = stored_state(run_dir)
    step, dense = int(state.step), state.params['head']['dense']
    shutil.rmtree(run_dir / 'checkpoints' / str(step))
    large = {**dense, 'kernel': jnp.full_like(dense['kernel'], 3e38)}
    saved = Checkpoints(run_dir, keep=9)
    saved.save(step, state._replace(params={**state.params, 'head': {'dense': large}}))
    saved.wait()


@pytest.mark.parametrize('nonfinite', ['stop', 'skip'])
def test_a_seed_that_is_not_finite_changes_no_bit_of_the_others(copy, together, same, nonfinite):
    """From step 6 on: it diverges there, or skips every batch to the end."""
    path, stops = copy(dict.fromkeys(SEEDS, 6)), nonfinite == 'stop'
    spoil(path / 'seed5')
    watched = train(make_config(**{'run.nonfinite': nonfinite}), path)
    for seed in (4, 6):
        name = f'seed{seed}'
        assert same(stored_state(path / name), stored_state(together[0] / name))
        assert records(path / name) == records(together[0] / name)
    bad = [record['step'] for record in records(path / 'seed5') if record['kind'] == 'not_finite']
    assert bad == ([7] if stops else [*range(7, LAST + 1)])
    assert [directory.diverged(path / f'seed{seed}') for seed in SEEDS] == [False, stops, False]
    assert steps_of(path / 'seed5')[-1] == (6 if stops else LAST)
    said = [record['text'] for record in watched if 'diverged' in record.get('text', '')]
    line = 'seed 5 diverged, the others did not; metrics.jsonl in each directory says where'
    assert said == ([line] if stops else [])


def test_where_all_diverge_the_run_did(copy):
    path = copy(dict.fromkeys(SEEDS, 6))
    for seed in SEEDS:
        spoil(path / f'seed{seed}')
    message = refused(train, make_config(), path)
    assert message.startswith('the networks of all seeds (4, 5, 6) diverged; the first: the loss or gradient of step 7')
    assert all(directory.diverged(path / f'seed{seed}') for seed in SEEDS)


# Memory


@pytest.fixture(scope='module')
def sizes():
    """The tiny run's splits, and bytes: of its images on the device, and of a network in training."""
    config = make_config()
    splits = place_dataset(config, jax.sharding.NamedSharding(jax.make_mesh((1,), ('data',)), jax.P()))
    planned = held(setup(config, 1), None)
    return splits, 1797 * (64 + 4), sum(planned.values()) - planned['images']


@pytest.mark.parametrize(
    ('room', 'expected'), [(100, [8]), (8, [8]), (7, [4, 4]), (3, [2, 3, 3]), (1, [1] * 8), (0, [1] * 8)]
)
def test_as_many_are_trained_together_as_the_memory_has_room_for(sizes, tmp_path, monkeypatch, room, expected):
    splits, images, each = sizes
    monkeypatch.setattr(memory, 'room', lambda: images + room * each)
    config, told = make_config(**{'train.seeds': 8}), []
    found = seeds.runs(config, tmp_path)
    groups = seeds.groups(config, found, splits, told.append)
    assert [len(group) for group in groups] == expected
    assert [path for group in groups for path in group] == [*found]
    assert len(told) == (len(expected) > 1)
    assert all(f'they are trained in {len(expected)} groups' in record['text'] for record in told)


def test_in_groups_they_come_to_the_same_bits(together, tmp_path, monkeypatch, same, sizes):
    monkeypatch.setattr(memory, 'room', lambda: sizes[1] + 2 * sizes[2])
    watched = train(make_config(), tmp_path)
    assert 'trained in 2 groups' in next(record['text'] for record in watched if record['kind'] == 'note')
    for seed in SEEDS:
        assert same(stored_state(tmp_path / f'seed{seed}'), stored_state(together[0] / f'seed{seed}'))


# What cannot be


def test_streamed_images_are_refused(write_copy, tmp_path):
    write_copy(tmp_path / 'tfds')
    config = default.get_config()
    config.data.data_dir, config.train.batch_size = str(tmp_path / 'tfds'), 10
    config.train.seeds, config.run.placement = 3, 'stream'
    message = refused(train, config, tmp_path / 'run')
    assert message.startswith('config.train.seeds is 3, which takes training images that stay on the device')
    assert not (tmp_path / 'run' / 'config.json').exists()


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    found = seeds.runs(make_config(), tmp_path)
    assert 'config.train.seeds is 3, and the run has 2 processes' in refused(seeds.check_processes, found)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--config.train.seeds=0'], 'config.train.seeds is 0; it must be at least 1'),
        (['--config.train.seeds=2', '--config.seed=4294967295'], 'it must leave the last seed below 2**32'),
        (['--config.train.seeds=2', '--then=lesion'], '--then is for one network, and config.train.seeds is 2'),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, arguments, said):
    message = one_line(call('train', '--config', TINY, '--run', tmp_path / 'run', *arguments))
    assert said in message and not (tmp_path / 'run').exists()


# What is shown


def test_the_table_has_the_error_of_each_seed_and_the_median(capsys):
    numbers = {seed: {'test_error': error, 'diverged': seed == 2} for seed, error in enumerate((3.0, 1.0, 90.0, 2.5))}
    display.show_seeds(numbers)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [['0', '3.00', '%'], ['1', '1.00', '%'], ['2', 'diverged'], ['3', '2.50', '%'],
                        ['median', '2.50', '%']]  # fmt: skip


def test_the_bar_shows_medians_of_the_newest_step(capsys, monkeypatch):
    monkeypatch.setattr(display, 'PLAIN_SECONDS', 0.0)
    with display.training(20) as watch:
        for step, losses in ((5, (9.0,)), (10, (1.0, 2.0, 6.0))):
            for seed, loss in enumerate(losses):
                watch({'kind': 'train', 'step': step, 'loss': loss, 'seed': seed})
            watch({'kind': 'progress', 'step': step, 'rate': 2.0, 'seed': 0})
        watch({'kind': 'diverged', 'step': 11, 'seed': 1})
        watch({'kind': 'note', 'text': 'so it is', 'seed': 2})
    lines = capsys.readouterr().out.splitlines()
    assert 'loss 9.000' in lines[1] and 'loss 2.000' in lines[2]
    assert lines[3:] == ['seed 1: diverged at step 11, and stops', 'seed 2: so it is']
