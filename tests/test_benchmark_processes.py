"""Candidates of a benchmark, each in a process of its own."""

import os
from functools import partial
from pathlib import Path

import jax
import pytest

from benchmarks import timing

pytestmark = pytest.mark.skipif(jax.default_backend() != 'cpu', reason='processes do not share an accelerator')


def calls(pid: Path) -> timing.Calls:
    return {'say': lambda: pid.write_text(str(os.getpid())), 'end': lambda: os._exit(3)}


def lives(pid: Path) -> bool:
    return Path(f'/proc/{pid.read_text()}').exists()


def test_candidates_run_apart_and_are_gone_afterwards(tmp_path):
    said = {who: tmp_path / who for who in ('ours', 'peer')}
    with timing.apart({who: partial(calls, path) for who, path in said.items()}) as made:
        for found in made.values():
            assert found['say']() is None
        assert len({os.getpid(), *(int(path.read_text()) for path in said.values())}) == 3
        assert all(map(lives, said.values()))
    assert not any(map(lives, said.values()))


def test_one_that_ends_is_named_and_leaves_none_behind(tmp_path):
    said = {who: tmp_path / who for who in ('ours', 'peer')}

    def run():
        with timing.apart({who: partial(calls, path) for who, path in said.items()}) as made:
            for found in made.values():
                found['say']()
            made['peer']['end']()

    with pytest.raises(SystemExit, match=r'the process of peer has ended \(exit code 3\)'):
        run()
    assert not any(map(lives, said.values()))
