"""Compiled programs, kept in the cache folder of whoever runs them: what was compiled once starts at once. (Programs
with oneDNN's convolution or product cannot be kept: `models/onednn.py`.)

Such a program is run as it stands, so nobody else may be able to write there. And it is for one processor and so many
cores of it, which JAX does not ask when it takes one: each have a folder.
"""

import hashlib
import os
import platform
import stat
from contextlib import suppress
from pathlib import Path

from resnet_jax.cores import cores
from resnet_jax.files import cache_folder

LIMIT = 4 << 30  # bytes; beyond it go those that were not used for the longest time
FOLDER = 'JAX_COMPILATION_CACHE_DIR'


def keep() -> str:
    """Has JAX keep compiled programs, in this process and in those it starts; comes before JAX is imported. Returns
    why it does not, as a line to be shown, or nothing."""
    folder = cache_folder() / 'compiled'
    # What the process that started this one was told is for its own cores.
    if 'JAX_ENABLE_COMPILATION_CACHE' in os.environ or not Path(os.environ.get(FOLDER, folder)).is_relative_to(folder):
        return ''
    try:
        reason = _prepared(folder)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        return (f'compiled programs are not kept in {folder} ({reason}); XDG_CACHE_HOME names another place, and '
                'JAX_ENABLE_COMPILATION_CACHE=false none')  # fmt: skip
    os.environ |= {
        FOLDER: str(folder / _processor()), 'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
    }  # fmt: skip
    return ''


def _prepared(folder: Path) -> str:
    """Why nothing can be kept there, or nothing."""
    if not folder.is_absolute():
        return 'there is no home'
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return 'others can write there'
    _clean(folder)
    return ''


def _clean(folder: Path) -> None:
    """Down to the limit. Others may be cleaning too."""
    entries = []
    for path in folder.glob('*/*'):
        with suppress(FileNotFoundError):
            found = path.stat()
            entries.append((found.st_atime, found.st_size, path))
    excess = sum(size for _, size, _ in entries) - LIMIT
    for _, size, path in sorted(entries):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size


def _processor() -> str:
    """What programs of the CPU are compiled for: cores, and the processor's kind."""
    kind = platform.processor() or platform.machine()
    with suppress(OSError), open('/proc/cpuinfo') as file:
        kind += ''.join(sorted({line for line in file if line.startswith(('model name', 'flags', 'Features'))}))
    return f'{len(cores())}-{hashlib.sha256(kind.encode()).hexdigest()[:12]}'
