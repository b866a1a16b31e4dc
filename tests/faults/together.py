"""A run of several processes, and how it is broken."""

import signal
import socket
from pathlib import Path

import jax
import pytest

ONE_DEVICE = pytest.mark.skipif(
    jax.default_backend() != 'cpu' or jax.device_count() != 1 or not Path('/proc/self/task').is_dir(),
    reason='compares one processor with several, of which /proc tells',
)
HEARTBEAT, SLACK = 10, 5  # seconds; the second: to notice that another is gone, and to go
TOGETHER = ('--processes', 2, '--devices', 2)
SETTINGS = {
    'network.stem_width': 4, 'network.widths': (4,), 'network.stage_blocks': (1,), 'data.normalize': 'imagenet',
    'train.batch_size': 8, 'train.schedule.learning_rate': 0.01, 'run.placement': 'stream', 'run.log_every': 1,
    'run.save_every': 5, 'run.eval_every': 1000, 'run.eval_batch': 10, 'run.keep': 2, 'run.snapshots': (1,),
    'run.tensorboard': False,
}  # fmt: skip
BREAKS = {
    'process 1 killed': (1, signal.SIGKILL),
    'process 0 killed': (0, signal.SIGKILL),
    'process 1 stopped': (1, signal.SIGSTOP),
}


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]
