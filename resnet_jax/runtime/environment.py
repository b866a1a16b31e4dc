"""The environment a run computes in: under an equal fingerprint a resumed run is bitwise the same."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import jax

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def fingerprint() -> dict[str, object]:
    """What decides the bits of a result: code, versions, flags, devices, processes, CPU affinity."""
    devices = jax.devices()
    return {
        'python': platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        'commit': _commit(),
        'flags': ' '.join(f'{k}={v}' for k, v in sorted(os.environ.items()) if k.startswith(('XLA_', 'JAX_'))),
        'platform': devices[0].platform,
        'device': devices[0].device_kind,
        'devices': len(devices),
        'processes': jax.process_count(),
        'cpus': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
        'processor': _processor(),
    }


def environment() -> dict[str, object]:
    """The fingerprint, and on what system."""
    return {**fingerprint(), 'system': platform.platform()}


def differences(stored: dict[str, object], present: dict[str, object]) -> list[str]:
    """What of the stored fingerprint is otherwise now, as `jax 0.10.1 -> 0.10.2`."""
    return [f'{key} {stored.get(key)} -> {value}' for key, value in present.items() if stored.get(key) != value]


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor()


def _commit() -> str:
    """The checkout's commit, with `+` where it has changes of its own; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        shown = subprocess.run(
            ['git', 'describe', '--always', '--dirty=+', '--abbrev=12'], cwd=here, capture_output=True, text=True
        )
    except OSError:
        return ''
    return shown.stdout.strip() if shown.returncode == 0 else ''
