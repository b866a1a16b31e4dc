"""The layout of a user's folder of images: which of its folders are splits, which are classes, and what is in them."""

import os
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from resnet_jax.data.walk import EXTENSIONS, Images, Listing, Walk, changed, identity, join, listing, shown, walk
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress

TRAIN, TEST = b'train', (b'test', b'val', b'validation')
THREADS = 8  # for a disk across a network; for a near one it is all the same


class Scan(NamedTuple):
    """What was found. Names are relative to the root."""

    classes: tuple[str, ...]
    images: dict[str, Images]  # of 'train', and of 'test' where it has a folder of its own
    ignored: int  # files that are neither images nor hidden
    times: dict[bytes, int]  # `changed` of each folder that was entered


class _Branch(NamedTuple):
    """A class folder of a split; '' and -1 for a folder that is neither."""

    folder: bytes
    state: os.stat_result
    split: str
    label: int


def scan(root: bytes, progress: Progress) -> Scan:
    """Walks a folder that holds `train/CLASS/**`, with one of TEST beside it or without, or `CLASS/**`.

    Raises:
      UserError: it cannot be read, or leaves open what the classes, the labels or the splits are.
    """
    state = _enter(root)
    top = listing(root)
    parts = _parts(root, top)
    inside = {part: listing(os.path.join(root, part)) if part else top for part in parts.values()}
    _refuse_unlabelled(root, {b'': top} | inside)
    classes = _classes(root, parts, inside)
    branches = _branches(top, parts, inside, classes)
    entered = {b'': state} | {name: state for name, state in top.folders if name in inside}
    walks = _walk_all(root, branches, _outside(root) | {identity(state) for state in entered.values()}, progress)
    _refuse_strays(root, branches, walks)
    times = {name: changed(state) for name, state in entered.items()}
    for found in walks:
        times |= found.times
    listings = ({b'': top} | inside).values()
    return Scan(
        classes,
        {
            split: join(found.images for branch, found in zip(branches, walks, strict=True) if branch.split == split)
            for split in parts
        },
        sum(found.ignored for found in [*listings, *walks]),
        times,
    )


def _enter(root: bytes) -> os.stat_result:
    try:
        state = os.stat(root)
    except OSError as error:
        raise UserError(
            f'the folder of images {shown(root)} cannot be entered: {error.strerror}; give one that can'
        ) from None
    if not stat.S_ISDIR(state.st_mode):
        raise UserError(f'{shown(root)} is no folder; give the one that holds a folder of images for each class')
    return state


def _parts(root: bytes, top: Listing) -> dict[str, bytes]:
    """The folder of each split: one alone, the root itself, where none is called train."""
    named = {name.lower(): name for name, _ in top.folders}
    tests = [named[name] for name in TEST if name in named]
    if TRAIN not in named:
        if tests:
            raise UserError(
                f'{shown(root)} has {shown(tests[0])}/ but no train/; add that, or rename {shown(tests[0])}/ if it is '
                'a class'
            )
        return {'train': b''}
    if len(tests) > 1:
        raise UserError(
            f'{shown(root)} has {" and ".join(f"{shown(name)}/" for name in tests)}; leave the one to test on, and '
            'move the rest away'
        )
    return {'train': named[TRAIN]} | ({'test': tests[0]} if tests else {})


def _refuse_unlabelled(root: bytes, listings: Mapping[bytes, Listing]) -> None:
    for part, found in listings.items():
        if found.images:
            first = shown(os.path.join(root, part, min(found.images)[0]))
            rename = f', or rename {shown(part)}/ if that is its class' if part else ''
            raise UserError(f'{first} lies in no class folder, so it has no label; move it into one or away{rename}')


def _classes(root: bytes, parts: Mapping[str, bytes], inside: Mapping[bytes, Listing]) -> tuple[str, ...]:
    """In order: names in UTF-8 are in the order of their characters."""
    where = {split: os.path.join(root, part).rstrip(b'/') for split, part in parts.items()}
    names = {
        split: [_class_name(os.path.join(where[split], name)) for name, _ in inside[part].folders]
        for split, part in parts.items()
    }
    if not names['train']:
        raise UserError(
            f'{shown(where["train"])} holds no images; give a folder that holds a folder of images for each class'
        )
    if len(names['train']) == 1:
        raise UserError(
            f'{shown(where["train"])} holds one class alone, {names["train"][0]!r}; add the others, or give the '
            'folder inside it if that holds the classes'
        )
    unknown = sorted(set(names.get('test', ())) - set(names['train']))
    if unknown:
        raise UserError(
            f'{shown(where["test"])} has a class {unknown[0]!r} that {shown(where["train"])} has not; add it there, or '
            'name both alike'
        )
    return tuple(names['train'])


def _class_name(folder: bytes) -> str:
    try:
        name = os.path.basename(folder).decode()
    except UnicodeDecodeError:
        raise UserError(f'the name of the class folder {shown(folder)} is not UTF-8; rename it') from None
    if len(name.splitlines()) != 1:
        raise UserError(f'the name of the class folder {shown(folder)} has a line break; rename it')
    return name


def _branches(
    top: Listing, parts: Mapping[str, bytes], inside: Mapping[bytes, Listing], classes: Sequence[str]
) -> list[_Branch]:
    labels = {name.encode(): label for label, name in enumerate(classes)}
    branches = [
        _Branch(os.path.join(part, name), state, split, labels[name])
        for split, part in parts.items()
        for name, state in inside[part].folders
    ]
    beside = [] if b'' in inside else [(name, state) for name, state in top.folders if name not in inside]
    return branches + [_Branch(name, state, '', -1) for name, state in beside]


def _outside(root: bytes) -> set[tuple[int, int]]:
    """What the root lies in: a link to there would lead back to the root."""
    return {identity(parent.stat()) for parent in Path(os.fsdecode(root)).resolve().parents}


def _walk_all(
    root: bytes, branches: Sequence[_Branch], outside: set[tuple[int, int]], progress: Progress
) -> list[Walk]:
    walks, files = [], 0
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(lambda each: walk(root, each.folder, each.state, each.label, outside), branches):
            walks.append(found)
            files += len(found.images.table)
            progress('indexing', files, 0)
    progress('indexing', files, files)
    return walks


def _refuse_strays(root: bytes, branches: Sequence[_Branch], walks: Sequence[Walk]) -> None:
    if not any(found.images.names for found in walks):
        known = ' '.join(f'*{extension.decode()}' for extension in EXTENSIONS)
        raise UserError(f'{shown(root)} holds no images; give a folder of files called {known}')
    for branch, found in zip(branches, walks, strict=True):
        if bool(branch.split) == bool(found.images.names):
            continue
        folder = shown(os.path.join(root, branch.folder))
        if branch.split:
            raise UserError(f'the class folder {folder} holds no image; remove it, or fill it')
        raise UserError(
            f'the folder {folder} of images lies mixed with the splits train/ and test/; move it into one of them or '
            'away, or rename train/ if that is a class'
        )
