"""Several processes of one run on this machine: all are started again when one dies. Imports no JAX."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from resnet_jax.errors import Stopped, UserError
from resnet_jax.runtime import directory
from resnet_jax.runtime.cluster import gpus

LOOK = 0.05  # seconds between two looks at the processes
GRACE = 5.0  # seconds that the others have after one has ended, where it was not by a fault
PATIENCE = 300.0  # seconds after a signal in which they are to have saved and ended
LAST_WORDS = 5.0  # seconds to pass on what they said last; a worker of theirs may hold the pipe for longer
IN_VAIN = 3  # starts one after the other that came to no new checkpoint, before it is given up
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def supervise(command: Sequence[str], run_dir: Path, processes: int, devices: int) -> int:
    """Runs `resnet-jax COMMAND` as so many processes of so many devices each; returns its exit code.

    The first one's output is shown; what each has to say of errors is in RUN/processes/. They have a session of their
    own: signals come by way of this process, and they end with it.

    Raises:
      UserError: the directory cannot be written, or again and again a process dies before there is a new checkpoint.
    """
    with directory.held(run_dir):  # or it is said here why not
        (run_dir / 'processes').mkdir(exist_ok=True)
    vain, newest = 0, reached(run_dir)
    while True:
        started: list[subprocess.Popen] = []
        relays: list[threading.Thread] = []
        with _forwarding(started) as forwarded:
            for process, relay in _start(command, run_dir, processes, devices):
                started.append(process)
                relays.append(relay)
                if forwarded:  # while they were being started
                    process.send_signal(forwarded[-1])
            number, code = _watch(started, forwarded)
        _hear_out(relays)
        if code in (0, UserError.exit_code, Stopped.exit_code, 130):
            return code
        if forwarded:  # before there was anything to save, or as it broke: what was asked to stop does not start again
            return 128 - code if code < 0 else code
        before, newest = newest, reached(run_dir)
        vain = 0 if newest > before else vain + 1
        how = f'was ended by {signal.Signals(-code).name}' if code < 0 else f'ended with {code}'
        if vain == IN_VAIN:
            raise UserError(f'process {number} {how}, in {IN_VAIN} starts without a new checkpoint; why, '
                            f'{_log(run_dir, number)} may say')  # fmt: skip
        print(f'resnet-jax: process {number} {how} ({_log(run_dir, number)}); all start again from the newest '
              'checkpoint', file=sys.stderr, flush=True)  # fmt: skip


def _start(
    command: Sequence[str], run_dir: Path, processes: int, devices: int
) -> Iterator[tuple[subprocess.Popen, threading.Thread]]:
    """Each process, and what passes on what it says."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        coordinator = f'127.0.0.1:{free.getsockname()[1]}'
    said = set()
    for number in range(processes):
        environment = os.environ | _devices(number, processes, devices) | {
            'RESNET_JAX_COORDINATOR': coordinator, 'RESNET_JAX_PROCESSES': str(processes),
            'RESNET_JAX_PROCESS': str(number), 'RESNET_JAX_SUPERVISED': '1',
        }  # fmt: skip
        # Whoever supervises holds the other end of its input: it ends when that closes.
        process = subprocess.Popen(
            [sys.executable, '-m', 'resnet_jax.cli', *command], env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL if number else None, stderr=subprocess.PIPE,
        )  # fmt: skip
        relay = threading.Thread(target=_relay, args=(process.stderr, _log(run_dir, number), said), daemon=True)
        relay.start()
        yield process, relay


def _relay(lines: IO[bytes], log: Path, said: set[bytes]) -> None:
    """All that a process says of errors goes into its log; what it has to say to the user is shown as well, once."""
    with log.open('ab', buffering=0) as file:
        for line in lines:
            file.write(line)
            text = line.split(b' (process ')[0]
            if line.startswith(b'resnet-jax: ') and text not in said:
                said.add(text)
                sys.stderr.write(line.decode(errors='replace'))
                sys.stderr.flush()


def _hear_out(relays: Sequence[threading.Thread]) -> None:
    """Until all that the ended processes said has been passed on."""
    until = time.monotonic() + LAST_WORDS
    for relay in relays:
        relay.join(max(0, until - time.monotonic()))


def _devices(number: int, processes: int, devices: int) -> dict[str, str]:
    """The environment in which a process has its share of the GPUs, or so many devices of the CPU."""
    there = gpus(os.environ)
    if not there:
        return {'JAX_NUM_CPU_DEVICES': str(devices), 'JAX_PLATFORMS': 'cpu'}
    if processes * devices > there:
        raise UserError(f'{processes} processes of {devices} devices need {processes * devices} GPUs; there are '
                        f'{there}. JAX_PLATFORMS=cpu takes the CPU')  # fmt: skip
    visible = os.environ.get('CUDA_VISIBLE_DEVICES') or ','.join(map(str, range(there)))
    own = visible.split(',')[number * devices : (number + 1) * devices]
    return {'CUDA_VISIBLE_DEVICES': ','.join(own)}


def _watch(started: Sequence[subprocess.Popen], forwarded: Sequence[int]) -> tuple[int, int]:
    """Until all have ended. Returns the number and exit code of the first that did not end well, or (0, 0).

    After a fault the others wait for one that is gone: they are ended at once. After a mistake or a stop they are about
    to end themselves. What has been forwarded a signal and does not end, one that waits for another say, is ended.
    """
    first, until, asked = (0, 0), float('inf'), float('inf')
    while any([process.poll() is None for process in started]):  # noqa: C419 (each is to be asked)
        if not first[1]:
            first = next(
                ((number, code) for number, process in enumerate(started) if (code := process.returncode)), first
            )
            if first[1]:
                until = time.monotonic() + GRACE * (first[1] in (UserError.exit_code, Stopped.exit_code))
        if forwarded:
            asked = min(asked, time.monotonic())
        if time.monotonic() >= min(until, asked + PATIENCE):
            if until == float('inf'):
                until = 0.0
                print(f'resnet-jax: {PATIENCE:g} s after {signal.Signals(forwarded[0]).name} not all processes had '
                      'ended, and were killed; the same command goes on from the newest checkpoint',
                      file=sys.stderr, flush=True)  # fmt: skip
            for process in started:
                process.kill()
        time.sleep(LOOK)
    codes = ((number, process.returncode) for number, process in enumerate(started))
    return first if first[1] else next(((number, code) for number, code in codes if code), first)


@contextmanager
def _forwarding(started: Sequence[subprocess.Popen]) -> Iterator[list[int]]:
    """While it lasts these signals go to the processes, and into the list; a second Ctrl-C ends them at once."""
    forwarded: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        forwarded.append(number)
        for process in started:
            process.send_signal(signal.SIGKILL if forwarded.count(signal.SIGINT) > 1 else number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield forwarded
        if forwarded.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in started:
            process.kill()
            process.wait()


def reached(run_dir: Path) -> int:
    """How far a run's checkpoints have come: the newest one's step plus one, of several seeds the sum; 0: none yet."""
    return sum(map(_reached, filter(_begun, directory.seeds_in(run_dir)))) if _begun(run_dir) else 0


def _begun(run_dir: Path) -> bool:
    return (run_dir / 'config.json').exists()


def _reached(run_dir: Path) -> int:
    place = directory.checkpoints(run_dir, directory.own_place(directory.read_config(run_dir)))
    found = (path.parent.name for path in place.glob('*/manifest.json'))
    return max((int(name) + 1 for name in found if name.isdecimal()), default=0)


def _log(run_dir: Path, number: int) -> Path:
    return run_dir / 'processes' / f'{number}.log'


if __name__ == '__main__':  # cluster/slurm.sbatch, which starts a run again by the same rule, asks how far it has come
    from resnet_jax.cli import parser

    print(reached(parser().parse_known_args()[0].run))
