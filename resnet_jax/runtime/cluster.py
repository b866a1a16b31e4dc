"""Where the processes of a run are, told by flags, or by the cluster that started them. Imports no JAX."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resnet_jax.errors import UserError

LOOPBACK = ('localhost', '127.0.0.1', '[::1]')
PORTS = (49_152, 65_535)  # for whoever wants one


@dataclass(frozen=True)
class Place:
    """This process among those of its run, as `jax.distributed.initialize` takes it; None: it finds that out itself.

    Attributes:
      devices: the accelerators of this machine that are this process's, by number; None: all.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    devices: tuple[int, ...] | None = None

    @property
    def bind(self) -> str | None:
        """Where the coordinator listens: where all processes are on one machine, to no other machine."""
        host, _, port = (self.coordinator or '').rpartition(':')
        return f'127.0.0.1:{port}' if host in LOOPBACK else None


def place(environ: Mapping[str, str], coordinator: str = '', processes: int = 0, process: int = -1) -> Place | None:
    """Where this process is; None: it is alone.

    Args:
      coordinator, processes, process: of the flags; without them RESNET_JAX_COORDINATOR, RESNET_JAX_PROCESSES and
        RESNET_JAX_PROCESS, or else SLURM, Open MPI or a TPU pod say it.

    Raises:
      UserError: they do not go together.
    """
    coordinator = coordinator or environ.get('RESNET_JAX_COORDINATOR', '')
    processes = processes or _number(environ, 'RESNET_JAX_PROCESSES', 0)
    process = process if process >= 0 else _number(environ, 'RESNET_JAX_PROCESS', -1)
    if coordinator or processes or process >= 0:
        return _told(coordinator, processes, process)
    if int(environ.get('SLURM_NTASKS', '1')) > 1 and 'SLURM_PROCID' in environ and 'SLURM_STEP_NODELIST' in environ:
        return _slurm(environ)
    if int(environ.get('OMPI_COMM_WORLD_SIZE', '1')) > 1 or tpu(environ):
        return Place()
    return None


def tpu(environ: Mapping[str, str]) -> bool:
    """Is this a TPU's host, alone or of a pod?"""
    named = environ.get('RESNET_JAX_PLATFORM') == 'tpu' or 'TPU_WORKER_HOSTNAMES' in environ
    return named and not _on_cpu(environ)


def _told(coordinator: str, processes: int, process: int) -> Place:
    if not coordinator or processes < 1 or process < 0:
        raise UserError(
            '--coordinator HOST:PORT, --processes N and --process I go together (or RESNET_JAX_COORDINATOR, '
            'RESNET_JAX_PROCESSES and RESNET_JAX_PROCESS); each process of a run gets the first two alike'
        )
    if not re.fullmatch(r'.+:\d{1,5}', coordinator) or not 0 < int(coordinator.rpartition(':')[2]) < 2**16:
        raise UserError(f'--coordinator is {coordinator!r}; it must be HOST:PORT, where process 0 is')
    if process >= processes:
        raise UserError(f'--process is {process}; of {processes} processes it must be from 0 to {processes - 1}')
    return Place(coordinator, processes, process)


def _slurm(environ: Mapping[str, str]) -> Place:
    processes, process = int(environ['SLURM_NTASKS']), int(environ['SLURM_PROCID'])
    devices = _share(environ, gpus(environ))
    if environ.get('SLURM_STEP_NUM_NODES') != '1':
        return Place(None, processes, process, devices)
    # Two steps of one job on one machine must not meet.
    first, last = PORTS
    port = first + (17 * int(environ['SLURM_JOB_ID']) + int(environ.get('SLURM_STEP_ID', '0'))) % (last - first)
    return Place(f'127.0.0.1:{port}', processes, process, devices)


def _share(environ: Mapping[str, str], gpus: int) -> tuple[int, ...] | None:
    """This task's GPUs of those that it sees: SLURM gives each task its own, or all of a machine to each of them."""
    tasks = int(environ['SLURM_TASKS_PER_NODE'].split('(')[0].split(',')[0]) if 'SLURM_TASKS_PER_NODE' in environ else 1
    if gpus <= 1 or tasks <= 1 or 'SLURM_GPUS_PER_TASK' in environ:
        return tuple(range(gpus)) or None
    if gpus % tasks:
        raise UserError(
            f'{tasks} tasks share the {gpus} GPUs of this machine; give it 1 task, or as many as divide them'
        )
    each, own = gpus // tasks, int(environ['SLURM_LOCALID'])
    return tuple(range(own * each, (own + 1) * each))


def gpus(environ: Mapping[str, str]) -> int:
    """How many NVIDIA GPUs this process sees."""
    if _on_cpu(environ):
        return 0
    visible = environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        return 0 if visible in ('', '-1', 'NoDevFiles') else len(visible.split(','))
    return len([path for path in Path('/dev').glob('nvidia*') if path.name[6:].isdecimal()])


def _on_cpu(environ: Mapping[str, str]) -> bool:
    """Is every accelerator to be left alone?"""
    return 'cpu' in (environ.get('JAX_PLATFORMS'), environ.get('RESNET_JAX_PLATFORM'))


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, str(default))
    if not re.fullmatch(r'-?\d+', text):
        raise UserError(f'{name} is {text!r}; it must be a number')
    return int(text)
