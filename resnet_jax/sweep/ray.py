"""The launcher for a Ray cluster: a task a run, done again elsewhere when its node is lost. Ray Core alone is used."""

import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import ModuleType

from resnet_jax.errors import UserError
from resnet_jax.sweep import state, work
from resnet_jax.sweep.work import HURRY, Stop, Task, pause

CPUS, GPUS = 1, 0.0  # of a run that is not told
BEGIN = 'one begins with RAY_AUTH_MODE=token ray start --head'
# In a process of its own: what goes wrong is said there in many lines, some of them not by Python.
CONNECT = 'import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)'
WORKER = {'RAY_kill_child_processes_on_worker_exit': 'false'}  # a run whose worker is gone ends by itself, saved
ONCE = {'RAY_NUM_REDIS_GET_RETRIES': '1'}  # without it a wrong token is tried for 20 seconds


def check(address: str, cpus: int, gpus: float) -> None:
    """Connects this process.

    Args:
      address: HOST:PORT of the cluster's head.
      cpus, gpus: of a run; several may share a GPU.

    Raises:
      UserError: Ray is not installed; there is no cluster; it does not let us in; a run cannot have that.
    """
    if cpus < 1:
        raise UserError(f'--cpus is {cpus}; a run has at least 1')
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise UserError(f'--gpus is {gpus:g}; a run has a whole number of them, or a part of one, as 0.5')
    ray = _ray()
    if ray.is_initialized():
        return
    _try(address)
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={'env_vars': WORKER})
    ray._private.worker._worker_logs_enabled = False  # what it says of a node that is lost: the statuses tell


def width(cpus: int, gpus: float) -> int:
    """How many runs the cluster has room for now."""
    there = [node['Resources'] for node in _ray().nodes() if node['Alive']]
    fit = [min(node.get('CPU', 0) // cpus, node.get('GPU', 0) // gpus if gpus else float('inf')) for node in there]
    return int(sum(fit))


def launch(sweep: state.Directory, tasks: Sequence[Task], stop: Stop, cpus: int, gpus: float) -> Iterator[str]:
    """Carries out all tasks, as there is room. Yields what there is to say, and '' now and then, to be shown; ends when
    all have ended. Asked to stop it cancels the sweep, which all runs see; asked again it leaves them.

    Raises:
      UserError: the cluster is lost, or a run's status cannot be read.
    """
    ray = _ray()
    if not width(cpus, gpus):
        yield f'no node of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs: the runs wait for one'
    carry_out = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(_carry_out)
    left = [carry_out.remote(task) for task in tasks]
    since = time.monotonic()
    try:
        while left and stop.times < HURRY:
            if stop.asked.is_set():
                state.cancel(sweep)
            ended, left = ray.wait(left, num_returns=len(left), timeout=pause(since))
            ray.get(ended)
            since = time.monotonic()
            yield ''
    except ray.exceptions.RayError as error:
        state.cancel(sweep)
        cause = getattr(error, 'cause', None)
        if isinstance(cause, UserError):
            raise cause from None
        raise UserError(
            f'Ray: {_last_line(str(error))}; the runs were asked to stop, the same command goes on'
        ) from None


def _carry_out(task: Task) -> None:
    """On whichever node."""
    stop = Stop()
    stop.heed_cancellation(task.sweep)
    work.wait_for_others(task, stop)


def _ray() -> ModuleType:
    os.environ.setdefault('RAY_AUTH_MODE', 'token')  # read when it is imported; without one whoever connects runs code
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise UserError('Ray is not installed: .venv/bin/pip install "ray>=2.52,<3" in the checkout (240 MB), or '
                        "pip install 'resnet-jax[ray]'") from None  # fmt: skip
    return ray


def _try(address: str) -> None:
    if not address:
        raise UserError(f'--launcher ray needs --address HOST:PORT, or RAY_ADDRESS: of a cluster; {BEGIN}')
    host, _, port = address.rpartition(':')
    if not re.fullmatch(r'[^/]+', host) or not port.isdecimal():
        raise UserError(f'--address is {address!r}; it must be HOST:PORT, where the head of a Ray cluster is')
    try:
        socket.create_connection((host, int(port)), timeout=10).close()  # Ray would try for minutes
    except (OSError, OverflowError) as error:
        raise UserError(f'no Ray cluster at {address} ({error}); {BEGIN}') from None
    command = (sys.executable, '-c', CONNECT, address)
    said = subprocess.run(command, env=os.environ | ONCE, capture_output=True, text=True)
    if any(word in said.stderr for word in ('InvalidAuthToken', 'AuthenticationError')):
        raise UserError(f'the Ray cluster at {address} does not take this token (RAY_AUTH_TOKEN, or the file that '
                        'RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token); give the one it was begun with')  # fmt: skip
    if said.returncode:
        raise UserError(f'no Ray cluster at {address} ({_last_line(said.stderr)}); {BEGIN}')


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ['no reason given'])[-1]
