"""Weights & Biases, beside a run: a process of its own that reads metrics.jsonl as it grows, and sends what it reads.

It can neither stop nor slow the run, whatever becomes of it; what it has to say is in RUN/wandb.log. By hand, of a run
that was trained without: `python -m resnet_jax.runtime.wandb RUN PROJECT </dev/null`.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.runtime import directory

LOOK = 1.0  # seconds between two looks at the file
LAST = 60.0  # seconds that it may take for what is left, once the run has ended


def check(project: str) -> None:
    """Refuses a run that is to be tracked, where that cannot be.

    Raises:
      UserError: Weights & Biases is not installed.
    """
    if project and importlib.util.find_spec('wandb') is None:
        raise UserError(f'config.run.wandb is {project!r}, but wandb is not installed: pip install wandb')


class Tracker:
    """The process beside a run; it ends by itself once this one has."""

    def __init__(self, run_dir: Path, project: str):
        self._log = run_dir / 'wandb.log'
        line = [sys.executable, '-m', 'resnet_jax.runtime.wandb', str(run_dir), project]
        with self._log.open('ab') as log:
            self._process = subprocess.Popen(
                line, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {'WANDB_SILENT': 'true'},
            )  # fmt: skip
        self._told = False

    def failure(self) -> str:
        """What has become of it, once: empty while all is well."""
        if self._told or self._process.poll() in (None, 0):
            return ''
        self._told = True
        return f'Weights & Biases has ended ({self._log} says why); training goes on without it'

    def close(self) -> None:
        """Tells it that there will be no more; it is not waited for."""
        assert self._process.stdin
        self._process.stdin.close()


def follow(run_dir: Path, project: str, ended: threading.Event) -> None:
    """Sends a run's records until it has ended."""
    wandb: Any = importlib.import_module('wandb')
    config = directory.read_config(run_dir)
    run = wandb.init(
        project=project, dir=run_dir, id=_id(run_dir, config), name=run_dir.resolve().name, resume='allow',
        config=spec.flatten(config),
    )  # fmt: skip
    for record in _records(run_dir / 'metrics.jsonl', ended):
        kind, step = record.pop('kind'), record.pop('step')
        run.log({f'{kind}/{key}': value for key, value in record.items()}, step=step)
    run.finish()


def _id(run_dir: Path, config: ConfigDict) -> str:
    """The run's, wherever it goes on; another one where the same is trained elsewhere."""
    place = hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:8]
    return f'{spec.identity(config)}-{place}'


def _records(path: Path, ended: threading.Event) -> Iterator[dict]:
    """Every record of the file, and those that come, until `ended`; a line without its end is still being written."""
    read, last = 0, False
    while not last:
        last = ended.wait(LOOK)
        if not path.exists():
            continue
        with path.open('rb') as file:
            file.seek(read)
            for line in file:
                if line.endswith(b'\n'):
                    read += len(line)
                    yield json.loads(line)


def _main(run_dir: str, project: str) -> None:
    ended = threading.Event()

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # the run holds the other end
        ended.set()
        limit = threading.Timer(LAST, os._exit, (1,))
        limit.daemon = True
        limit.start()

    threading.Thread(target=wait, daemon=True).start()
    follow(Path(run_dir), project, ended)


if __name__ == '__main__':
    _main(*sys.argv[1:])
