"""The training loop: calls of many steps between the events of a run (records, evaluations, checkpoints)."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool
from ml_collections import ConfigDict

from resnet_jax.errors import Diverged, Stopped
from resnet_jax.runtime import directory, mesh, processes, wandb
from resnet_jax.runtime.signals import StopRequest, stop_request
from resnet_jax.train import seeds
from resnet_jax.train.clock import Clock
from resnet_jax.train.events import diverged, evaluate_splits, not_finite, record_training, tell_skipped
from resnet_jax.train.feeding import Unfed
from resnet_jax.train.saving import save, save_last, settled
from resnet_jax.train.state import TrainState
from resnet_jax.train.training import Training, open_shared, open_training

Run = tuple[Training, TrainState]


def train(config: ConfigDict, run_dir: Path, watch: Callable[[dict], None]) -> None:
    """Trains the run of `config` in `run_dir` up to `config.run.steps`, from its newest checkpoint if it has one; or as
    many runs as `train.seeds` says, in directories in it (`seeds.runs`), each to what it would be alone.

    Args:
      watch: is called with every record of metrics.jsonl as it is made, and with `{'kind': 'loading', …}`,
        `{'kind': 'progress', …}`, `{'kind': 'layout', …}` and `{'kind': 'note', 'text': …}` in between. Of several
        runs, what one of them has to say has its `seed`.

    Raises:
      UserError: what the config asks for cannot be, or the loss became non-finite: of several runs, that of each.
      Stopped: by SIGINT, SIGTERM, SIGUSR1 or a preemption, after the state was saved.
    """
    for batch in (config.train.batch_size, *config.train.phases.batch_sizes):
        mesh.check_batch(batch, config.train.microbatches)
    wandb.check(config.run.wandb)
    runs, ended = seeds.runs(config, run_dir), {}
    seeds.check_processes(runs)
    with ExitStack() as stack:
        for path, own in ({run_dir: config} | runs).items():
            processes.on_first(partial(_take, stack, path, own))
        stop = stack.enter_context(stop_request())
        shared = open_shared(stack, config, runs, watch)
        groups = seeds.groups(config, runs, shared.splits, watch)
        if several := len(runs) > 1:
            directory.create(run_dir, config)
        for group in groups:
            with ExitStack() as opened:
                begun = [
                    open_training(opened, shared, own, path, seeds.watching(watch, own) if several else watch)
                    for path, own in group.items()
                ]
                ended |= _run(begun, stop)
    seeds.conclude(runs, ended, watch)


def _take(stack: ExitStack, run_dir: Path, config: ConfigDict) -> None:
    """Holds a directory that is this run's, or is to be."""
    stack.enter_context(directory.held(run_dir))
    directory.check(run_dir, config)


def _run(runs: list[Run], stop: StopRequest) -> dict[int, Diverged]:
    """Alternates calls of the compiled steps with the events that fall between them. Returns, by their seeds, how runs
    ended that diverged: they stop, and the others go on as without them.

    Runs that differ in their seeds alone are trained together. Those that are behind, as after a kill, go on without
    the others until they have come up to them.
    """
    settings, told, turns, ended = runs[0][0].config.run, 0, count(), {}
    clock = Clock(max(training.recorder.seconds for training, _ in runs))
    while runs:
        step = min(int(state.step) for _, state in runs)
        now = [run for run in runs if int(run[1].step) == step]
        later = [run for run in runs if int(run[1].step) > step]
        for training, state in now:
            _between(training, state, clock, stop)
        asked, steps_a_call = _agree(stop, clock, next(turns))
        if asked:
            for training, state in runs:
                save_last(training, state)
            raise Stopped(f'stopped by {asked} at step {step:,}, saved; the same command goes on from there')
        if step >= settings.steps:
            for training, _ in runs:
                settled(training, training.checkpoints.wait)
            break
        until = min(_next_event(now[0][0], step), step + steps_a_call, *(int(state.step) for _, state in later))
        skipped = [int(state.skipped) for _, state in now]
        states = _advance(now, until)
        told = tell_skipped(now[0][0].feeding.skipped, told, now[0][0].recorder)
        clock.count(int(states[0].step) - step)
        runs = later
        for (training, _), before, state in zip(now, skipped, states, strict=True):
            try:
                runs = [*runs, (training, _after(training, state, before, clock))]
            except Diverged as error:
                ended[training.config.seed] = error
        if runs:
            runs[-1][0].recorder.watch({'kind': 'progress', 'step': int(states[0].step), 'rate': clock.rate})
    return ended


def _between(training: Training, state: TrainState, clock: Clock, stop: StopRequest) -> None:
    """What is due where the calls of the steps end: saving, evaluation."""
    settings, step = training.config.run, int(state.step)
    # Saved first: what evaluation meets, a broken image say, loses nothing.
    if step == 0 or _due(step, settings.save_every, settings.steps) or step in settings.snapshots:
        save(training, state)
        clock.pause()
    if _due(step, settings.eval_every, settings.steps):
        evaluate_splits(training, state, stop)
        clock.pause()


def _after(training: Training, state: TrainState, skipped: int, clock: Clock) -> TrainState:
    """What a call of the steps has come to, of a run that had skipped so many batches: recorded, where that is due.

    Raises:
      Diverged: it is of no use any more.
    """
    settings, step = training.config.run, int(state.step)
    if int(state.skipped) > skipped:
        not_finite(training, state)
    if not _finite(state):
        raise diverged(training, step, f'a parameter is not finite after step {step}')
    return record_training(training, state, clock) if _due(step, settings.log_every, settings.steps) else state


def _agree(stop: StopRequest, clock: Clock, turn: int) -> tuple[str, int]:
    """What asks the processes to stop now, if anything does; and the steps of the next call, the same for all."""
    preempted = processes.preempted(turn)
    said = processes.gathered(np.array([stop.number, clock.steps_a_call()]))
    number = int(said[:, 0].max())
    return 'a preemption notice' if preempted else signal.Signals(number).name if number else '', int(said[0, 1])


def _advance(runs: list[Run], until: int) -> tuple[TrainState, ...]:
    first = runs[0][0]
    try:
        plans, states = [training.plan for training, _ in runs], tuple(state for _, state in runs)
        return first.feeding.advance(plans, states, until)
    except Unfed as error:
        save_last(first, error.state)
        raise


@jax.jit
def _finite(state: TrainState) -> Bool[Array, '']:
    """Is every number of it finite? The update of a finite gradient may still be too large."""
    numbers = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in numbers]))


def _due(step: int, every: int, last: int) -> bool:
    return step > 0 and (step >= last or (every > 0 and step % every == 0))


def _next_event(training: Training, step: int) -> int:
    """The next step at which something is to be recorded, evaluated or saved, or an epoch ends."""
    run = training.config.run
    intervals = [every for every in (run.log_every, run.eval_every, run.save_every) if every]
    snapshots = [snapshot for snapshot in run.snapshots if snapshot > step]
    events = [*snapshots, *((step // every + 1) * every for every in intervals)]
    return min(run.steps, training.plan.epoch_end(step), *events)
