"""The processes of a run: how they find each other, and what they agree on."""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from resnet_jax.errors import Elsewhere, Stopped, TogetherError, UserError, unwritable
from resnet_jax.runtime.cluster import Place


def start(place: Place | None, heartbeat: int) -> None:
    """Joins the other processes of the run, before JAX is used; where there are none it does nothing.

    Args:
      heartbeat: seconds that one may be silent, or missing at the start, before the others end.

    Where they do not come together in that time it ends this process with one line and the code of a stop: whoever
    started them may start them again.

    Raises:
      UserError: they cannot come together.
    """
    if place is None:
        return
    _keep_gloo_quiet()
    late = threading.Timer(heartbeat, _give_up, (heartbeat,))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            place.coordinator, place.processes, place.process, place.devices,
            # JAX itself would abort, with pages: that is to come later.
            initialization_timeout=2 * heartbeat, heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat, coordinator_bind_address=place.bind,
            # Else one of several that a single task of SLURM has would be left but one of its GPUs.
            cluster_detection_method='deactivate' if place.coordinator else None,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f'the processes of this run cannot come together ({str(error).splitlines()[0][:300]}); see that all were '
            'started, with the same --coordinator'
        ) from None
    finally:
        late.cancel()


def _give_up(seconds: int) -> None:
    print(f'resnet-jax: the processes of this run did not come together within {seconds} s; see that all were started, '
          'with the same --coordinator', file=sys.stderr, flush=True)  # fmt: skip
    os._exit(Stopped.exit_code)


def _keep_gloo_quiet() -> None:
    """It tells standard output of every connection, from C++: Python's output goes on elsewhere than that."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), 'w', buffering=1)
    with open(os.devnull, 'wb') as nowhere:
        os.dup2(nowhere.fileno(), 1)


@contextmanager
def joined(place: Place | None, heartbeat: int) -> Iterator[None]:
    """With the other processes of the run, where there are any: see `start`.

    A process that ends by a mistake or a fault of its own ends at once: to leave in order it would wait for the others.
    """
    start(place, heartbeat)
    try:
        yield
    except (Stopped, TogetherError) as error:
        if first():
            raise
        sys.exit(error.exit_code)  # behind the first one, which JAX waits for
    except BaseException as error:
        if place is None or jax.process_count() == 1:
            raise
        if isinstance(error, OSError) and (said := unwritable(error)):
            error = UserError(said)
        code = error.exit_code if isinstance(error, UserError) else 1
        if isinstance(error, KeyboardInterrupt):
            code = 130
        elif not isinstance(error, UserError):
            traceback.print_exc()
        elif not isinstance(error, Elsewhere):
            print(f'resnet-jax: {error} (process {jax.process_index()})', file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end_with_the_supervisor() -> None:
    """Stops this process, saved, when the one that started it is gone: the input that it holds closes then."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # not by Python's buffer, whose lock would be missed at the end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def first() -> bool:
    """Is this the process that writes the logs?"""
    return jax.process_index() == 0


def from_first(value: Any) -> Any:
    """What the first process has for `value`, which JSON can hold, on all of them."""
    return from_all(value)[0]


def from_all(value: Any) -> list[Any]:
    """What each process has for `value`, which JSON can hold, on all of them."""
    if jax.process_count() == 1:
        return [value]
    said = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = gathered(np.array(len(said)))
    padded = gathered(np.pad(said, (0, int(lengths.max()) - len(said))))
    return [json.loads(bytes(row[:length])) for row, length in zip(padded, lengths, strict=True)]


def on_first(action: Callable[[], None]) -> None:
    """Does what one process does for all.

    Raises:
      UserError: it did there; on the others, which have nothing to add, `Elsewhere`.
    """
    said = ''
    if first():
        try:
            action()
        except UserError as error:
            if jax.process_count() == 1:
                raise
            said = str(error)
        except OSError as error:
            if not (said := unwritable(error)):
                raise
    if said := from_first(said):
        raise UserError(said) if first() else Elsewhere(said)


def preempted(turn: int) -> bool:
    """Has JAX's runtime, told of a preemption, agreed with all processes to save now?

    Args:
      turn: how often this was asked; it must not leave out a number.
    """
    return jax.distributed.is_initialized() and multihost_utils.reached_preemption_sync_point(turn)


def gathered(values: np.ndarray) -> np.ndarray:
    """The numbers of every process, (processes, …)."""
    if jax.process_count() == 1:
        return values[None]
    return np.asarray(multihost_utils.process_allgather(values))
