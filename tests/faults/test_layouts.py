"""A checkpoint restored on other devices, in other processes, spread otherwise: no bit changes."""

import os
import subprocess
import sys

import jax
import pytest

from configs import default
from resnet_jax.runtime import directory
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.start import make_network, starting_state
from tests.faults.conftest import ROOT, needs_faults, same
from tests.faults.together import ONE_DEVICE, free_port

pytestmark = [ONE_DEVICE, needs_faults]

LAYOUT = """
import os, sys
from pathlib import Path
import jax
from resnet_jax.runtime import cluster, mesh, processes
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.runtime import directory
from resnet_jax.train.start import like_state
from resnet_jax.train.state import layout_of

processes.start(cluster.place(os.environ), 60)
fsdp, like = int(sys.argv[3]), like_state(directory.read_config(Path(sys.argv[1])))
layout = layout_of(like, mesh.all_devices(fsdp))
shapes = jax.tree.map(lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to), like, layout)
state = Checkpoints(Path(sys.argv[1]), read_only=True).restore(0, shapes)
assert max(jax.tree.leaves(state.params), key=lambda leaf: leaf.size).is_fully_replicated == (fsdp == 1)
written = Checkpoints(Path(sys.argv[2]))
written.save(0, state)
written.wait()
"""


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    """(a run's directory with a checkpoint that this process saved, its state); it has arrays worth cutting."""
    config, folder = default.get_config(), tmp_path_factory.mktemp('kept')
    config.network.update(stage_blocks=(1,), widths=(64,))
    directory.create(folder, config)
    state = starting_state(make_network(config), make_optimizer(config), config)
    checkpoints = Checkpoints(folder)
    checkpoints.save(0, state)
    checkpoints.close()
    return folder, state


@pytest.mark.parametrize(
    ('processes', 'devices', 'fsdp'),
    [(2, 2, 4), (2, 2, 2), (2, 1, 1), (1, 8, 4), (1, 2, 1)],
    ids=str,
)
def test_a_checkpoint_restored_and_saved_in_another_layout_has_the_same_bits(
    kept, processes, devices, fsdp, tmp_path, figure
):
    folder, state = kept
    told = {
        'RESNET_JAX_COORDINATOR': f'localhost:{free_port()}', 'RESNET_JAX_PROCESSES': str(processes),
        'JAX_NUM_CPU_DEVICES': str(devices),
    }  # fmt: skip
    line = [sys.executable, '-c', LAYOUT, folder, tmp_path, str(fsdp)]
    children = [
        subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True,
                         env=os.environ | told | {'RESNET_JAX_PROCESS': str(number)})
        for number in range(processes)
    ]  # fmt: skip
    ended = [(child.communicate(timeout=120)[1], child.returncode) for child in children]
    assert [code for _, code in ended] == [0] * processes, ended
    assert same(Checkpoints(tmp_path, read_only=True).restore(0, state), state)
    name = f'a checkpoint in {processes} × {devices} devices, fsdp {fsdp}'
    figure(name, f'{len(jax.tree.leaves(state))} arrays, all the same to the bit')
