"""`resnet-jax COMMAND …`. Nothing heavy is imported before a command needs it."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from resnet_jax.errors import Elsewhere, Stopped, UserError, unwritable
from resnet_jax.planning.devices import DEVICES

CONFIG_HELP = """\
config overrides:
  --config FILE[:ARGUMENT]      a config file, e.g. configs/digits.py or configs/cifar10.py:resnet110
  --config.KEY=VALUE            any key of it, e.g. --config.train.batch_size=64 --config.network.widths="(16,32,64)";
                                configs/default.py lists every key with its meaning
"""
EXPERIMENT_HELP = """\
  --config.KEY=VALUE            any setting of the experiment (its get_config), e.g. --config.draws=100

examples:
  resnet-jax experiment lesion                        trains the networks it names in runs/cpu, deletes their blocks
  resnet-jax experiment lesion --run runs/digits      on a run of yours
  resnet-jax experiment all                           every experiment, one ledger: runs/cpu/report.html
An interrupted experiment goes on with the same command and loses no finished run.
"""
SWEEP_HELP = """\
  --config.KEY=VALUE            any setting of the base, which the sweep does not vary, e.g. --config.run.steps=100

examples:
  resnet-jax sweep digits_depth --dry-run             the runs it would make, and what they cost
  resnet-jax sweep digits_depth                       all of them, in runs/sweeps/digits_depth; then its report
  resnet-jax sweep status digits_depth                how they stand, wherever they are carried out
  resnet-jax sweep cancel digits_depth                asks all of them to stop, saved; resume goes on
  resnet-jax sweep depth --launcher slurm --slurm partition=gpu --slurm gpus_per_node=1
  resnet-jax sweep depth --launcher ray --address head:6379 --cpus 4 --gpus 1
Interrupted, the same command goes on; a run that is done is not done again. One that fails stops no other: what it said
last is shown, and retry does it again. Several launchers may work on one directory.
"""
SHOW_HELP = """
example:
  resnet-jax data show --config configs/folder.py --config.data.data_dir=photos
"""
PLAN_HELP = """
examples:
  resnet-jax plan --config configs/imagenet.py:goyal2017 --devices 8 --device h100
  resnet-jax plan --config configs/imagenet.py:goyal2017 --config.train.batch_size=8192 --devices 256 --device tpu_v5e
  resnet-jax plan --config configs/cifar10.py:resnet110 --devices 4 --flops 19.5 --memory 16 --memory-bandwidth 900
A device's figures are those of its data sheet; a flag takes the place of one. Without --bandwidth or a --device whose
sheet has it, nothing is said of the time that several devices take.
"""
EXIT_HELP = 'exit codes: 0 done; 2 a mistake in what was asked; 75 stopped and saved, the same command resumes'


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog='resnet-jax', description='A laboratory for residual networks: train them, then find out why they work.',
        epilog=EXIT_HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    together = top.add_argument_group('train as several processes on this machine, all started again when one dies')
    together.add_argument('--processes', dest='together', type=int, metavar='N', help='how many')
    together.add_argument('--devices', dest='devices_each', type=int, default=1, metavar='D',
                          help='accelerators each, or parts of the CPU (1)')  # fmt: skip
    commands = top.add_subparsers(dest='command', metavar='COMMAND')

    def command(name: str, text: str, epilog: str = '') -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, epilog=epilog, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    train = command('train', 'train a network; resumes where a run was stopped', CONFIG_HELP + '\nexample:\n'
                    '  resnet-jax train --config configs/cifar10.py:resnet56 --run runs/resnet56')  # fmt: skip
    _run_option(train, 'directory of the run, made or gone on with')
    train.add_argument('--then', default='', metavar='NAME[:KEY=VALUE][,NAME…]',
                       help='experiments to do on the trained run')  # fmt: skip
    _alone_option(train)
    train.add_argument('--profile', action='store_true',
                       help='trace some seconds of it into DIR/profile, and show what took their time')  # fmt: skip
    _processes_options(train)

    evaluate = command('evaluate', 'test error of a trained run, whole or after deleting blocks')
    _run_option(evaluate)
    evaluate.add_argument('--split', default='test', choices=('train', 'selection', 'test'))
    evaluate.add_argument('--step', type=int, help='checkpoint to take; the newest without it')
    evaluate.add_argument('--delete', default='', metavar='N[,N]', help='blocks to delete, numbered from 1')
    evaluate.add_argument('--views', choices=('ten_crop', 'multi_scale'),
                          help='the mean over ten crops or five scales of each image (He et al. 2015)')  # fmt: skip
    evaluate.add_argument('--probabilities', type=Path, metavar='FILE', help='write those of the softmax as an .npz')
    evaluate.add_argument('--features', default='', metavar='NAME[,NAME]',
                          help='stem, stage1, …, block:N, pool, logits: write them as an .npz, with --out')  # fmt: skip
    evaluate.add_argument('--out', type=Path, metavar='FILE', help='the .npz of --features')

    predict = command('predict', 'what a trained run takes image files for, by any of its classes')
    _run_option(predict)
    predict.add_argument('files', nargs='+', type=Path, metavar='FILE', help='JPEG, PNG, WebP, BMP or GIF')
    predict.add_argument('--top', type=int, default=5, metavar='N', help='how many classes to show (5)')
    predict.add_argument('--saliency', type=Path, metavar='DIR',
                         help='write a picture for each file: which pixels the first class depends on')  # fmt: skip

    _experiment_options(command('experiment', 'test a hypothesis: trains what is missing, measures, draws, judges',
                                EXPERIMENT_HELP))  # fmt: skip

    _sweep_options(command('sweep', 'train and measure a grid of runs, and draw what came of them', SWEEP_HELP))

    report = command('report', 'write the report.html of a run, a laboratory or a sweep anew from the files in it')
    _run_option(report, 'directory of the run, the laboratory or the sweep')

    describe = command('describe', 'the named networks and what they cost; of one, layer by layer', CONFIG_HELP)
    describe.add_argument('network', nargs='?', metavar='NAME', help='a network of that list, or of its forms')

    _plan_options(command('plan', 'what a training run costs on given devices: memory, FLOPs, what is sent, time',
                          CONFIG_HELP + PLAN_HELP))  # fmt: skip

    _data_actions(command('data', 'the datasets: what is here, what is in it, and how to get what is not'))
    _weights_actions(command('weights', "torchvision's and timm's weights: make a run of them, or them of a run"))
    return top


def _data_actions(data: argparse.ArgumentParser) -> None:
    actions = data.add_subparsers(dest='action', required=True, metavar='ACTION')

    def action(name: str, text: str, epilog: str = '') -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip

    listing = action('list', 'every dataset, and where it was found')
    prepare = action('prepare', 'write a dataset, or a folder of your own, as ArrayRecord')
    prepare.add_argument('what', metavar='DATASET|FOLDER', help='cifar10, cifar100, or a folder of images')
    prepare.add_argument('--archive', type=Path, metavar='FILE', help='the official archive, if you have it')
    prepare.add_argument('--out', type=Path, metavar='DIR', help='of a folder: the TFDS directory to write into')
    prepare.add_argument('--name', default='', help="of a folder: the dataset's name; without it the folder's")
    show = action('show', 'draw training images as the network sees them, augmented and plain', CONFIG_HELP + SHOW_HELP)
    show.add_argument('--out', type=Path, default=Path('sheet.png'), metavar='FILE', help='the picture (sheet.png)')
    show.add_argument('--examples', type=int, default=6, metavar='N', help='training examples, a row each (6)')
    show.add_argument('--draws', type=int, default=4, metavar='N', help='augmented views of each (4)')
    show.add_argument('--operations', action='store_true', help='one example through every augmentation instead')
    stats = action('stats', 'decode every image: classes, sizes, formats, mean and deviation, what is unreadable')
    stats.add_argument('what', metavar='DATASET|FOLDER', help='cifar10, any set of the TFDS directory, or a folder')
    stats.add_argument('--pixels', type=int, default=224, metavar='N',
                       help='side of the views that mean and deviation are taken of (224)')  # fmt: skip
    for each in (listing, prepare, stats):
        each.add_argument('--data-dir', default='', metavar='DIR',
                          help='TFDS directory; without it $TFDS_DATA_DIR, else ~/tensorflow_datasets')  # fmt: skip


def _processes_options(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group(
        'several machines', 'Under SLURM, Open MPI and on a TPU pod the same line in every process is enough; '
        'elsewhere each is told where it is.')  # fmt: skip
    group.add_argument('--coordinator', default='', metavar='HOST:PORT', help='of process 0 ($RESNET_JAX_COORDINATOR)')
    group.add_argument('--processes', type=int, default=0, metavar='N', help='of the run ($RESNET_JAX_PROCESSES)')
    group.add_argument('--process', type=int, default=-1, metavar='I', help='this one, from 0 ($RESNET_JAX_PROCESS)')
    group.add_argument('--heartbeat', type=int, default=100, metavar='SECONDS',
                       help='that one may be silent, or missing at the start, before the others end (100)')  # fmt: skip


def _plan_options(plan: argparse.ArgumentParser) -> None:
    plan.add_argument('--devices', required=True, type=int, metavar='N', help='how many there are')
    plan.add_argument('--device', metavar='NAME', help=f'what they are: {", ".join(DEVICES)}')
    plan.add_argument('--flops', type=float, metavar='TFLOPS', help="of a device, of products in the run's dtype")
    plan.add_argument('--bandwidth', type=float, metavar='GB/s', help='that a device sends to the others')
    plan.add_argument('--memory-bandwidth', type=float, metavar='GB/s', help='of its memory')
    plan.add_argument('--memory', type=float, metavar='GB', help='of a device')


def _experiment_options(experiment: argparse.ArgumentParser) -> None:
    experiment.add_argument('name', metavar='NAME', help='of experiments/, the path of a file, or all')
    experiment.add_argument('--run', type=Path, metavar='DIR',
                            help='a run to do it on, and on those beside it; else the networks it names')  # fmt: skip
    experiment.add_argument('--lab', type=Path, metavar='DIR',
                            help='where these networks are found, or trained once for all; runs/TIER')  # fmt: skip
    experiment.add_argument('--tier', default='cpu', choices=('cpu', 'paper'),
                            help="cpu: digits, minutes on 2 cores; paper: its protocol on CIFAR-10")  # fmt: skip

    _alone_option(experiment)


def _alone_option(command: argparse.ArgumentParser) -> None:
    command.add_argument('--alone', action='store_true', help='measure on this run alone, not on those beside it too')


def _sweep_options(sweep: argparse.ArgumentParser) -> None:
    sweep.add_argument('what', metavar='NAME|FILE|ACTION',
                       help='of configs/sweeps, the path of a file; or status, resume, retry, cancel')  # fmt: skip
    sweep.add_argument('where', nargs='?', default='', metavar='SWEEP', help='of an action: its name, or its directory')
    sweep.add_argument('--dir', type=Path, metavar='DIR', help='directory of the sweep; runs/sweeps/NAME')
    sweep.add_argument('--dry-run', action='store_true', help='show the runs and what they cost, and begin none')
    sweep.add_argument('--then', metavar='NAME[:KEY=VALUE][,NAME…]',
                       help='experiments on every finished run, instead of those that the sweep names')  # fmt: skip
    where = sweep.add_argument_group(
        'where the runs are carried out', 'SLURM and Ray do them on other machines, which must see the checkout and '
        'the directory of the sweep.')  # fmt: skip
    where.add_argument('--launcher', default='local', choices=('local', 'slurm', 'ray'), help='this machine; or those')
    where.add_argument('--slots', type=int, metavar='N',
                       help='local: runs at a time; one a GPU, or else one a core')  # fmt: skip
    where.add_argument('--slurm', action='append', metavar='KEY=VALUE',
                       help='slurm: what each job has, e.g. partition=gpu, gpus_per_node=1, cpus_per_task=8, mem=32G; '
                       'timeout_min=240: a run that meets it is queued again and goes on, warned signal_delay_s=120 '
                       'before; array_parallelism=256: runs at a time')  # fmt: skip
    where.add_argument('--address', metavar='HOST:PORT', help="ray: the cluster's head ($RAY_ADDRESS)")
    where.add_argument('--cpus', type=int, metavar='N', help='ray: of a run (1)')
    where.add_argument('--gpus', type=float, metavar='N', help='ray: of a run (0); 0.5: two runs share one')


def _weights_actions(weights: argparse.ArgumentParser) -> None:
    actions = weights.add_subparsers(dest='action', required=True, metavar='ACTION')
    taken = actions.add_parser('import', help='a state dict (.safetensors, .pt, .pth) as a run of step 0')
    taken.add_argument('file', type=Path, metavar='FILE', help='it is checked whole; nothing in it is executed')
    taken.add_argument('--architecture', required=True, metavar='NAME', help='e.g. resnet50, preact_resnet101, vgg19')
    taken.add_argument('--out', required=True, type=Path, metavar='RUN', help='directory of the run, a new one')
    taken.add_argument('--labels', type=Path, metavar='FILE', help="the classes' names, one a line; else numbers")
    taken.add_argument('--sha256', default='', metavar='HEX', help="what the file's must be")
    given = actions.add_parser('export', help='the newest checkpoint as a state dict that torch loads')
    given.add_argument('run', type=Path, metavar='RUN', help='directory of the run')
    given.add_argument('--out', required=True, type=Path, metavar='FILE', help='a new .safetensors file')
    given.add_argument('--names', default='', choices=('torchvision', 'timm'),
                       help="whose names; without it torchvision's where it has the network, else timm's")  # fmt: skip


def _run_option(command: argparse.ArgumentParser, text: str = 'directory of the run') -> None:
    command.add_argument('--run', required=True, type=Path, metavar='DIR', help=text)


def _joined(argv: Sequence[str]) -> list[str]:
    """`--config VALUE` as `--config=VALUE`: else argparse, which knows no --config, takes VALUE for a NAME."""
    words, joined = list(argv), []
    while words:
        word = words.pop(0)
        bare = word == '--config' or (word.startswith('--config.') and '=' not in word)
        joined.append(f'{word}={words.pop(0)}' if bare and words else word)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    argv = _joined(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    warnings.filterwarnings('ignore', 'Image size')  # Pillow's, of what is then refused by name
    top = parser()
    arguments, rest = top.parse_known_args(argv)
    if not arguments.command:  # argparse would ask for a command alone, and say nothing of the word that is wrong
        top.error(
            f'there is no option {rest[0]}; options follow a COMMAND' if rest else 'give a COMMAND; --help lists them'
        )
    try:
        from resnet_jax import commands
        from resnet_jax.runtime import compiled

        if rest and arguments.command not in ('train', 'describe', 'plan', 'experiment', 'sweep', 'data'):
            raise UserError(f'{arguments.command} does not take {rest[0]}; see resnet-jax {arguments.command} --help')
        if told := compiled.keep():
            print(f'resnet-jax: {told}', file=sys.stderr)
        if arguments.together is not None:
            return commands.together(arguments, argv)
        return getattr(commands, arguments.command)(arguments, rest) or 0
    except Elsewhere as error:
        return error.exit_code
    except (UserError, Stopped) as error:
        print(f'resnet-jax: {error}', file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 141
    except OSError as error:
        if not (said := unwritable(error)):
            raise
        print(f'resnet-jax: {said}', file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print('resnet-jax: interrupted', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
