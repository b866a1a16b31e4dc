"""Activations: does the order of BN, ReLU and addition matter?

He, Zhang, Ren & Sun 2016, "Identity mappings in deep residual networks" (arXiv 1603.05027), section 4, figure 4 and
table 2: the original unit, BN after the addition, ReLU before the addition, ReLU-only pre-activation and full
pre-activation, in networks of two depths. One recipe, the same seeds for all; divergence counts as chance.

    resnet-jax experiment activations
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
from ml_collections import ConfigDict

from experiments._networks import alike, network, paired
from experiments._training import columns, diverged, measure, rows, said, values
from resnet_jax.errors import UserError
from resnet_jax.experiment import Drawing, Measured, by_network
from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.claims import ABOVE_ZERO, BELOW_ZERO, Claim, Interval
from resnet_jax.report.findings import Plain
from resnet_jax.report.intervals import over_seeds

__all__ = ['TITLE', 'check', 'claims', 'diverged', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'Orders of BN, ReLU and addition'
PAPER = 'He et al. 2016, arXiv 1603.05027, table 2'
ERRORS = {  # percent on CIFAR-10, by depth
    'original': {110: 6.61, 164: 5.93},
    'bn_after_addition': {110: 8.17, 164: 6.50},
    'relu_before_addition': {110: 7.84, 164: 6.14},
    'relu_only_preactivation': {110: 6.71, 164: 5.91},
    'full_preactivation': {110: 6.37, 164: 5.46},
}


NAMES = {
    'original': 'the original unit',
    'bn_after_addition': 'BN after the addition',
    'relu_before_addition': 'ReLU before the addition',
    'relu_only_preactivation': 'ReLU-only pre-activation',
    'full_preactivation': 'full pre-activation',
}
EXPECTED = {  # against the original unit: in words, and where the gain in percentage points must lie
    'bn_after_addition': ('worse than', BELOW_ZERO),
    'relu_before_addition': ('worse than', BELOW_ZERO),
    'relu_only_preactivation': ('within half a point of', Interval(-0.5, 0.5)),
    'full_preactivation': ('better than', ABOVE_ZERO),
}


def get_config(tier: str) -> ConfigDict:
    """Of which depths, and how many seeds."""
    return ConfigDict({'tier': tier, 'depths': {'cpu': (20, 56), 'paper': (110, 164)}[tier], 'seeds': (0, 1, 2)})


def runs(config: ConfigDict) -> list[ConfigDict]:
    """Every placement, depth and seed."""
    return [
        network(config.tier, f'resnet{depth}', seed, placement=placement)
        for depth in config.depths for placement in ERRORS for seed in config.seeds
    ]  # fmt: skip


def check(architectures: Sequence[Architecture]) -> None:
    """There must be two placements to compare."""
    placements = {arch.placement for arch in architectures if not arch.plain}
    if len(placements) < 2 or 'original' not in placements:
        raise UserError(
            'activations compares residual networks of the original placement with others; here are only '
            f'{", ".join(sorted(placements)) or "plain ones"}: leave out --run, and what is missing is trained'
        )


def _kinds(measured: Sequence[Measured]) -> dict[tuple[int, str], list[Measured]]:
    """The residual runs by depth and placement, which alone differs at a depth; each by seed."""
    networks = [arch for arch in by_network(measured) if not arch.plain]
    main, found = measured[0].arch, {}
    for depth in sorted({counts.depth(arch) for arch in networks}):
        there = sorted((arch for arch in networks if counts.depth(arch) == depth), key=lambda arch: _unlike(arch, main))
        of_depth = alike(there, 'placement')
        for run in sorted(measured, key=lambda run: (list(ERRORS).index(run.arch.placement), run.seed)):
            if run.arch in of_depth:
                found.setdefault((depth, run.arch.placement), []).append(run)
    return found


def _unlike(arch: Architecture, other: Architecture) -> int:
    """In how many fields but the placement they differ."""
    return sum(getattr(arch, each.name) != getattr(other, each.name) for each in fields(arch)
               if each.name != 'placement')  # fmt: skip


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """That full pre-activation is better than the rest, more so in deeper networks; the paper's numbers on its data."""
    kinds, data = _kinds(measured), measured[0].data
    depths = sorted({depth for depth, _ in kinds})
    made = [
        _against_original(depth, placement, gain, data)
        for depth in depths for placement in EXPECTED
        if (gain := _gain(kinds, placement, depth)[0]).size
    ]  # fmt: skip
    if len(depths) > 1:
        shallow, deep = _gain(kinds, 'full_preactivation', depths[0], depths[-1])
        made += [_grows(depths[0], depths[-1], deep - shallow, data)] if deep.size else []
    if data == 'cifar10':
        made += [_number(runs, ERRORS[placement][depth]) for (depth, placement), runs in kinds.items()
                 if depth in ERRORS[placement]]  # fmt: skip
    return made


def _gain(kinds: Mapping[tuple[int, str], list[Measured]], placement: str, *depths: int) -> list[np.ndarray]:
    """By how much the test error is below the original's at each depth, of the seeds that all of these have."""
    groups = [kinds.get((depth, each), []) for depth in depths for each in ('original', placement)]
    errors = np.array([values(row, 'test_error') for row in paired(*groups)]).reshape(-1, len(depths), 2)
    return list((errors[..., 0] - errors[..., 1]).T)


def _against_original(depth: int, placement: str, gain: np.ndarray, data: str) -> Claim:
    """BN after, or ReLU before, the addition hurts; ReLU-only pre-activation changes little, the full one helps."""
    name, errors, (expected, accept) = NAMES[placement], ERRORS[placement], EXPECTED[placement]
    return _claim(
        gain, accept, data, statement=f'{name[0].upper()}{name[1:]} is {expected} the original unit ({depth} layers)',
        expected=', '.join(f'{ERRORS["original"][each] - errors[each]:+.2f} ({each} layers)' for each in errors),
    )  # fmt: skip


def _grows(shallow: int, deep: int, more: np.ndarray, data: str) -> Claim:
    return _claim(
        more, ABOVE_ZERO, data, expected='+0.23 (110 to 164 layers)',
        statement=f'Full pre-activation gains more in deeper networks ({deep} against {shallow} layers)',
    )  # fmt: skip


def _claim(gain: np.ndarray, accept: Interval, data: str, **text: str) -> Claim:
    value, interval = over_seeds(gain)
    return Claim(
        source=PAPER, quantity='test error below that of the original unit, mean over seeds, percentage points',
        accept=accept, form='shape', measured=value, interval=interval, n=f'{len(gain)} seeds', data=data,
        figure='activations_placements', **text,
    )  # fmt: skip


def _number(runs: Sequence[Measured], expected: float) -> Claim:
    value, interval = over_seeds(values(runs, 'test_error'))
    return Claim(
        statement=f'{runs[0].depth} layers with {NAMES[runs[0].arch.placement]} have the error of the paper',
        source=PAPER, quantity='test error, mean over seeds, last step, %', expected=f'{expected} %', form='number',
        accept=Interval(expected - 0.5, expected + 0.5), measured=value, interval=interval, n=f'{len(runs)} seeds',
        data='cifar10', figure='activations_placements',
    )  # fmt: skip


def _named(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    return {f'{depth}: {NAMES[placement]}': runs for (depth, placement), runs in _kinds(measured).items()}


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The test error of every kind: the median, and all seeds."""
    return {name: said(runs, 'test_error') for name, runs in _named(measured).items()}


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    told = [
        'Intervals are by Student over the differences seed by seed. The paper gives medians of five runs, and its '
        'differences are below a point but for two placements: few seeds decide little.',
    ]
    if measured[0].data != 'cifar10':
        told.append(f'The paper is on CIFAR-10, with 110 and 164 layers; on {measured[0].data} only signs are tested.')
    return told


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The errors of every placement and depth."""
    named, chance = _named(measured), 100 * (1 - 1 / measured[0].arch.classes)
    caption = 'Error at the end of training by depth and placement: every seed (points), the median test error (bar).'
    return {'placements': Drawing(rows(named, chance), f'{caption} Dotted: chance.', columns(named))}
