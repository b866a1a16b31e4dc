"""`resnet-jax COMMAND …`. Nothing heavy is imported before a command needs it."""

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from resnet_jax.errors import Stopped, UserError

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
SHOW_HELP = """
example:
  resnet-jax data show --config configs/folder.py --config.data.data_dir=photos
"""
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
EXIT_HELP = 'exit codes: 0 done; 2 a mistake in what was asked; 75 stopped and saved, the same command resumes'


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog='resnet-jax', description='A laboratory for residual networks: train them, then find out why they work.',
        epilog=EXIT_HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
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

    report = command('report', 'write the report.html of a run, or of a laboratory, anew from the files in it')
    _run_option(report, 'directory of the run, or of the laboratory')

    describe = command('describe', 'the named networks and what they cost; of one, layer by layer', CONFIG_HELP)
    describe.add_argument('network', nargs='?', metavar='NAME', help='a network of that list, or of its forms')

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


def _experiment_options(experiment: argparse.ArgumentParser) -> None:
    experiment.add_argument('name', metavar='NAME', help='of experiments/, the path of a file, or all')
    experiment.add_argument('--run', type=Path, metavar='DIR',
                            help='a run to do it on, and on those beside it; else the networks it names')  # fmt: skip
    experiment.add_argument('--lab', type=Path, metavar='DIR',
                            help='where these networks are found, or trained once for all; runs/TIER')  # fmt: skip
    experiment.add_argument('--tier', default='cpu', choices=('cpu', 'paper'),
                            help="cpu: digits, minutes on 2 cores; paper: its protocol on CIFAR-10")  # fmt: skip


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

        if rest and arguments.command not in ('train', 'describe', 'experiment', 'data'):
            raise UserError(f'{arguments.command} does not take {rest[0]}; see resnet-jax {arguments.command} --help')
        return getattr(commands, arguments.command)(arguments, rest) or 0
    except (UserError, Stopped) as error:
        print(f'resnet-jax: {error}', file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 141
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        print(f'resnet-jax: cannot write {error.filename or ""} ({error.strerror}); mend that and start again',
              file=sys.stderr)  # fmt: skip
        return UserError.exit_code
    except KeyboardInterrupt:
        print('resnet-jax: interrupted', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
