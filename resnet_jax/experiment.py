"""Runs experiments: finds the file, opens the run, measures, judges, draws, saves. All that experiments share.

An experiment is a module with `TITLE`, `get_config(tier)`, `measure(run, others, config, progress)`, and of its
measurement `arrays`, `claims`, `figures` (name -> figure, caption, numbers), `summary` and `notes`.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.progress import Progress
from resnet_jax.runtime import directory

if TYPE_CHECKING:  # with them come JAX and matplotlib, which whoever only looks a name up does not need
    from resnet_jax.report.findings import Finding
    from resnet_jax.run import Run

CHECKOUT = Path(__file__).parents[1]
TIERS = ('cpu', 'paper')


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
    """The experiment's module."""
    path = path_of(name)
    found = importlib.util.spec_from_file_location(f'experiments.{path.stem}', path)
    if found is None or found.loader is None:
        raise UserError(f'{path} is not a Python file that can be loaded')
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


def perform(name: str, run: 'Run', tier: str, progress: Progress) -> 'Finding':
    """Measures an experiment on a run, and writes its finding and its figures into the run's directory."""
    from resnet_jax.report import figures as drawing
    from resnet_jax.report import findings

    experiment = find(name)
    others = comparable(run)
    measurement = experiment.measure(run, others, experiment.get_config(tier), progress)
    drawn = experiment.figures(measurement)
    stem = Path(name).stem
    for figure_name, (figure, _, numbers) in drawn.items():
        drawing.save(figure, run.path / 'figures', f'{stem}_{figure_name}')
        drawing.save_numbers(run.path / 'figures', f'{stem}_{figure_name}', numbers)
    finding = findings.Finding(
        experiment=stem,
        title=experiment.TITLE,
        run=spec.identity(run.config),
        step=run.step,
        tier=tier,
        compared=tuple(spec.identity(other.config) for other in others),
        data=run.config.data.dataset,
        summary=experiment.summary(measurement),
        claims=tuple(experiment.claims(measurement)),
        arrays=experiment.arrays(measurement),
        figures={f'{stem}_{figure_name}': caption for figure_name, (_, caption, _) in drawn.items()},
        notes=tuple(experiment.notes(measurement)),
    )
    findings.save(finding, run.path)
    return finding


def done(name: str, run: 'Run', tier: str) -> 'Finding | None':
    """The finding of that experiment on this very checkpoint and the same runs beside it, where there is one."""
    from resnet_jax.report import findings

    if not (run.path / 'findings' / f'{Path(name).stem}.json').exists():
        return None
    finding = findings.load(run.path, Path(name).stem)
    compared = tuple(spec.identity(other.config) for other in comparable(run))
    same = (finding.run, finding.step, finding.tier) == (spec.identity(run.config), run.step, tier)
    return finding if same and finding.compared == compared else None


# What two runs may differ in and still be compared: the network, and the warm-up that the papers tie to it.
_KIND = re.compile(r'network\..*|train\.schedule\.warmup.*')


def comparable(run: 'Run') -> 'list[Run]':
    """The finished runs in the same folder, as long as this one, that differ from it in the network alone."""
    from resnet_jax.run import load

    def rest(config: ConfigDict) -> dict:
        return {key: value for key, value in spec.definition(config).items() if not _KIND.fullmatch(key)}

    def kind(config: ConfigDict) -> str:
        return json.dumps(spec.flatten(config.network), sort_keys=True)

    found = {kind(run.config): run}
    for path in sorted(run.path.absolute().parent.glob('*/config.json')):
        try:
            config = directory.read_config(path.parent)
            alike = kind(config) not in found and rest(config) == rest(run.config)
        except (UserError, AttributeError):  # a neighbour that is damaged, or of another version, is no comparison
            continue
        if alike and directory.has_checkpoint(path.parent, run.step):
            found[kind(config)] = load(path.parent, run.step)
    return list(found.values())[1:]
