"""Shortcuts: does the form of the shortcut matter?

He, Zhang, Ren & Sun 2016, "Identity mappings in deep residual networks" (arXiv 1603.05027), section 3 and table 1: the
identity against constant scalings, gates, a 1x1 convolution and dropout on the shortcut of ResNet-110. With them the
options A, B and C of He et al. 2015 (arXiv 1512.03385, section 4.1): zero-padded, projected where the shape changes,
projected everywhere. One recipe, the same seeds for all; a network whose training diverges counts as chance.

    resnet-jax experiment shortcuts
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments._networks import alike, network
from experiments._training import columns, differences, diverged, measure, rows, said, values
from resnet_jax.errors import UserError
from resnet_jax.experiment import Drawing, Measured, by_network
from resnet_jax.models.architecture import Architecture
from resnet_jax.report.claims import ABOVE_ZERO, Claim, Interval
from resnet_jax.report.findings import Plain
from resnet_jax.report.intervals import over_seeds

__all__ = ['TITLE', 'check', 'claims', 'diverged', 'figures', 'get_config', 'measure', 'notes', 'runs', 'summary']

TITLE = 'Forms of the shortcut'
PAPER = 'He et al. 2016, arXiv 1603.05027, table 1'

# What is put on the shortcut -> its settings, and the test error of ResNet-110 on CIFAR-10 in the paper, in percent.
FORMS = {
    'A: identity': ({'shortcut': 'A'}, '6.61'),
    'B: projection where the shape changes': ({'shortcut': 'B'}, ''),
    'C: projection everywhere': ({'shortcut': 'C'}, ''),
    'constant 0': ({'shortcut_scale': 0.0}, 'fails'),
    'constant 0.5': ({'shortcut_scale': 0.5}, 'fails'),
    'constant 0.5, residual 0.5': ({'shortcut_scale': 0.5, 'residual_scale': 0.5}, '12.35'),
    'exclusive gating, bias 0': ({'shortcut': 'exclusive_gating', 'gate_bias': 0.0}, 'fails'),
    'exclusive gating, bias -6': ({'shortcut': 'exclusive_gating', 'gate_bias': -6.0}, '8.70'),
    'exclusive gating, bias -7': ({'shortcut': 'exclusive_gating', 'gate_bias': -7.0}, '9.81'),
    'shortcut-only gating, bias 0': ({'shortcut': 'shortcut_gating', 'gate_bias': 0.0}, '12.86'),
    'shortcut-only gating, bias -6': ({'shortcut': 'shortcut_gating', 'gate_bias': -6.0}, '6.91'),
    '1x1 convolution': ({'shortcut': 'conv'}, '12.22'),
    'dropout 0.5': ({'shortcut': 'dropout'}, 'fails'),
}
VARIED = ('shortcut', 'shortcut_scale', 'residual_scale', 'gate_bias')
FAILS = 20.0  # percent of errors above which the paper says that a network fails


def get_config(tier: str) -> ConfigDict:
    """Of which depth, and how many seeds."""
    return ConfigDict({'tier': tier, 'depth': {'cpu': 20, 'paper': 110}[tier], 'seeds': (0, 1, 2)})


def runs(config: ConfigDict) -> list[ConfigDict]:
    """Every form, every seed."""
    make = partial(network, config.tier, f'resnet{config.depth}')
    return [make(seed, **settings) for settings, _ in FORMS.values() for seed in config.seeds]


def check(architectures: Sequence[Architecture]) -> None:
    """There must be the identity, and another form to compare it with."""
    forms = {form for arch in alike(architectures, *VARIED) if (form := _form(arch))}
    if 'A: identity' not in forms or len(forms) < 2:
        raise UserError(
            'shortcuts compares networks with identity shortcuts (A) with others of one depth; here are only '
            f'{", ".join(sorted(forms)) or "others"}: leave out --run, and what is missing is trained'
        )


def _form(arch: Architecture) -> str | None:
    """Which of the forms an architecture has."""
    base = {'shortcut_scale': 1.0, 'residual_scale': 1.0}  # the bias says nothing of what has no gate
    for name, (settings, _) in FORMS.items():
        wanted = base | {'shortcut': 'A'} | settings
        if all(getattr(arch, key) == value for key, value in wanted.items()):
            return name
    return None


def _forms(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """The runs by form, in the order of the table; of networks that are else like the main one."""
    networks = by_network(measured)
    compared = [each for each in networks if each in alike([measured[0].arch, *networks], *VARIED)]
    found = {name: [run for arch in compared if _form(arch) == name for run in networks[arch]] for name in FORMS}
    return {name: runs for name, runs in found.items() if runs}


def claims(measured: Sequence[Measured], config: ConfigDict) -> list[Claim]:
    """That no other form is better than the identity, seed by seed; the paper's numbers on its data."""
    forms, data = _forms(measured), measured[0].data
    above = {name: differences(runs, forms['A: identity'], 'test_error') for name, runs in forms.items()}
    made = [_worse(name, above[name], data) for name in forms if name != 'A: identity' and FORMS[name][1]
            and above[name].size]  # fmt: skip
    everywhere = above.get('C: projection everywhere', np.zeros(0))
    made += [_alike(everywhere, data)] if everywhere.size else []
    if (data, measured[0].depth) == ('cifar10', 110):
        made += [_number(name, runs) for name, runs in forms.items() if FORMS[name][1]]
    return made


def _worse(name: str, above: np.ndarray, data: str) -> Claim:
    return _claim(
        above, data, statement=f'The identity gives a lower test error than {name} on the shortcut', source=PAPER,
        expected=f'{FORMS[name][1]} against 6.61', accept=ABOVE_ZERO,
    )  # fmt: skip


def _alike(above: np.ndarray, data: str) -> Claim:
    return _claim(
        above, data, statement='Projections everywhere (C) are not needed: they change the error by less than a point',
        source='He et al. 2015, arXiv 1512.03385, section 4.1 (ImageNet: 24.19 against 25.03)', expected='-0.84',
        accept=Interval(-1.0, 1.0),
    )  # fmt: skip


def _claim(above: np.ndarray, data: str, **said: Any) -> Claim:
    value, interval = over_seeds(above)
    return Claim(
        quantity='test error above that with the identity, mean over seeds, percentage points', form='shape',
        measured=value, interval=interval, n=f'{len(above)} seeds', data=data, figure='shortcuts_forms', **said,
    )  # fmt: skip


def _number(name: str, runs: Sequence[Measured]) -> Claim:
    value, interval = over_seeds(values(runs, 'test_error'))
    expected = FORMS[name][1]
    accept = Interval(FAILS, 100.0) if expected == 'fails' else Interval(float(expected) - 0.5, float(expected) + 0.5)
    return Claim(
        statement=f'ResNet-110 with {name} on the shortcut has the error of the paper', source=PAPER,
        quantity='test error, mean over seeds, last step, %', expected=expected, accept=accept, form='number',
        measured=value, interval=interval, n=f'{len(runs)} seeds', data='cifar10', figure='shortcuts_forms',
    )  # fmt: skip


def summary(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Plain]:
    """The test error of every form: the median, and all seeds."""
    return {name: said(runs, 'test_error') for name, runs in _forms(measured).items()}


def notes(measured: Sequence[Measured], config: ConfigDict) -> list[str]:
    """Under which conditions the claims are tested."""
    told = [
        'Intervals are by Student over the differences seed by seed. "Fails" is an error above 20 %, as in the paper. '
        'With constant 0 the shortcut passes nothing: a plain network.',
        'That option C changes little is held to one point, which is our bound; the paper compares on ImageNet.',
    ]
    if (measured[0].data, measured[0].depth) != ('cifar10', 110):
        told.append(f'The paper has ResNet-110 on CIFAR-10; with {measured[0].depth} layers on {measured[0].data} only '
                    'the order of the forms is tested.')  # fmt: skip
    return told


def figures(measured: Sequence[Measured], config: ConfigDict) -> dict[str, Drawing]:
    """The errors of every form."""
    forms, chance = _forms(measured), 100 * (1 - 1 / measured[0].arch.classes)
    caption = (
        'Error at the end of training by what is on the shortcut: every seed (points), the median test error (bar).'
    )
    return {'forms': Drawing(rows(forms, chance), f'{caption} Dotted: chance.', columns(forms))}
