"""Commands on one run: train it, evaluate it, predict with it."""

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from resnet_jax import config as configuration
from resnet_jax import spec, validity
from resnet_jax.commands.console import console
from resnet_jax.commands.experiments import Overrides, check_then, do_on_run, parse_then
from resnet_jax.errors import Diverged, TogetherError, UserError
from resnet_jax.models import counts
from resnet_jax.runtime import cluster, directory


def train(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    then = parse_then(arguments.then)
    _check_positive(arguments.heartbeat, '--heartbeat', ' s')
    if os.environ.get('RESNET_JAX_SUPERVISED'):
        from resnet_jax.runtime import processes

        processes.end_with_the_supervisor()
    where = cluster.place(os.environ, arguments.coordinator, arguments.processes, arguments.process)
    if where is None:
        _train_alone(arguments, rest, then)
        return
    import jax

    from resnet_jax.runtime import processes

    with processes.joined(where, arguments.heartbeat):
        if jax.process_count() == 1:  # of a single TPU host too nothing else tells
            _train_alone(arguments, rest, then)
            return
        if then:
            raise TogetherError(f'--then is for one process; after training: resnet-jax train --run {arguments.run} '
                                f'--then {arguments.then}')  # fmt: skip
        _train(arguments.run, rest, {}, shown=processes.first(), alone=True, profiled=arguments.profile)


def _train_alone(arguments: argparse.Namespace, rest: Sequence[str], then: Mapping[str, Overrides]) -> None:
    runs = _train(arguments.run, rest, then, shown=True, alone=arguments.alone, profiled=arguments.profile)
    for run_dir in runs:
        if len(runs) == 1 or not directory.diverged(run_dir):  # the other seeds are to be measured
            do_on_run(run_dir, then, 'cpu', alone=arguments.alone)


def together(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """`resnet-jax --processes N --devices D train …`."""
    from resnet_jax.supervise import supervise

    if arguments.command != 'train':
        raise UserError(f'--processes is for train, which {arguments.command} is not; {arguments.command} takes all '
                        'devices in one process')  # fmt: skip
    if arguments.coordinator or arguments.processes or arguments.process >= 0:
        raise UserError('--processes N before train starts all N itself; --coordinator, --processes and --process '
                        'behind it are for processes that are started one by one')  # fmt: skip
    if cluster.tpu(os.environ):
        raise UserError(f'--processes is {arguments.together}, and one process has all chips of a TPU host: leave it '
                        'out, or take the CPU with RESNET_JAX_PLATFORM=cpu')  # fmt: skip
    _check_positive(arguments.together, '--processes')
    _check_positive(arguments.devices_each, '--devices')
    _check_positive(arguments.heartbeat, '--heartbeat', ' s')
    return supervise(argv[argv.index('train') :], arguments.run, arguments.together, arguments.devices_each)


def _check_positive(value: int, name: str, unit: str = '') -> None:
    if value < 1:
        raise UserError(f'{name} is {value}; it must be at least 1{unit}')


def _train(
    run_dir: Path, rest: Sequence[str], then: Mapping[str, Overrides], *, shown: bool, alone: bool, profiled: bool
) -> Sequence[Path]:
    """Trains, or goes on where the run was stopped. Returns its directory; of several seeds those of their runs.

    Args:
      then: the experiments that are to follow, on the run alone or on those beside it too.
      shown: does this process say how it goes?
      profiled: does it trace some steps, and say what took their time?
    """
    from resnet_jax.data import sources
    from resnet_jax.data.resolve import resolve
    from resnet_jax.display import progress, show_operations, training
    from resnet_jax.progress import silent

    with progress() if shown else nullcontext(silent) as show:
        settings = configuration.from_arguments(rest, partial(resolve, progress=show))
    if settings is None:
        settings = directory.read_config(run_dir)
        validity.check(settings)
    if then and not alone and len(spec.seeds(settings)) > 1:
        raise UserError(f'--then is for one network, and config.train.seeds is {len(spec.seeds(settings))}; after '
                        f'training: resnet-jax experiment NAME --run {run_dir}/seed{settings.seed}, which takes those '
                        'beside it too; or --alone, to measure each by itself')  # fmt: skip
    check_then(then, settings)
    sources.check(settings.data)
    if shown:
        with directory.held(run_dir):
            directory.check(run_dir, settings)

    from resnet_jax.train import seeds
    from resnet_jax.train.loop import train as run_training
    from resnet_jax.train.profile import operations, tracing

    arch, runs = spec.architecture(settings), seeds.runs(settings, run_dir)
    networks = f'{len(runs)} networks, ' if len(runs) > 1 else ''
    if shown:
        console.print(
            f'{configuration.title(settings.network)} on {settings.data.dataset}: {counts.parameters(arch):,} '
            f'parameters, {networks}{settings.run.steps:,} steps of {settings.train.batch_size}, in {run_dir}'
        )
    if all(directory.complete(path, settings.run.steps) for path in runs):
        if shown:
            console.print(f'this run is complete. To start afresh: rm -r {run_dir}')
            _conclude(runs)
        return [*runs]
    try:
        with (
            training(settings.run.steps) if shown else nullcontext(lambda record: None) as watch,
            tracing(run_dir / 'profile', watch) if profiled and shown else nullcontext(watch) as watch,
        ):
            run_training(settings, run_dir, watch)
    except Diverged:
        if shown:
            _conclude(runs)
        raise
    if shown:
        _conclude(runs)
    if shown and profiled:
        show_operations(run_dir / 'profile', operations(run_dir / 'profile'))
    return [*runs]


def _conclude(runs: Mapping[Path, ConfigDict]) -> None:
    """Writes down what a run came to; of several seeds what each did, and shows it."""
    from resnet_jax.display import show_seeds
    from resnet_jax.runtime import result

    for path in runs:
        result.conclude(path)
    if len(runs) > 1:
        show_seeds({own.seed: result.read(path, spec.identity(own)) or {} for path, own in runs.items()})


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
    if left_out := run.dataset.dataset.count(arguments.split) - result.examples:
        console.print(f'{left_out:,} images could not be read and are not counted; resnet-jax data stats names them')
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
