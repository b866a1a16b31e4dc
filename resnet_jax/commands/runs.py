"""Commands on one run: train it, evaluate it, predict with it."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from resnet_jax import config as configuration
from resnet_jax import spec, validity
from resnet_jax.commands.console import console
from resnet_jax.commands.experiments import check_names as check_experiments
from resnet_jax.commands.experiments import do_on_run
from resnet_jax.errors import UserError
from resnet_jax.models import counts


def train(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.data import sources
    from resnet_jax.data.resolve import resolve
    from resnet_jax.display import progress
    from resnet_jax.runtime import directory

    with progress() as show:
        settings = configuration.from_arguments(rest, partial(resolve, progress=show))
    if settings is None:
        settings = directory.read_config(arguments.run)
        validity.check(settings)
    then = dict(_with_settings(text) for text in arguments.then.split(',') if text)
    check_experiments(then)
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
    if directory.complete(arguments.run, settings.run.steps):
        console.print(f'this run is complete. To start afresh: rm -r {arguments.run}')
    else:
        with training(settings.run.steps) as watch:
            run_training(settings, arguments.run, watch)
    do_on_run(arguments.run, then, 'cpu')


def _with_settings(text: str) -> tuple[str, dict[str, str]]:
    """`lesion:draws=5:beyond=False` -> the experiment, and the settings to override in it."""
    name, *settings = text.split(':')
    if not all('=' in setting for setting in settings):
        raise UserError(f'--then takes NAME or NAME:KEY=VALUE, as lesion:beyond=False; got {text!r}')
    return name, dict(setting.split('=', 1) for setting in settings)  # pyright: ignore[reportReturnType]


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
    if delete and arguments.views:
        raise UserError('--views and --delete do not go together: lesions are compared on the evaluation view')
    with progress() as show:
        run = load(arguments.run, arguments.step, show)
        check_names(run.network.arch, names)
        for path in written:
            check_writable(path)
        if arguments.views:
            result = run.evaluate_views(arguments.views, arguments.split)
        else:
            result = run.lesion(delete, arguments.split) if delete else run.evaluate(arguments.split)
    without = f' without block {arguments.delete}' if arguments.delete else ''
    by = f' by {arguments.views}' if arguments.views else ''
    console.print(
        f'{arguments.run} at step {run.step:,}{without}: {arguments.split} error {result.error:.2f} %{by} '
        f'({result.examples - result.correct} of {result.examples} wrong), loss {result.loss:.4f}'
    )
    if not written:
        return
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


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(',')]
    except ValueError:
        raise UserError(f'--delete takes block numbers with commas between, as 3,7; got {text!r}') from None
