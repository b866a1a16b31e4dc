"""A laboratory: a directory of runs, each found by what defines it and trained only where it is missing.

Beside the runs stand what was found on them (`findings/`, `figures/`, `report.html`) and what was measured run by run
(`measured/`).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resnet_jax import config as configuration
from resnet_jax import spec, validity
from resnet_jax.errors import Diverged, UserError
from resnet_jax.progress import Progress
from resnet_jax.runtime import directory

if TYPE_CHECKING:
    from resnet_jax.run import Run


# What two runs may differ in and still be compared: the network, the seed, and the warm-up that the papers tie to both.
_MAY_DIFFER = re.compile(r'network\..*|seed|train\.schedule\.warmup.*')


def missing(lab: Path, configs: Sequence[ConfigDict]) -> list[ConfigDict]:
    """Those of the configs whose run is not there, or not finished; each once."""
    return [config for path, config in _places(lab, configs) if not _finished(path, config)]


def prepare(lab: Path, configs: Sequence[ConfigDict], progress: Progress) -> 'list[Run]':
    """The runs of these configs, in their order; what is missing is trained, in `lab`/<network>-<identity>.

    A run whose training diverges is one too: its `diverged` says so.

    Raises:
      UserError, Stopped: as in training.
    """
    from resnet_jax.train.loop import train

    for config in configs:
        validity.check(config)
    left = [(path, config) for path, config in _places(lab, configs) if not _finished(path, config)]
    for number, (path, config) in enumerate(left, start=1):
        try:
            train(config, path, _watch(f'training {path.name} ({number} of {len(left)})', config.run.steps, progress))
        except Diverged:
            progress(f'{path.name} diverged', config.run.steps, config.run.steps)
    return _opened(lab, configs, progress)


def beside(run: 'Run') -> 'list[Run]':
    """The runs in the same folder that differ from this one in network and seed alone: as long, or diverged."""
    from resnet_jax.run import load

    def rest(config: ConfigDict) -> dict:
        return {key: value for key, value in spec.definition(config).items() if not _MAY_DIFFER.fullmatch(key)}

    there = _runs(run.path.absolute().parent)
    there.pop(spec.identity(run.config), None)
    found = []
    for path in there.values():
        config = directory.read_config(path)
        # Of another version a config may lack what this one has: then it is no comparison.
        if rest(config) != rest(run.config):
            continue
        if directory.diverged(path):
            found.append(load(path, dataset=run.dataset))
        elif directory.has_checkpoint(path, run.step):
            found.append(load(path, run.step, dataset=run.dataset))
    return found


def _runs(lab: Path) -> dict[str, Path]:
    """Identity -> directory, of all runs there; what is damaged or of another version is none."""
    found = {}
    for path in sorted(lab.glob('*/config.json')):
        try:
            found[spec.identity(directory.read_config(path.parent))] = path.parent
        except (UserError, AttributeError):
            continue
    return found


def _places(lab: Path, configs: Sequence[ConfigDict]) -> list[tuple[Path, ConfigDict]]:
    """Each of the configs once, with the directory of its run: where it is, or where it will be."""
    there = _runs(lab)
    unique = {spec.identity(config): config for config in configs}
    return [(there.get(identity, lab / _name(config)), config) for identity, config in unique.items()]


def _finished(path: Path, config: ConfigDict) -> bool:
    return directory.complete(path, config.run.steps) or directory.diverged(path)


def _name(config: ConfigDict) -> str:
    """Of a run's directory: the nearest network of the zoo, and the identity."""
    return f'{configuration.title(config.network).split("-")[0]}-{spec.identity(config)}'


def _opened(lab: Path, configs: Sequence[ConfigDict], progress: Progress) -> 'list[Run]':
    """The runs at their last steps; those of one dataset share it."""
    from resnet_jax.run import load

    there, datasets, opened = _runs(lab), {}, []
    for config in configs:
        path, key = there[spec.identity(config)], json.dumps(spec.flatten(config.data))
        step = None if directory.diverged(path) else config.run.steps
        run = load(path, step, progress, datasets.get(key))
        datasets[key] = run.dataset
        opened.append(run)
    return opened


def _watch(what: str, steps: int, progress: Progress):
    def watch(record: dict) -> None:
        if record['kind'] == 'progress':
            progress(what, record['step'], steps)

    progress(what, 0, steps)
    return watch
