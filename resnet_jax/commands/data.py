"""`resnet-jax data …`: what is here, what is in it, what the network sees of it, and how to get what is not."""

import argparse
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.table import Table

from resnet_jax import config as configuration
from resnet_jax import spec
from resnet_jax.commands.console import console
from resnet_jax.errors import UserError


def data(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    if rest and arguments.action != 'show':
        raise UserError(f'data {arguments.action} does not take {rest[0]}; see resnet-jax data --help')
    {'list': _list, 'prepare': _prepare, 'show': _show, 'stats': _stats}[arguments.action](arguments, rest)


def _list(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.data import sources

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
    console.print(
        'Besides: any image set in the TFDS directory by its name, and a folder of your own: data.dataset=folder, '
        'data.data_dir=DIR'
    )


def _prepare(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.data import prepare, stored
    from resnet_jax.display import progress

    folder = Path(arguments.what).expanduser()
    if arguments.what not in spec.DATASETS and not folder.is_dir():
        raise UserError(f'{arguments.what} is neither a folder nor {" nor ".join(stored.OWN_ARCHIVES)}; give one')
    of_archive = arguments.what in spec.DATASETS
    if of_archive and (arguments.out or arguments.name):
        raise UserError(f'--out and --name are for a folder of images; {arguments.what} goes into --data-dir')
    if arguments.archive and not of_archive:
        raise UserError(f'--archive is for {" and ".join(stored.OWN_ARCHIVES)}; {folder} is a folder of images')
    if of_archive:
        with progress() as show:
            path = prepare.prepare(arguments.what, stored.directory(arguments.data_dir), arguments.archive, show)
        console.print(f'{arguments.what} is in {path}')
        return
    from resnet_jax.data.convert import convert
    from resnet_jax.data.folder import open_folder

    name = arguments.name or re.sub(r'\W', '_', folder.resolve().name.lower())
    if name in (*spec.DATASETS, 'folder'):
        raise UserError(f'the name {name} is taken; give another with --name')
    test_share = configuration.load('configs/default.py').data.test_share
    out = arguments.out or stored.directory(arguments.data_dir)
    with progress() as show:
        path = convert(open_folder(folder, test_share, show), out, name, show)
    console.print(f'{folder} is in {path}; train on it: --config.data.dataset={name} --config.data.data_dir={out}')


def _stats(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.data import sources
    from resnet_jax.data.survey import survey
    from resnet_jax.data.survey_tables import tables
    from resnet_jax.display import progress

    settings = configuration.load('configs/default.py').data
    folder = Path(arguments.what).expanduser()
    if folder.is_dir():
        settings.update(dataset='folder', data_dir=str(folder))
    elif '/' in arguments.what or arguments.what == 'folder':
        raise UserError(f'there is no folder {folder}; give one, or the name of a dataset')
    else:
        settings.update(dataset=arguments.what, data_dir=arguments.data_dir)
    if settings.dataset in spec.PIXELS_ALREADY:
        raise UserError(f'{settings.dataset} is no set of image files, of which data stats tells; give another')
    if arguments.pixels < 1:
        raise UserError(f'--pixels is {arguments.pixels}; it must be at least 1')
    with progress() as show:
        dataset = sources.opened(settings, show)
        found = survey({split: dataset.split(split) for split in ('train', 'test')}, dataset.classes,
                       arguments.pixels, show)  # fmt: skip
    for table in tables(found):
        console.print(table)


def _show(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from resnet_jax.data import sources
    from resnet_jax.data.resolve import resolve
    from resnet_jax.display import progress

    with progress() as show:
        settings = configuration.from_arguments(rest, partial(resolve, progress=show))
        if settings is None:
            raise UserError('data show takes a config: --config FILE, whose augmentation it draws')
        if arguments.draws < 1:
            raise UserError(f'--draws is {arguments.draws}; it must be at least 1')
        if arguments.operations and settings.data.dataset in spec.PIXELS_ALREADY:
            raise UserError(f'--operations draws photographs, and the images of {settings.data.dataset} are none')
        sources.check(settings.data)

        from resnet_jax import sheet
        from resnet_jax.files import check_writable
        from resnet_jax.report.figures import save_png
        from resnet_jax.runtime import mesh
        from resnet_jax.train.splits import place_dataset

        check_writable(arguments.out)
        splits = place_dataset(settings, mesh.whole(mesh.all_devices()), show)
        if arguments.operations:
            drawn = sheet.operations(settings, splits)
        else:
            drawn = sheet.sheet(settings, splits, arguments.examples, arguments.draws)
        save_png(drawn, arguments.out)
    console.print(f'{arguments.out}', markup=False)
