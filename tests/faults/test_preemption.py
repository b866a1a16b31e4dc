"""A preemption that JAX's runtime is told of, and not we: all processes save at one step and exit with 75."""

import re
import subprocess
import sys

from resnet_jax.train.start import found_step
from tests.faults.conftest import ROOT
from tests.faults.together import free_port

# JAX has its handler of SIGTERM as soon as processes are joined, and ours stands in its place in training alone.
STORY = """
import os, signal, sys
from resnet_jax import cli
from resnet_jax.runtime import processes
from resnet_jax.runtime.cluster import Place

joined = processes.start
def start(place, heartbeat):
    joined(place, heartbeat)
    os.kill(os.getpid(), signal.SIGTERM)
processes.start = start
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_notice_of_jaxs_runtime_saves_the_run_and_exits_with_75(tmp_path, tiny_file):
    done = subprocess.run(
        [sys.executable, '-c', STORY, 'train', '--config', tiny_file, '--run', tmp_path / 'run',
         '--coordinator', f'127.0.0.1:{free_port()}', '--processes', '1', '--process', '0',
         '--config.run.steps=1000000'],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr
    said = re.findall(r'resnet-jax: stopped by a preemption notice at step ([\d,]+), saved', done.stderr)
    assert len(said) == 1
    assert found_step(tmp_path / 'run', None) == int(said[0].replace(',', ''))
