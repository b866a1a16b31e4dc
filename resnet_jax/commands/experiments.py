"""The commands of experiments: do them, report what was found."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
from rich.table import Table

from resnet_jax import config as configuration
from resnet_jax.commands.console import console
from resnet_jax.errors import UserError

if TYPE_CHECKING:
    from resnet_jax.run import Run

Overrides = dict[str, str]  # setting of an experiment -> text


def experiment(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    from resnet_jax import experiment as runner

    overrides = configuration.overrides(rest)
    every = arguments.name == 'all'
    if every and (arguments.run or overrides):
        raise UserError('all experiments together are done as they stand, on the runs they name: leave out --run and '
                        '--config, or give one experiment')  # fmt: skip
    if arguments.run and arguments.lab:
        raise UserError('--run does it on one run, --lab on the networks it names: give one of them')
    names = runner.names() if every else [arguments.name]
    check_names(names)
    if arguments.run:
        do_on_run(arguments.run, {names[0]: overrides}, arguments.tier, alone=arguments.alone)
        return 0
    lab = arguments.lab or Path('runs') / arguments.tier
    if every:
        return _do_all(lab, names, arguments.tier)
    _do_in_laboratory(lab, names[0], names[0], arguments.tier, overrides)
    _say(lab, names)
    return 0


def report(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.report import html

    console.print(f'report: {html.write(arguments.run)}')


def check_names(names: Iterable[str]) -> None:
    """Refuses a name of no experiment, before anything is computed."""
    from resnet_jax import experiment as runner

    for name in names:
        runner.path_of(name)


def parse_then(text: str) -> dict[str, Overrides]:
    """`lesion:draws=5:beyond=False,paths` -> the experiments, and the settings to override in each.

    Raises:
      UserError: there is no such experiment, or a setting has no value.
    """
    found = {}
    for one in filter(None, text.split(',')):
        name, *settings = one.split(':')
        if not all('=' in setting for setting in settings):
            raise UserError(f'--then takes NAME or NAME:KEY=VALUE, as lesion:beyond=False; got {one!r}')
        found[name] = {key: value for key, _, value in (setting.partition('=') for setting in settings)}
    check_names(found)
    return found


def check_then(then: Mapping[str, Overrides], config: ConfigDict) -> None:
    """Refuses, before a network is trained, experiments that could not be done on it.

    Raises:
      UserError: an unknown setting, or an experiment that needs no trained network, or another one.
    """
    from resnet_jax import experiment as runner

    for name, overrides in then.items():
        module = runner.find(name)
        settings = configuration.overridden(module.get_config('cpu'), overrides)
        if not module.runs(settings):
            raise UserError(f'{name} needs no trained network: leave it out of --then')
        runner.check(module, [config])


def do_on_run(run_dir: Path, experiments: Mapping[str, Overrides], tier: str, *, alone: bool) -> None:
    """Experiments, each by its own settings, on one run; unless `alone` on those beside it too that can be compared."""
    from resnet_jax import experiment as runner
    from resnet_jax import laboratory
    from resnet_jax.display import progress
    from resnet_jax.report import html
    from resnet_jax.run import load

    for name, overrides in experiments.items():
        module = runner.find(name)
        settings = configuration.overridden(module.get_config(tier), overrides)
        if not module.runs(settings):
            raise UserError(f'{name} needs no trained network: leave out --run {run_dir}')
        with progress() as show:
            run = load(run_dir, progress=show)
            _check_finished(run)
            runs = [run, *([] if alone else laboratory.beside(run))]
            runner.check(module, [each.config for each in runs])
            if runner.done(module, runs, settings, tier, run_dir):
                console.print(f'{name}: {_measured_before(name, run_dir)}')
            else:
                runner.perform(module, runs, settings, tier, run_dir, show)
    html.write(run_dir)
    _say(run_dir, list(experiments))


def _check_finished(run: 'Run') -> None:
    """Refuses a run that is still to be trained further; one whose weights were imported never was."""
    steps = run.config.run.steps
    if run.step < steps and not run.diverged and not run.imported:
        raise UserError(
            f'{run.path} is at step {run.step:,} of {steps:,}; finish it first: the command that started it goes on'
        )


def _do_all(lab: Path, names: Sequence[str], tier: str) -> int:
    """Every experiment, one after the other; one that cannot be done keeps no other from being done."""
    refused = {}
    for number, name in enumerate(names, start=1):
        try:
            _do_in_laboratory(lab, name, f'{name} ({number} of {len(names)})', tier, {})
        except UserError as error:
            refused[name] = error
    _say_verdicts(lab, [name for name in names if name not in refused])
    for name, error in refused.items():
        console.print(f'{name} was not done: {error}')
    return UserError.exit_code if refused else 0


def _do_in_laboratory(lab: Path, name: str, said: str, tier: str, overrides: Overrides) -> None:
    """An experiment on the runs that it names, trained where they are missing; then the report."""
    import jax

    from resnet_jax import experiment as runner
    from resnet_jax import laboratory
    from resnet_jax.display import progress
    from resnet_jax.report import html

    module = runner.find(name)
    settings = configuration.overridden(module.get_config(tier), overrides)
    configs = module.runs(settings)
    runner.check(module, configs)
    console.print(f'{said}: {runner.question(module)}')
    if configs:
        left = len(laboratory.missing(lab, configs))
        console.print(f'  {len(configs)} runs in {lab}, {left} of them to be trained')
    with progress() as show:
        runs = laboratory.prepare(lab, configs, show)
        if runner.done(module, runs, settings, tier, lab):
            console.print(f'  {_measured_before(name, lab)}')
        else:
            runner.perform(module, runs, settings, tier, lab, show)
    html.write(lab)
    jax.clear_caches()  # the programs of hundreds of networks would fill the memory


def _measured_before(name: str, where: Path) -> str:
    stem = Path(name).stem
    return f'measured before; to measure anew: rm {where}/findings/{stem}.* {where}/measured/{stem}-*'


def _say(where: Path, names: Sequence[str]) -> None:
    """Prints what was found, shortly."""
    from resnet_jax.report import findings
    from resnet_jax.report.text import number, span

    for name in names:
        finding = findings.load(where, Path(name).stem)
        summary = Table(title=finding.title, title_justify='left', show_header=False, box=None)
        for label, value in finding.summary.items():
            summary.add_row(label, str(value))
        console.print(summary)
        ledger = Table('claim', 'measured', 'interval', 'verdict', box=None)
        for claim in finding.claims:
            ledger.add_row(claim.statement, number(claim.measured), span(claim.interval), claim.verdict)
        console.print(ledger)
    console.print(f'report: {where / "report.html"}')


def _say_verdicts(lab: Path, names: Sequence[str]) -> None:
    """Prints how many claims of each experiment came out how."""
    from resnet_jax.report import findings

    table = Table('experiment', 'question', 'supported', 'refuted', 'undecided', box=None)
    for name in names:
        finding = findings.load(lab, name)
        verdicts = [claim.verdict for claim in finding.claims]
        counts = (str(verdicts.count(verdict)) for verdict in ('supported', 'refuted', 'undecided'))
        table.add_row(name, finding.question, *counts)
    console.print(table)
    console.print(f'report: {lab / "report.html"}')
