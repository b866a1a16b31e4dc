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
from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture

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
        f'{configuration.title(settings.network)} on {settings.data.dataset}: {counts.parameters(arch):,} parameters, '
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
    from resnet_jax.analysis.features import check_names
    from resnet_jax.display import progress
    from resnet_jax.files import check_writable
    from resnet_jax.run import load

    names = [name for name in arguments.features.split(',') if name]
    if bool(names) != bool(arguments.out):
        raise UserError('--features NAME[,NAME] and --out FILE go together: the features are written into that file')
    written = [path for path in (arguments.probabilities, arguments.out) if path]
    if len({path.resolve() for path in written}) < len(written):
        raise UserError(f'--probabilities and --out are both {arguments.out}; give two files')
    delete = _numbers(arguments.delete) if arguments.delete else []
    with progress() as show:
        run = load(arguments.run, arguments.step, show)
        check_names(run.network.arch, names)
        for path in written:
            check_writable(path)
        result = run.lesion(delete, arguments.split) if delete else run.evaluate(arguments.split)
    without = f' without block {arguments.delete}' if arguments.delete else ''
    console.print(
        f'{arguments.run} at step {run.step:,}{without}: {arguments.split} error {result.error:.2f} % '
        f'({result.examples - result.correct} of {result.examples} wrong), loss {result.loss:.4f}'
    )
    examples = getattr(run.dataset, arguments.split)
    if arguments.probabilities:
        _write_arrays(arguments.probabilities, {'probabilities': run.predict(examples.images, delete)}, examples.labels)
    if names:
        _write_arrays(arguments.out, run.features(names, examples.images, delete), examples.labels)


def _write_arrays(path: Path, arrays: dict, labels) -> None:
    from resnet_jax.files import write_npz

    write_npz(path, {**arrays, 'labels': labels})
    console.print('\n'.join(f'{name}: {values.dtype} {values.shape} in {path}' for name, values in arrays.items()))


def predict(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    from resnet_jax import prediction
    from resnet_jax.run import load

    run = load(arguments.run)
    refused = prediction.predict(run, arguments.files, arguments.top, arguments.saliency, console)
    return UserError.exit_code if refused else 0


def experiment(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    _check_experiments([arguments.name])
    _experiment(arguments.run, arguments.name, arguments.tier)
    _report(arguments.run, [arguments.name])


def report(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.report import html

    console.print(f'report: {html.write(arguments.run)}')


def describe(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax import describe as tables
    from resnet_jax.models import zoo

    settings = configuration.from_arguments(rest)
    if settings is not None and arguments.network:
        raise UserError(f'describe takes a name or a --config, not both; got {arguments.network} and --config')
    if settings is not None:
        console.print(tables.layers(spec.architecture(settings)))
        return
    if arguments.network:
        console.print(tables.layers(_named(arguments.network)))
        return
    console.print(tables.networks((name, _named(name)) for name in zoo.NAMES))
    console.print(
        'Of one image, CIFAR 32 px, ImageNet (from resnet18 on) 224 px. field: pixels that the last feature sees; last '
        'column: where the multiply-adds are. '
        'Layer by layer: resnet-jax describe NAME; other depths and widths have names too, as resnet26, wrn40_4'
    )


def _named(name: str) -> Architecture:
    """The architecture of a named network, for the images it was made for."""
    from resnet_jax.models import zoo

    config = configuration.load('configs/default.py')
    config.network.update(zoo.settings(name))
    config.data.dataset = zoo.dataset(name)
    spec.validate(config)
    return spec.architecture(config)


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


def weights(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    if arguments.action == 'export':
        from resnet_jax.weights.exporting import export_weights

        name = export_weights(arguments.run, arguments.out, arguments.names)
        console.print(f'{arguments.out}: {name}, the weights of {arguments.run}')
        _say_difference(name)
        return
    from resnet_jax.weights.importing import import_weights

    found = import_weights(
        arguments.file, arguments.architecture, arguments.out, labels=arguments.labels, sha256=arguments.sha256
    )
    for dtype, count in found.converted.items():
        console.print(f'{count} tensors were {dtype} and are now float32')
    if not arguments.labels:
        console.print('the classes are numbers; --labels FILE, one name a line, gives them names')
    _say_difference(arguments.architecture)
    console.print(
        f'{arguments.out}: {arguments.architecture} of step 0, by the names of {found.library}. '
        f'Next: resnet-jax evaluate --run {arguments.out}'
    )


def _say_difference(name: str) -> None:
    from resnet_jax.weights import names

    if said := names.difference(name):
        console.print(said)


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
