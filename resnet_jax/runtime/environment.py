"""The environment a run computes in: under an equal fingerprint a resumed run is bitwise the same."""

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import jax
from ml_collections import ConfigDict

from resnet_jax.cores import cores

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
DETERMINISTIC = '--xla_gpu_deterministic_ops=true'
COMPUTED = ('scan_from', 'fsdp', 'remat')  # settings of `run` that order sums


def fingerprint(run: ConfigDict | None = None) -> dict[str, object]:
    """What decides the bits of a result beside what defines the run: code, versions, flags, devices, processes, CPU
    affinity, and how the settings `run` have it computed."""
    devices = jax.devices()
    return {
        'python': platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        'commit': _commit(),
        'flags': ' '.join(f'{name}={value}' for name, value in sorted(os.environ.items()) if _decides(name)),
        'platform': devices[0].platform,
        'device': devices[0].device_kind,
        'devices': len(devices),
        'processes': jax.process_count(),
        'cpus': len(cores()),
        'processor': _processor(),
        **({name: run[name] for name in COMPUTED} if run else {}),
    }


def environment() -> dict[str, object]:
    """The fingerprint, and on what system."""
    return {**fingerprint(), 'system': platform.platform()}


def differences(stored: dict[str, object], present: dict[str, object]) -> list[str]:
    """Why bits may differ: what of the stored fingerprint is otherwise now, as `jax 0.10.1 -> 0.10.2`."""
    found = [f'{key} {stored.get(key)} -> {value}' for key, value in present.items() if stored.get(key) != value]
    if present.get('platform') == 'gpu' and DETERMINISTIC not in str(present['flags']):
        found.append(f'a GPU adds in any order, but with XLA_FLAGS={DETERMINISTIC}')
    return found


def _decides(name: str) -> bool:
    """Not where compiled programs are kept."""
    ours = name.startswith(('XLA_', 'JAX_')) and '_CACHE' not in name
    return ours or name.startswith(('ONEDNN_', 'DNNL_')) or name in ('NPROC', 'PJRT_NPROC')


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor()


@cache
def _commit() -> str:
    """The commit of the code that runs, with `+` where the checkout has changes of its own; empty outside of one."""
    here = Path(__file__).parent
    try:
        shown = subprocess.run(
            ['git', 'describe', '--always', '--dirty=+', '--abbrev=12'], cwd=here, capture_output=True, text=True
        )
    except OSError:
        return ''
    return shown.stdout.strip() if shown.returncode == 0 else ''
