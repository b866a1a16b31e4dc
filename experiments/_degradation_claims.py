"""The claims of the degradation experiment, and which networks they compare."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments._networks import alike, paired
from experiments._training import differences, values
from resnet_jax.experiment import Measured, by_network
from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.claims import ABOVE_ZERO, BELOW_ZERO, Claim, Interval
from resnet_jax.report.intervals import all_seeds, over_seeds

PAPER = 'He et al. 2015, arXiv 1512.03385, section 4.2'
DIFFERENCE = 'difference of the training errors, median and range over seeds, percentage points'
TEST_ERRORS = {20: 8.75, 56: 6.97, 110: 6.61}  # of residual networks on CIFAR-10, table 6

Kind = tuple[bool, bool, int]  # plain, with BN, depth
Kinds = dict[Kind, list[Measured]]


def compared(architectures: Sequence[Architecture]) -> list[Architecture]:
    """Those that differ from the main one in depth, width, shortcuts or none, BN or none (with shortcuts: SkipInit)."""
    residual = next((arch.shortcut for arch in architectures if not arch.plain), 'none')
    norm = next((arch.norm for arch in architectures if arch.norm != 'none'), 'none')
    varied = alike(architectures, 'stage_blocks', 'shortcut', 'norm', 'gain', 'widths', 'stem_width')
    return [
        arch for arch in varied
        if arch.shortcut in (residual, 'none') and arch.norm in (norm, 'none')
        and arch.gain == ('none' if arch.plain or arch.norm != 'none' else 'skipinit')
    ]  # fmt: skip


def kinds_of(measured: Sequence[Measured]) -> tuple[Kinds, dict[bool, list[Measured]]]:
    """The runs by their kind, and the wide ones (plain or not), of the least width; each by seed."""
    networks = by_network(measured)
    ours = compared([measured[0].arch, *networks])
    narrow = min(arch.widths for arch in ours)
    found: Kinds = {}
    wide: dict[bool, list[Measured]] = {}
    for arch in sorted(networks, key=lambda arch: (arch.plain, counts.depth(arch), arch.widths)):
        if arch in ours and arch.widths == narrow:
            found[arch.plain, arch.norm != 'none', counts.depth(arch)] = networks[arch]
        elif arch in ours:
            wide.setdefault(arch.plain, networks[arch])
    return found, wide


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """Differences seed by seed, of the same data in the same order; what He et al. say must hold in all seeds."""
    kinds, wide = kinds_of(measured)
    depths = sorted(depth for plain, norm, depth in kinds if plain and norm)
    shallow, deep = (
        (config.shallow, config.deep) if {config.shallow, config.deep} <= {*depths} else (depths[0], depths[-1])
    )
    claim = partial(_claim, data=measured[0].data)
    made = [
        *claim(
            differences(kinds[True, True, deep], kinds[True, True, shallow], 'training_error'), accept=ABOVE_ZERO,
            figure='curves', expected='above 0 (figure 6, left)',
            statement=f'Of plain networks the deeper one has the higher training error ({deep} against {shallow})',
        ),
        *_residual_claim(kinds, shallow, deep, claim),
        *claim(
            differences(kinds[True, True, deep], kinds.get((False, True, deep), []), 'training_error'),
            accept=ABOVE_ZERO, figure='by_depth', expected='above 0 (figure 6)',
            statement=f'With shortcuts {deep} layers train better than without',
        ),
        *_norm_claims(kinds, claim),
        *_wide_claims(kinds, wide, deep, claim),
    ]  # fmt: skip
    if measured[0].data == 'cifar10':
        made += [
            _number(runs, expected)
            for depth, expected in TEST_ERRORS.items()
            if (runs := kinds.get((False, True, depth)))
        ]
    return made


def _residual_claim(kinds: Kinds, shallow: int, deep: int, claim: Callable) -> list[Claim]:
    """Of residual networks, by the training loss where there is no error left to compare."""
    ours, theirs = (kinds.get((False, True, depth), []) for depth in (deep, shallow))
    left = any(values([*ours, *theirs], 'training_error') > 0)
    said = {} if left else {'quantity': DIFFERENCE.replace('errors', 'losses').replace('percentage points', 'nats')}
    return claim(
        differences(ours, theirs, 'training_error' if left else 'training_loss'), accept=BELOW_ZERO, figure='curves',
        expected='below 0 (figure 6, middle)', **said,
        statement=f'Of residual networks the deeper one has the lower training {"error" if left else "loss"} '
        f'({deep} against {shallow})',
    )  # fmt: skip


def _norm_claims(kinds: Kinds, claim: Callable) -> list[Claim]:
    """With and without BN, at the depths that there are of both."""
    depths = sorted(depth for plain, norm, depth in kinds if plain and not norm)
    if len(depths) < 2:
        return []
    shallow, deep = depths[0], depths[-1]

    def more_lost(kind: tuple[bool, bool], other: tuple[bool, bool]) -> np.ndarray:
        """By how much more of its training the one kind loses with depth than the other."""
        groups = [kinds.get((*each, depth), []) for each in (kind, other) for depth in (deep, shallow)]
        return np.array([np.dot((1, -1, -1, 1), values(row, 'training_error')) for row in paired(*groups)])

    claim = partial(claim, figure='by_depth', expected='not in the paper, whose networks all have BN')
    return [
        *claim(
            more_lost((True, False), (True, True)), accept=ABOVE_ZERO,
            statement=f'BN cures part of it: without BN, plain networks lose more from {shallow} to {deep} layers',
        ),
        *claim(
            more_lost((True, False), (False, False)), accept=ABOVE_ZERO,
            statement=f'Shortcuts cure it without BN too: plain networks lose more from {shallow} to {deep} layers',
        ),
    ]  # fmt: skip


def _wide_claims(kinds: Kinds, wide: dict[bool, list[Measured]], deep: int, claim: Callable) -> list[Claim]:
    """Wider against deeper at equal parameters, by the test error."""
    made = []
    for plain, runs in wide.items():
        against = f'{runs[0].depth} layers against {deep}, {"plain" if plain else "residual"}'
        made += claim(
            differences(runs, kinds.get((plain, True, deep), []), 'test_error'), accept=BELOW_ZERO, figure='by_depth',
            interval=over_seeds, statement=f'Wider beats deeper at equal parameters: {against}',
            quantity='difference of the test errors, mean over seeds, percentage points',
            source='Zagoruyko & Komodakis 2016, arXiv 1605.07146, section 3', expected='below 0 (residual, CIFAR-10)',
        )  # fmt: skip
    return made


def _claim(
    found: np.ndarray, *, interval: Callable = all_seeds, source: str = PAPER, figure: str, quantity: str = DIFFERENCE,
    **said: Any,
) -> list[Claim]:  # fmt: skip
    """Of differences seed by seed; none where no seed is of both."""
    if not found.size:
        return []
    value, its = interval(found)
    return [
        Claim(measured=value, interval=its, source=source, quantity=quantity, form='shape', n=f'{len(found)} seeds',
              figure=f'degradation_{figure}', **said)
    ]  # fmt: skip


def _number(runs: Sequence[Measured], expected: float) -> Claim:
    value, interval = over_seeds(values(runs, 'test_error'))
    return Claim(
        statement=f'ResNet-{runs[0].depth} reaches the error of the paper', source=f'{PAPER}, table 6',
        quantity='test error, mean over seeds, last step, %', expected=f'{expected} %', form='number',
        accept=Interval(expected - 0.5, expected + 0.5), measured=value, interval=interval, n=f'{len(runs)} seeds',
        data='cifar10', figure='degradation_by_depth',
    )  # fmt: skip
