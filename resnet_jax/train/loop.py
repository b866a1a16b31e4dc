"""The training loop: calls of many steps between the events of a run (records, evaluations, checkpoints)."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool
from ml_collections import ConfigDict

from resnet_jax.data.order import Plan, plan
from resnet_jax.errors import Diverged, Stopped, UserError
from resnet_jax.models.resnet import ResNet
from resnet_jax.runtime import directory, mesh
from resnet_jax.runtime.checkpoint import Checkpoints
from resnet_jax.runtime.environment import differences, environment, fingerprint
from resnet_jax.runtime.signals import StopRequest, stop_request
from resnet_jax.train.evaluate import evaluate
from resnet_jax.train.feeding import Feeding, Unfed, resident_feeding, streamed_feeding
from resnet_jax.train.optimizer import make_optimizer
from resnet_jax.train.schedule import learning_rate
from resnet_jax.train.splits import Splits, place_dataset
from resnet_jax.train.start import make_network, starting_state
from resnet_jax.train.state import TrainState, initial_state, no_sums

# A call to the device lasts about this long, so that a stop is noticed and the display moves.
CALL_SECONDS = 1.0
TOLD = 20  # images that could not be read, named one by one


def train(config: ConfigDict, run_dir: Path, watch: Callable[[dict], None]) -> None:
    """Trains the run of `config` in `run_dir` up to `config.run.steps`, from its newest checkpoint if it has one.

    Args:
      watch: is called with every record of metrics.jsonl as it is made, and with `{'kind': 'loading', …}`,
        `{'kind': 'progress', …}` and `{'kind': 'note', 'text': …}` in between.

    Raises:
      UserError: what the config asks for cannot be, or the loss became non-finite.
      Stopped: by SIGINT or SIGTERM, after the state was saved.
    """
    for batch in config.train.phases.batch_sizes:
        mesh.data_mesh(batch)  # refuses what the devices do not divide
    devices = mesh.data_mesh(config.train.batch_size)
    with directory.held(run_dir), stop_request() as stop:
        directory.check(run_dir, config)
        splits = place_dataset(config, mesh.whole(devices), partial(_loading, watch))
        _check_batch(config, splits.dataset.count('train'))
        splits.read()
        streamed = splits.training_streamed
        examples = splits.dataset.count('train') if streamed else len(splits.train.labels)
        _check_batch(config, examples)  # what was skipped is not among them
        normalization = splits.normalization
        directory.check_data(run_dir, splits.dataset.fingerprint)
        network, optimizer = make_network(config), make_optimizer(config)
        checkpoints = Checkpoints(run_dir, keep=config.run.keep, snapshots=config.run.snapshots)
        if checkpoints.steps:
            state = _resume(run_dir, checkpoints, initial_state(network, optimizer, config.seed), devices, watch)
        else:
            state = jax.device_put(starting_state(network, optimizer, config), mesh.whole(devices))
        # Not before all of it was found to be possible: the directory is then this run's.
        directory.create(run_dir, config)
        directory.write_preprocessing(run_dir, normalization, splits.classes, splits.dataset.fingerprint)
        recorder = Recorder(run_dir, int(state.step), watch, tensorboard=config.run.tensorboard)
        if int(state.step) == 0:
            checkpoints.save(0, state)
        schedule = plan(config, examples, network.arch.image_shape[0])
        parts = (network, optimizer, config, splits, schedule)
        feeding = streamed_feeding(*parts, int(state.step)) if streamed else resident_feeding(*parts)
        try:
            _run(config, network, feeding, schedule, splits, state, checkpoints, recorder, stop)
        finally:
            feeding.close()


def _check_batch(config: ConfigDict, examples: int) -> None:
    """Refuses a batch that is larger than the training split, of which the data alone tell what the settings leave."""
    if examples < (largest := max(config.train.batch_size, *config.train.phases.batch_sizes, 0)):
        raise UserError(
            f'config.train.batch_size is {largest}; it must be at most the {examples} training '
            f'examples that the settings of data leave (data.classes {config.data.classes}, data.selection '
            f'{config.data.selection})'
        )


def _loading(watch: Callable[[dict], None], what: str, done: int, total: int) -> None:
    watch({'kind': 'loading', 'what': what, 'done': done, 'total': total})


def _resume(
    run_dir: Path, checkpoints: Checkpoints, like: TrainState, devices: jax.sharding.Mesh, watch: Callable
) -> TrainState:
    """The newest checkpoint's state, which is like this one."""
    state = checkpoints.restore(checkpoints.steps[-1], jax.device_put(like, mesh.whole(devices)))
    changes = differences(directory.read_environment(run_dir), fingerprint())
    exactly = f'within float tolerance ({"; ".join(changes)})' if changes else 'exactly'
    watch({'kind': 'note', 'text': f'resumed {exactly} at step {int(state.step):,}'})
    return state


class Recorder:
    """Where records go: metrics.jsonl, TensorBoard, whoever watches."""

    def __init__(self, run_dir: Path, step: int, watch: Callable[[dict], None], *, tensorboard: bool):
        directory.write_environment(run_dir, environment())
        kept = directory.keep_metrics_until(run_dir, step)
        self.recorded = {(record['kind'], record['step']) for record in kept}
        self.run_dir, self.watch, self._events = run_dir, watch, None
        if tensorboard:
            from resnet_jax.train.tensorboard import EventFile

            self._events = EventFile(run_dir / 'tensorboard', step)

    def __call__(self, kind: str, step: int, **values: float | int) -> None:
        record = {'kind': kind, 'step': step, **values}
        self.recorded.add((kind, step))
        try:
            directory.append_metrics(self.run_dir, record)
            if self._events:
                self._events.add(kind, step, values)
        except OSError as error:
            raise UserError(
                f'step {step} could not be recorded in {self.run_dir} ({error.strerror}): free some space and start '
                'again to resume'
            ) from None
        self.watch(record)


def _run(
    config: ConfigDict,
    network: ResNet,
    feeding: Feeding,
    schedule: Plan,
    splits: Splits,
    state: TrainState,
    checkpoints: Checkpoints,
    recorder: Recorder,
    stop: StopRequest,
) -> None:
    """Alternates calls of the compiled steps with the events that fall between them."""
    rate, clock = learning_rate(config.train.schedule), Clock()
    step, told = int(state.step), 0  # of what was skipped
    while True:
        # Saved first: what evaluation meets, a broken image say, loses nothing.
        if _due(step, config.run.save_every, config.run.steps) or step in config.run.snapshots:
            checkpoints.save(step, state)
            clock.pause()
        if _due(step, config.run.eval_every, config.run.steps) and ('test', step) not in recorder.recorded:
            _test(config, network, state, splits, recorder)
            clock.pause()
        if stop:
            checkpoints.save(step, state)
            raise Stopped(f'stopped by {stop.reason} at step {step:,}, saved; the same command goes on from there')
        if step >= config.run.steps:
            return
        until = min(_next_event(config.run, step), schedule.epoch_end(step), step + clock.steps_a_call())
        try:
            state = feeding.advance(state, until)
        except Unfed as error:
            checkpoints.save(int(error.state.step), error.state)
            raise
        told = _tell_skipped(feeding.skipped, told, recorder.watch)
        done = int(state.step) - step
        clock.count(done)
        step += done
        if not _finite(state):
            recorder('diverged', step)
            raise _diverged(step, checkpoints)
        if _due(step, config.run.log_every, config.run.steps):
            state = _record_train(recorder, state, schedule, float(rate(step - 1)), clock, len(feeding.skipped))
        recorder.watch({'kind': 'progress', 'step': step, 'rate': clock.rate})


def _tell_skipped(skipped: list[str], told: int, watch: Callable[[dict], None]) -> int:
    """Says what could not be read since; the first ones in full. Returns how many have been told of."""
    for line in skipped[told:TOLD]:
        watch({'kind': 'note', 'text': f'skipped: {line}'})
    if told < len(skipped) and len(skipped) > TOLD:
        watch({'kind': 'note', 'text': f'{len(skipped):,} images were skipped so far, of which {TOLD} are named above'})
    return len(skipped)


def _due(step: int, every: int, last: int) -> bool:
    return step > 0 and (step >= last or (every > 0 and step % every == 0))


def _next_event(run: ConfigDict, step: int) -> int:
    """The next step at which something is to be recorded, evaluated or saved."""
    intervals = [every for every in (run.log_every, run.eval_every, run.save_every) if every]
    snapshots = [snapshot for snapshot in run.snapshots if snapshot > step]
    return min([run.steps, *snapshots, *((step // every + 1) * every for every in intervals)])


def _record_train(
    recorder: Recorder, state: TrainState, schedule: Plan, learning_rate: float, clock: 'Clock', skipped: int
) -> TrainState:
    sums, step = jax.device_get(state.sums), int(state.step)
    count, moment = int(sums.steps), schedule.at(step)
    seen = sum(schedule.at(each).phase.batch for each in range(step - count, step))
    epoch = moment.epoch + moment.index / (schedule.examples // moment.phase.batch)
    recorder(
        'train', step, epoch=round(epoch, 4), loss=float(sums.loss) / count,
        error=100 * int(sums.errors) / seen, learning_rate=learning_rate,
        seconds=round(clock.seconds, 3), images_per_second=round(clock.rate * seen / count, 1),
        **({'skipped': skipped} if skipped else {}),
    )  # fmt: skip
    return state._replace(sums=jax.device_put(no_sums(), state.sums.loss.sharding))


def _test(config: ConfigDict, network: ResNet, state: TrainState, splits: Splits, recorder: Recorder) -> None:
    result = evaluate(network, state.variables, splits.test, splits.normalization, batch=config.run.eval_batch)
    skipped = splits.skipped('test')
    recorder(
        'test', int(state.step), loss=result.loss, error=result.error, correct=result.correct,
        examples=result.examples, **({'skipped': len(skipped)} if skipped else {}),
    )  # fmt: skip
    if not any(kind == 'test' and step < int(state.step) for kind, step in recorder.recorded):
        _tell_skipped(skipped, 0, recorder.watch)


@jax.jit
def _finite(state: TrainState) -> Bool[Array, '']:
    """Is every number of it finite? A loss may be that of parameters which its own step then blew up."""
    numbers = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in numbers]))


def _diverged(step: int, checkpoints: Checkpoints) -> Diverged:
    good = max(saved for saved in checkpoints.steps)
    return Diverged(
        f'the loss or a parameter is not finite at step {step}; the last good checkpoint is that of step {good} in '
        f'{checkpoints.directory}. Lower train.schedule.learning_rate or add a warm-up, in another --run'
    )


class Clock:
    """Measures the steps themselves (evaluations and checkpoints apart), and sizes the calls by it."""

    def __init__(self):
        self.rate, self.seconds, self._calls = 0.0, 0.0, 0
        self._since = time.perf_counter()

    def pause(self) -> None:
        self._since = time.perf_counter()

    def count(self, steps: int) -> None:
        """Takes in a call of so many steps that has just ended; the first one compiled, and counts for no rate."""
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        self.seconds, self._calls = self.seconds + elapsed, self._calls + 1
        if self._calls > 1:
            latest = steps / elapsed
            self.rate = latest if self._calls == 2 else 0.7 * self.rate + 0.3 * latest

    def steps_a_call(self) -> int:
        return max(1, int(self.rate * CALL_SECONDS))
