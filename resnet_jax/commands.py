"""What each command does: the command line's side of the library."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.errors import UserError

# Where there is no terminal a table keeps its lines whole, up to this width.
console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 120)


def train(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.data import sources
    from resnet_jax.runtime import directory

    settings = configuration.from_arguments(rest)
    if settings is None:
        settings = directory.read_config(arguments.run)
        spec.validate(settings)
    then = [name for name in arguments.then.split(',') if name]
    _check_experiments(then)
    sources.check(settings.data)
    with directory.held(arguments.run):
        directory.check(arguments.run, settings)

    from resnet_jax.display import training
    from resnet_jax.train.loop import train as run_training

    arch = spec.architecture(settings)
    console.print(
        f'{spec.title(arch)} on {settings.data.dataset}: {spec.parameters(arch):,} parameters, '
        f'{settings.run.steps:,} steps of {settings.train.batch_size}, in {arguments.run}'
    )
    if _complete(arguments.run, settings):
        console.print(f'this run is complete. To start afresh: rm -r {arguments.run}')
    else:
        with training(settings.run.steps) as watch:
            run_training(settings, arguments.run, watch)
    for name in then:
        _experiment(arguments.run, name, 'cpu')
    _report(arguments.run, then)


def evaluate(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.run import load

    run = load(arguments.run, arguments.step)
    result = (
        run.lesion(_numbers(arguments.delete), arguments.split) if arguments.delete else run.evaluate(arguments.split)
    )
    without = f' without block {arguments.delete}' if arguments.delete else ''
    console.print(
        f'{arguments.run} at step {run.step:,}{without}: {arguments.split} error {result.error:.2f} % '
        f'({result.examples - result.correct} of {result.examples} wrong), loss {result.loss:.4f}'
    )


def experiment(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    _check_experiments([arguments.name])
    _experiment(arguments.run, arguments.name, arguments.tier)
    _report(arguments.run, [arguments.name])


def report(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.report import html

    console.print(f'report: {html.write(arguments.run)}')


def describe(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.models import zoo

    settings = configuration.from_arguments(rest)
    table = Table('network', 'parameters', 'multiply-adds', 'depth', 'blocks a stage', 'widths', 'input', box=None)
    for column in table.columns[1:4]:
        column.justify = 'right'
    if settings is not None:
        _describe_row(table, '(this config)', spec.architecture(settings))
    else:
        base = configuration.load('configs/default.py')
        for name in zoo.NAMES:
            base.network.update(zoo.settings(name))
            _describe_row(table, name, spec.architecture(base))
    console.print(table)
    if settings is None:
        console.print('any depth 6n+2 has a name, e.g. configs/cifar10.py:preact_resnet164; multiply-adds of one image')


def data(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.data import sources

    if arguments.action == 'prepare':
        from resnet_jax.data import stored
        from resnet_jax.data.prepare import prepare
        from resnet_jax.display import progress

        with progress() as show:
            path = prepare(arguments.dataset, stored.directory(arguments.data_dir), arguments.archive, show)
        console.print(f'{arguments.dataset} is in {path}')
        return
    table = Table('dataset', 'classes', 'image', 'splits', 'where', box=None)
    missing = []
    for name, (shape, classes, _) in spec.DATASETS.items():
        try:
            found = sources.describe(name, arguments.data_dir)
            splits = ', '.join(f'{split} {count:,}' for split, count in found['splits'].items())
            table.add_row(name, str(classes), 'x'.join(map(str, shape)), splits, str(found['path']))
        except UserError as error:
            table.add_row(name, str(classes), 'x'.join(map(str, shape)), '-', 'not here')
            missing.append(str(error))
    console.print(table)
    for line in missing:
        console.print(line)


def _describe_row(table: Table, name: str, arch: spec.Architecture) -> None:
    table.add_row(
        name, f'{spec.parameters(arch):,}', f'{spec.multiply_adds(arch) / 1e6:,.1f} M', str(arch.depth),
        ' '.join(map(str, arch.stage_blocks)), ' '.join(map(str, arch.widths)), 'x'.join(map(str, arch.image_shape)),
    )  # fmt: skip


def _complete(run_dir: Path, settings) -> bool:
    """Has the run its last evaluation and the checkpoint of its last step?"""
    from resnet_jax.runtime import directory

    last = settings.run.steps
    evaluated = any(r['kind'] == 'test' and r['step'] >= last for r in directory.read_metrics(run_dir))
    return evaluated and directory.has_checkpoint(run_dir, last)


def _check_experiments(names: Sequence[str]) -> None:
    from resnet_jax import experiment as runner

    for name in names:
        runner.path_of(name)


def _experiment(run_dir: Path, name: str, tier: str) -> None:
    from resnet_jax import experiment as runner
    from resnet_jax.display import progress
    from resnet_jax.run import load

    run = load(run_dir)
    if runner.done(name, run, tier):
        console.print(
            f'{name}: measured before on this checkpoint; to measure anew: rm {run_dir}/findings/{Path(name).stem}.*'
        )
        return
    with progress() as show:
        runner.perform(name, run, tier, show)


def _report(run_dir: Path, experiments: Sequence[str]) -> None:
    """Writes the report and prints what was found, shortly."""
    from resnet_jax.report import findings, html
    from resnet_jax.report.text import number, span

    path = html.write(run_dir)
    for name in experiments:
        finding = findings.load(run_dir, Path(name).stem)
        summary = Table(title=finding.title, title_justify='left', show_header=False, box=None)
        for label, value in finding.summary.items():
            summary.add_row(label, str(value))
        console.print(summary)
        ledger = Table('claim', 'measured', 'interval', 'verdict', box=None)
        for claim in finding.claims:
            ledger.add_row(claim.statement, number(claim.measured), span(claim.interval), claim.verdict)
        console.print(ledger)
    console.print(f'report: {path}')


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(',')]
    except ValueError:
        raise UserError(f'--delete takes block numbers with commas between, as 3,7; got {text!r}') from None
