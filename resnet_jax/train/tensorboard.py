"""TensorBoard's event files, whole after every record: no thread and no buffer to lose when a run is killed."""

import os
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def _without_torch() -> Iterator[None]:
    """tensorboardX imports PyTorch where that is installed, for what is not used here: it takes seconds."""
    if 'torch' in sys.modules:
        yield
        return
    sys.modules['torch'] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        sys.modules.pop('torch', None)


with _without_torch():
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import masked_crc32c


class EventFile:
    """A new file of events in `folder`; what older files say of steps after `step` no longer counts."""

    def __init__(self, folder: Path, step: int):
        folder.mkdir(exist_ok=True)
        self._path = folder / f'events.out.tfevents.{time.time():.6f}.{os.getpid()}'
        self._write(file_version='brain.Event:2')
        self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, kind: str, step: int, values: Mapping[str, float | int]) -> None:
        """Adds the scalars `kind/name`."""
        scalars = [Summary.Value(tag=f'{kind}/{name}', simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=scalars))

    def _write(self, **fields) -> None:
        event = Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack('<Q', len(event))
        checks = (struct.pack('<I', masked_crc32c(data)) for data in (length, event))
        with self._path.open('ab') as file:
            file.write(length + next(checks) + event + next(checks))
