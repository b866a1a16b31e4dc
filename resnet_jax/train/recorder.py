"""Where the records of a run go."""

from collections.abc import Callable
from pathlib import Path

from resnet_jax.errors import UserError
from resnet_jax.runtime import directory
from resnet_jax.runtime.environment import environment
from resnet_jax.runtime.processes import first, from_first, on_first
from resnet_jax.runtime.wandb import Tracker


class Recorder:
    """Where records go: metrics.jsonl, TensorBoard, Weights & Biases, whoever watches. The first process writes for
    all.

    Attributes:
      recorded: the kinds and steps of the records that there are.
      seconds: that its steps had taken, by the last of them.
    """

    def __init__(
        self,
        run_dir: Path,
        step: int,
        watch: Callable[[dict], None],
        *,
        tensorboard: bool,
        unsaved: str,
        wandb: str = '',
    ):
        self.run_dir, self.watch, self._events, self._unsaved = run_dir, watch, None, unsaved
        kept: list[dict] = []

        def begin() -> None:
            directory.write_environment(run_dir, environment())
            kept.extend(directory.keep_metrics_until(run_dir, step))

        on_first(begin)
        self.kept = from_first(kept)
        self.recorded = {(record['kind'], record['step']) for record in self.kept}
        self.seconds: float = max((record.get('seconds', 0.0) for record in self.kept), default=0.0)
        if tensorboard and first():
            from resnet_jax.train.tensorboard import EventFile

            self._events = EventFile(run_dir / 'tensorboard', step)
        self._tracker = self._track(wandb) if wandb and first() else None

    def __call__(self, kind: str, step: int, **values: float | int | list | str) -> None:
        record = {'kind': kind, 'step': step, **values}
        self.recorded.add((kind, step))
        on_first(lambda: self._write(record))
        self.watch(record)
        if self._tracker and (failure := self._tracker.failure()):
            self.note(failure)

    def _track(self, project: str) -> Tracker | None:
        try:
            return Tracker(self.run_dir, project)
        except OSError as error:
            self.note(f'Weights & Biases does not start ({error.strerror}); training goes on without it')
            return None

    def close(self) -> None:
        if self._tracker:
            self._tracker.close()

    def note(self, text: str) -> None:
        """Says something to whoever watches."""
        self.watch({'kind': 'note', 'text': text})

    def _write(self, record: dict) -> None:
        kind, step = record['kind'], record['step']
        numbers = {key: value for key, value in record.items() if isinstance(value, int | float) and key != 'step'}
        try:
            directory.append_metrics(self.run_dir, record)
            if self._events:
                self._events.add(kind, step, numbers)
        except OSError as error:
            message = f'step {step} could not be recorded in {self.run_dir} ({error.strerror})'
            if self._unsaved == 'stop':
                raise UserError(f'{message}: free some space and start again to resume') from None
            self.note(f'{message}; training goes on without that record, as config.run.unsaved says')
