"""The commands of sweeps: begin one, look at it, go on with it, stop it."""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.live import Live

from resnet_jax import config as configuration
from resnet_jax.commands.console import console
from resnet_jax.commands.experiments import parse_then
from resnet_jax.errors import Stopped, UserError
from resnet_jax.runtime import wandb
from resnet_jax.sweep import estimate, launchers, plan, state, tables, work


def sweep(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if arguments.what in ACTIONS:
        if rest:
            raise UserError(f'sweep {arguments.what} does not take {rest[0]}; see resnet-jax sweep --help')
        given = {name: getattr(arguments, name) for name in ('dir', 'dry_run', 'then')}
        if extra := [name for name, value in given.items() if value not in (None, False)]:
            option = extra[0].replace('_', '-')
            raise UserError(f'sweep {arguments.what} does not take --{option}, which is for a sweep by its name')
        return ACTIONS[arguments.what](state.read(_directory(arguments)), arguments)
    return _begin(arguments, rest)


def _begin(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if arguments.where:
        raise UserError(f'{arguments.what} is no action on a sweep; actions are {", ".join(ACTIONS)}')
    definition = plan.find(arguments.what)
    then = definition.then if arguments.then is None else arguments.then
    parse_then(then)
    planned = plan.plan(definition, configuration.overrides(rest))
    name = _name(arguments.what)
    path = arguments.dir or RUNS / name
    if arguments.dry_run:
        rate, source = estimate.rate((path / run.name, run.config) for run in planned)
        console.print(tables.planned(planned, rate))
        console.print(tables.total(planned, rate, min(launchers.width(arguments), len(planned))), f'({source})')
        return 0
    launchers.check(arguments)
    for run in planned:
        wandb.check(run.config.run.wandb)
    return _go_on(state.create(path, name, then, planned), arguments)


def _status(sweep: state.Directory, arguments: argparse.Namespace) -> int:
    """Shows how the runs stand; on a terminal for as long as some are running."""
    if console.is_terminal:
        _show(sweep, _while_running(sweep))
    else:
        console.print(tables.status(sweep, sweep.statuses()))
    return 0


def _resume(sweep: state.Directory, arguments: argparse.Namespace) -> int:
    launchers.check(arguments)
    return _go_on(sweep, arguments)


def _go_on(sweep: state.Directory, arguments: argparse.Namespace) -> int:
    """Carries out what is left, then draws the report."""
    if absent := [name for name in sweep.runs if not (sweep.run(name) / 'config.json').exists()]:
        raise UserError(f'{sweep.path} lacks {len(absent):,} of its runs, {absent[0]} first (no config.json): begin '
                        f'the sweep again by its name, with --dir {sweep.path}, which writes them')  # fmt: skip
    state.uncancel(sweep)
    left = work.tasks(sweep, work.left(sweep))
    if left:
        console.print(f'{sweep.name}: {len(left):,} of {len(sweep.runs):,} runs are left, in {sweep.path}')
        stop = work.Stop()
        stop.heed_cancellation(sweep.path)
        with launchers.heeding_signals(stop):
            _show(sweep, launchers.launch(sweep, left, stop, arguments))
    return _conclude(sweep)


def _retry(sweep: state.Directory, arguments: argparse.Namespace) -> int:
    """Goes on, and does what failed again."""
    launchers.check(arguments)
    state.forget_failures(sweep)
    return _go_on(sweep, arguments)


def _cancel(sweep: state.Directory, arguments: argparse.Namespace) -> int:
    """Stops it, wherever it is carried out."""
    state.cancel(sweep)
    launchers.cancel(sweep)
    console.print(f'{sweep.name} was asked to stop: what runs is saved. resnet-jax sweep resume {sweep.path} goes on')
    return 0


RUNS = Path('runs') / 'sweeps'
ACTIONS = {'status': _status, 'resume': _resume, 'retry': _retry, 'cancel': _cancel}


def _directory(arguments: argparse.Namespace) -> Path:
    given = arguments.where
    if not given:
        raise UserError(f'sweep {arguments.what} needs the sweep: its name, or its directory')
    named = RUNS / _name(given)
    return named if (named / 'sweep.json').exists() and not (Path(given) / 'sweep.json').exists() else Path(given)


def _name(text: str) -> str:
    """Of a sweep's directory: shortcuts:digits is in shortcuts-digits."""
    file, _, argument = text.partition(':')
    return '-'.join(filter(None, (Path(file).stem, argument)))


def _conclude(sweep: state.Directory) -> int:
    """Draws what there is, and says how it ended."""
    from resnet_jax.report import sweep as report

    statuses = sweep.statuses()
    counts = tables.count(statuses)
    if counts['done']:
        console.print(f'report: {report.write(sweep)}')
    for line in tables.failures(sweep, statuses):
        console.print(line, markup=False)
    failed = f'{counts["failed"]:,} of {len(statuses):,} runs failed; once that is mended: resnet-jax sweep retry ' \
             f'{sweep.path}'  # fmt: skip
    if counts['pending'] or counts['running']:
        raise Stopped(f'stopped with {counts["done"]:,} of {len(statuses):,} runs done; the same command goes on'
                      + (f'. {failed}' if counts['failed'] else ''))  # fmt: skip
    if counts['failed']:
        raise UserError(failed)
    return 0


def _show(sweep: state.Directory, moments: Iterator[str]) -> None:
    """Shows how the runs stand at each of these moments, and what is said then; without a terminal, in lines."""
    if not console.is_terminal:
        told = tables.settled(sweep.statuses())
        for said in moments:
            _say(said)
            statuses = sweep.statuses()
            for name in tables.settled(statuses) - told:
                told.add(name)
                console.print(f'{name}: {statuses[name].state} ({len(told):,} of {len(statuses):,})')
        return
    with Live(tables.status(sweep, sweep.statuses()), console=console, auto_refresh=False, transient=True) as live:
        for said in moments:
            _say(said)
            live.update(tables.status(sweep, sweep.statuses()), refresh=True)
    console.print(tables.status(sweep, sweep.statuses()))


def _say(line: str) -> None:
    if line:
        console.print(line, markup=False)


def _while_running(sweep: state.Directory) -> Iterator[str]:
    since = time.monotonic()
    while any(status.state == 'running' for status in sweep.statuses().values()):
        yield ''
        time.sleep(work.pause(since))
        since = time.monotonic()
