"""Checkpoints: what is saved comes back to the bit or not at all, and what crashes leave deceives nobody."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.errors import UserError
from resnet_jax.runtime.checkpoint import Checkpoints

# When Orbax fails on one array, it closes its event loop upon what it still does with the others.
ABANDONED = 'ignore::pytest.PytestUnraisableExceptionWarning'


def state(seed=0, width=3):
    """Every dtype of a training state, an optimizer's state, numbers that are not finite."""
    random = np.random.default_rng(seed)
    params = {'conv': {'kernel': jnp.asarray(random.normal(size=(3, 3, width)), jnp.float32)}}
    optimizer = optax.sgd(0.1, momentum=0.9)
    opt_state = optimizer.update(params, optimizer.init(params), params)[1]
    return {
        'step': jnp.asarray(seed, jnp.int32),
        'params': params,
        'opt_state': opt_state,
        'rng': jax.random.key_data(jax.random.key(seed)),
        'half': jnp.asarray(random.normal(size=5), jnp.bfloat16),
        'odd': jnp.asarray([np.nan, np.inf, -0.0, 1e-45], jnp.float32),
    }


def bits(tree):
    return [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def refused(action, *arguments):
    with pytest.raises(UserError) as error:
        action(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.fixture
def saved(tmp_path):
    """A run with checkpoints of steps 0, 4 and 8."""
    checkpoints = Checkpoints(tmp_path, keep=2, snapshots=(0,))
    for step in (0, 4, 8):
        checkpoints.save(step, state(step))
    return tmp_path


# Round trips


def test_a_state_comes_back_to_the_bit_with_its_structure(saved):
    restored = Checkpoints(saved).restore(8, state(99))
    assert jax.tree.structure(restored) == jax.tree.structure(state(8))
    assert bits(restored) == bits(state(8)) != bits(state(99))


def test_a_state_is_restored_where_only_its_shapes_are_known(saved):
    assert bits(Checkpoints(saved, read_only=True).restore(4, jax.eval_shape(state))) == bits(state(4))


def test_the_newest_are_kept_and_the_snapshots_for_good(saved):
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0, 12))
    for step in (12, 16, 20, 24):
        checkpoints.save(step, state(step))
    assert checkpoints.steps == Checkpoints(saved, read_only=True).steps == [0, 12, 20, 24]
    assert bits(checkpoints.restore(0, state())) == bits(state(0))


def test_a_step_that_is_there_is_left_as_it_is(saved):
    Checkpoints(saved).save(8, state(7))
    assert bits(Checkpoints(saved).restore(8, state())) == bits(state(8))


def test_reading_writes_nothing(saved, tmp_path_factory):
    before = {path: path.stat().st_mtime_ns for path in saved.rglob('*')}
    Checkpoints(saved, read_only=True).restore(8, state())
    assert {path: path.stat().st_mtime_ns for path in saved.rglob('*')} == before
    empty = tmp_path_factory.mktemp('empty')
    assert not Checkpoints(empty, read_only=True).steps and not list(empty.iterdir())


# What does not fit


def test_a_step_that_is_not_there_is_refused_with_those_that_are(saved):
    assert 'has no checkpoint of step 5 (it has: 0, 4, 8)' in refused(Checkpoints(saved).restore, 5, state())
    assert '(it has: none)' in refused(Checkpoints(saved / 'new').restore, 5, state())


def without(tree, name):
    return {key: value for key, value in tree.items() if key != name}


@pytest.mark.parametrize(
    ('like', 'leaf', 'there', 'here'),
    [
        (state(width=2), 'opt_state/0/trace/conv/kernel', 'float32[3, 3, 3]', 'float32[3, 3, 2]'),
        (state() | {'half': jnp.zeros(5, jnp.float32)}, 'half', 'bfloat16[5]', 'float32[5]'),
        (state() | {'extra': jnp.zeros(2)}, 'extra', 'absent', 'float32[2]'),
        (without(state(), 'rng'), 'rng', 'uint32[2]', 'absent'),
        (state() | {'step': jnp.zeros((1,), jnp.int32)}, 'step', 'int32[]', 'int32[1]'),
    ],
    ids=['another shape', 'another dtype', 'a leaf more', 'a leaf less', 'another rank'],
)
def test_a_checkpoint_of_another_network_is_refused_at_its_first_leaf_that_differs(saved, like, leaf, there, here):
    message = refused(Checkpoints(saved).restore, 8, like)
    assert f'{leaf} is {there} there, {here} here' in message and 'another network' in message


# What crashes leave


@pytest.mark.parametrize('read_only', [False, True])
def test_an_empty_folder_of_a_steps_name_is_no_checkpoint(saved, read_only):
    (saved / 'checkpoints' / '9').mkdir()
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0,), read_only=read_only)
    assert checkpoints.steps == [0, 4, 8]
    assert 'no checkpoint of step 9' in refused(checkpoints.restore, 9, state())
    assert bits(checkpoints.restore(8, state())) == bits(state(8))


def test_an_empty_folder_takes_no_checkpoints_place(saved):
    """Neither is it counted among the newest that are kept, nor is its step taken for saved."""
    (saved / 'checkpoints' / '9').mkdir()
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0,))
    checkpoints.save(9, state(9))
    assert Checkpoints(saved).steps == [0, 8, 9]
    assert bits(Checkpoints(saved).restore(9, state())) == bits(state(9))


@pytest.mark.parametrize('lost', ['_CHECKPOINT_METADATA', 'default/_METADATA', 'default'])
def test_a_checkpoint_deleted_in_part_is_none_and_is_set_aside(saved, lost):
    path = saved / 'checkpoints' / '8' / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert Checkpoints(saved, read_only=True).steps == [0, 4]
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0,))
    assert checkpoints.steps == [0, 4]
    assert len(list((saved / 'checkpoints').glob('.8.damaged-*'))) == 1
    checkpoints.save(8, state(8))
    assert bits(Checkpoints(saved).restore(8, state())) == bits(state(8))


def test_a_save_that_was_killed_is_no_checkpoint_and_is_cleared_away(saved):
    folder = saved / 'checkpoints'
    shutil.copytree(folder / '8', folder / '12.orbax-checkpoint-tmp')
    (folder / '12.orbax-checkpoint-tmp' / 'commit_success.txt').unlink()
    assert Checkpoints(saved, read_only=True).steps == [0, 4, 8]
    assert (folder / '12.orbax-checkpoint-tmp').exists()  # whoever reads leaves the files of one who may be writing
    checkpoints = Checkpoints(saved, keep=2, snapshots=(0,))
    checkpoints.save(12, state(12))
    assert checkpoints.steps == [0, 8, 12]
    assert sorted(path.name for path in folder.iterdir()) == ['0', '12', '8']


@pytest.mark.filterwarnings(ABANDONED)
def test_a_checkpoint_that_lost_its_numbers_is_refused_in_one_line(saved):
    for path in (saved / 'checkpoints' / '8' / 'default').rglob('d/*'):
        path.unlink()
    assert f'{saved}/checkpoints/8 is damaged' in refused(Checkpoints(saved).restore, 8, state())
    assert bits(Checkpoints(saved).restore(4, state())) == bits(state(4))
