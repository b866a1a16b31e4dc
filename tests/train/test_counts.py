"""What makes training slow without making it wrong, counted: compilations, copies of the state, talk with the host."""

import collections
import re

import jax
import jax.numpy as jnp
import pytest

from resnet_jax.data.order import order
from resnet_jax.train import clock, loop
from resnet_jax.train.state import initial_state
from resnet_jax.train.step import many_steps


@pytest.fixture(scope='module')
def program(parts):
    """Of many steps, compiled; and the bytes of the state."""
    state = jax.eval_shape(lambda: initial_state(parts.network, parts.optimizer, 0))
    steps = many_steps(parts.network, parts.optimizer, parts.config, parts.mesh, (parts.layout,))
    splits = parts.splits
    permutation = order(0, 0, len(splits.train.labels))
    lowered = steps.lower((state,), splits.train, splits.normalization, (permutation,), jnp.zeros((), jnp.int32))
    return lowered.compile(), sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def test_the_state_is_changed_where_it_lies(program):
    compiled, size = program
    assert compiled.memory_analysis().alias_size_in_bytes == size


def test_whether_a_step_counts_is_found_out_once(program, parts):
    """Not in the update of each array anew, whose kernels would all take what tells, of all arrays, as their inputs."""
    state = jax.eval_shape(lambda: initial_state(parts.network, parts.optimizer, 0))
    checked = len(jax.tree.leaves((state.params, state.batch_stats)))
    assert checked <= len(re.findall(r'pred\[\]\S* and\(', program[0].as_text())) < 3 * checked


def test_no_step_talks_with_the_host(program):
    talk = r'infeed|outfeed|\bsend\(|\brecv\(|callback'
    assert not re.search(talk, program[0].as_text())
    told = jax.jit(lambda x: jax.pure_callback(lambda y: y, x, x)).lower(jnp.ones(3)).compile()
    assert re.search(talk, told.as_text())  # as this would


def test_a_run_in_calls_of_any_length_compiles_its_steps_and_its_evaluation_once(config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(clock, 'CALL_SECONDS', 0.0)
    config.run.update(eval_every=4, save_every=3, log_every=2)
    jax.clear_caches()  # an earlier test of this process may have compiled them
    with jax.log_compiles(), caplog.at_level('WARNING', 'jax'):
        loop.train(config, tmp_path, lambda record: None)
    programs = collections.Counter(re.findall(r'Finished XLA compilation of jit\((\w+)\)', caplog.text))
    assert programs['steps'] == programs['_evaluate_batch'] == programs['_finite'] == 1
