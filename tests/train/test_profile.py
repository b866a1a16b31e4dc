"""Steps that are traced are the run's own, and what took their time is counted."""

import jax
import pytest

from resnet_jax.train import clock, loop, profile


@pytest.fixture
def traced(config, tmp_path, monkeypatch):
    """`traced(calls)`: the operations of a trace of so many calls of one step each, behind the first, and of the last
    evaluation."""
    monkeypatch.setattr(clock, 'CALL_SECONDS', 0.0)
    config.run.update(eval_every=0, log_every=0, save_every=0)

    def go(calls):
        config.run.steps = 1 + calls
        place = tmp_path / f'{calls} calls, {profile.SECONDS} s'
        with profile.tracing(place / 'profile', lambda record: None) as watch:
            loop.train(config, place / 'run', watch)
        return profile.operations(place / 'profile')

    return go


def convolutions(found):
    return sum(operation.times for operation in found if operation.name == 'conv_general_dilated')


def test_convolutions_and_all_else_are_counted_the_longest_first(traced, monkeypatch):
    monkeypatch.setattr(profile, 'SECONDS', 1e9)
    found = traced(5)
    seconds = [operation.seconds for operation in found]
    assert seconds == sorted(seconds, reverse=True) and min(seconds) >= 0
    assert len({operation.name for operation in found}) == len(found) > 3
    if jax.default_backend() == 'cpu':
        of_five, of_none = (convolutions(each) for each in (found, traced(0)))
        assert of_five > of_none and (of_five - of_none) % 5 == 0


def test_it_ends_after_its_time_though_the_run_goes_on(traced, monkeypatch):
    def times(seconds):
        monkeypatch.setattr(profile, 'SECONDS', seconds)
        return sum(operation.times for operation in traced(5))

    assert 0 < times(0.0) < times(1e9)  # the second has all five steps, and the last evaluation


def test_where_nothing_was_traced_there_are_no_operations(tmp_path):
    assert profile.operations(tmp_path) == []
