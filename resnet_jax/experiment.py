"""Runs experiments: finds the file, measures run by run, judges, draws, saves. All that experiments share.

An experiment is a module whose docstring begins with its question, with `TITLE` and these functions:

    get_config(tier)                  how much is measured: an ml-collections config
    runs(config)                      the configs of the trained networks it needs, the main one first; [] for none
    measure(run, config, progress)    of one run (None, once, where there are none): name -> Array
    claims, figures, summary, notes   each of (list of Measured, config)

and, where they are needed, `check(architectures)`, which refuses what it cannot be measured on,
`measure_beside(run, config, progress)`, the less that is measured of the runs beside the main one, and
`diverged(config_of_run)`, what counts as measured on a run whose training diverged (without it, it is left out).
"""

import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.progress import Progress

if TYPE_CHECKING:  # with them come JAX and matplotlib, which whoever only looks a name up does not need
    import numpy as np
    from matplotlib.figure import Figure

    from resnet_jax.report.findings import Array, Finding
    from resnet_jax.run import Run

CHECKOUT = Path(__file__).parents[1]
TIERS = ('cpu', 'paper')


@dataclass(frozen=True, eq=False)
class Measured:
    """What an experiment measured on one run; `config` is None where it needs no run."""

    config: ConfigDict | None
    title: str
    step: int
    arrays: 'dict[str, Array]'

    def __getitem__(self, name: str) -> 'np.ndarray':
        return self.arrays[name].values

    @cached_property
    def arch(self) -> Architecture:
        assert self.config is not None, 'an experiment without runs has no architecture'
        return spec.architecture(self.config)

    @property
    def depth(self) -> int:
        """Of the network, as the papers count."""
        return counts.depth(self.arch)

    @property
    def seed(self) -> int:
        return self.config.seed if self.config else 0

    @property
    def data(self) -> str:
        return self.config.data.dataset if self.config else 'synthetic'


class Drawing(NamedTuple):
    """A figure, its caption, and the numbers behind it: label with unit -> column, all as long."""

    figure: 'Figure'
    caption: str
    numbers: Mapping[str, Any]


def by_network(measured: Iterable[Measured]) -> dict[Architecture, list[Measured]]:
    """The runs of each network together, by their seeds."""
    found: dict[Architecture, list[Measured]] = {}
    for each in sorted(measured, key=lambda each: each.seed):
        found.setdefault(each.arch, []).append(each)
    return found


def names() -> list[str]:
    """The experiments of the checkout."""
    return sorted(path.stem for path in (CHECKOUT / 'experiments').glob('[!_]*.py'))


def path_of(name: str) -> Path:
    """The file of the experiment of that name, or of that path.

    Raises:
      UserError: there is no such experiment.
    """
    path = Path(name) if name.endswith('.py') else CHECKOUT / 'experiments' / f'{name}.py'
    if not path.is_file():
        raise UserError(f'there is no experiment {name!r}; there are {", ".join(names())}, or give the path of a file')
    return path


def find(name: str) -> ModuleType:
    """The experiment's module.

    Raises:
      UserError: there is no such file, or it is no experiment.
    """
    path = path_of(name)
    found = importlib.util.spec_from_file_location(f'experiments.{path.stem}', path)
    if found is None or found.loader is None:
        raise UserError(f'{path} is not a Python file that can be loaded')
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    for part in ('TITLE', 'get_config', 'runs', 'measure', 'claims', 'figures', 'summary', 'notes'):
        if not hasattr(module, part):
            raise UserError(f'{path} has no {part}; resnet_jax/experiment.py says what an experiment is')
    return module


def name_of(experiment: ModuleType) -> str:
    """That of its file."""
    return experiment.__name__.rpartition('.')[2]


def question(experiment: ModuleType) -> str:
    """What it asks: the first line of its docstring, without its name."""
    line = (experiment.__doc__ or experiment.TITLE).strip().splitlines()[0]
    asked = line.partition(': ')[2] or line
    return asked[0].upper() + asked[1:]


def check(experiment: ModuleType, configs: Sequence[ConfigDict]) -> None:
    """Refuses, before anything is computed, runs that the experiment cannot be measured on.

    Raises:
      UserError: by the experiment's own `check`.
    """
    if configs and hasattr(experiment, 'check'):
        experiment.check([spec.architecture(config) for config in configs])


def perform(
    experiment: ModuleType, runs: 'Sequence[Run]', settings: ConfigDict, tier: str, where: Path, progress: Progress
) -> 'Finding':
    """Measures an experiment on runs, the main one first, and writes its finding and its figures into `where`.

    What was measured on a run is kept in `where`/measured, and taken from there the next time, as long as what
    measures is the same.

    Raises:
      UserError: the main run's training diverged, and the experiment measures no such run.
    """
    from resnet_jax.report import figures as drawing
    from resnet_jax.report import findings

    stem, measured, left_out = name_of(experiment), [], []
    for number, run in enumerate(runs, start=1):
        if run.diverged and not hasattr(experiment, 'diverged'):
            left_out.append(run)
            continue
        told = _counted(progress, number, len(runs))
        measured.append(_measured(experiment, run, settings, where, told, main=number == 1))
    if left_out and left_out[0] is runs[0]:
        raise UserError(f'the training of {runs[0].path} diverged: there is no trained network to measure {stem} on')
    if not runs:
        measured = [_measured(experiment, None, settings, where, progress, main=True)]
    drawn = experiment.figures(measured, settings)
    for figure_name, drawn_one in drawn.items():
        drawing.save(drawn_one.figure, where / 'figures', f'{stem}_{figure_name}')
        drawing.save_numbers(where / 'figures', f'{stem}_{figure_name}', drawn_one.numbers)
    gone = [f'Left out, for its training diverged: {run.title}, seed {run.config.seed}.' for run in left_out]
    finding = findings.Finding(
        experiment=stem,
        title=experiment.TITLE,
        question=question(experiment),
        tier=tier,
        settings=json.loads(json.dumps(spec.flatten(settings))),
        code=_hash(_claims_by(experiment)),
        runs=tuple(_subject(run) for run in runs),
        data=measured[0].data,
        summary=experiment.summary(measured, settings),
        claims=tuple(experiment.claims(measured, settings)),
        arrays={
            f'run{number}.{key}': array
            for number, each in enumerate(measured, start=1)
            for key, array in each.arrays.items()
        },
        figures={f'{stem}_{figure_name}': each.caption for figure_name, each in drawn.items()},
        notes=(*experiment.notes(measured, settings), *gone),
    )
    findings.save(finding, where)
    return finding


def done(experiment: ModuleType, runs: 'Sequence[Run]', settings: ConfigDict, tier: str, where: Path) -> bool:
    """Is there a finding of that experiment on these very checkpoints, by these settings and this code?"""
    from resnet_jax.report import findings

    stem = name_of(experiment)
    if not findings.readable(where, stem):
        return False
    finding = findings.load(where, stem)
    flat, code = json.loads(json.dumps(spec.flatten(settings))), _hash(_claims_by(experiment))
    wanted = (tier, flat, code, tuple(map(_subject, runs)))
    return (finding.tier, finding.settings, finding.code, finding.runs) == wanted


def _measured_by(experiment: ModuleType) -> list[Path]:
    """The code whose change makes what it measured void: the file of its `measure`, and all of `analysis`."""
    return [Path(inspect.getfile(experiment.measure)), *sorted((Path(__file__).parent / 'analysis').glob('*.py'))]


def _claims_by(experiment: ModuleType) -> list[Path]:
    """The code whose change makes its finding void: that, its own file, and what stands beside it for it."""
    own = Path(inspect.getfile(experiment.get_config))
    return [*_measured_by(experiment), own, *sorted(own.parent.glob('_*.py'))]


def _hash(files: Iterable[Path]) -> str:
    return hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:16]


def _subject(run: 'Run'):
    from resnet_jax.report.findings import Subject

    return Subject(spec.identity(run.config), run.title, run.config.seed, run.step)


def _counted(progress: Progress, number: int, total: int) -> Progress:
    """Says which of the runs it is, too."""
    return lambda what, done, of: progress(f'{what} (run {number} of {total})' if total > 1 else what, done, of)


def _measured(
    experiment: ModuleType, run: 'Run | None', settings: ConfigDict, where: Path, progress: Progress, *, main: bool
) -> Measured:
    """Of one run, from the disk where the same was measured before on the same checkpoint."""
    from resnet_jax.report.findings import load_arrays, save_arrays

    identity, step = (spec.identity(run.config), run.step) if run else ('none', 0)
    measure = experiment.measure if main else getattr(experiment, 'measure_beside', experiment.measure)
    parts = {
        'settings': spec.flatten(settings),
        'step': step,
        'by': [measure.__name__, _hash(_measured_by(experiment))],
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
    path = where / 'measured' / f'{name_of(experiment)}-{identity}-{key}.npz'
    arrays = load_arrays(path)
    if arrays is None:
        if run and run.diverged:
            arrays = experiment.diverged(run.config)
        else:
            progress('measuring', 0, 1)
            arrays = measure(run, settings, progress)
        save_arrays(path, arrays)
    return Measured(run.config if run else None, run.title if run else '', step, arrays)
