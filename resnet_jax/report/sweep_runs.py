"""What the runs of a sweep came to, read from their files: a row a run, or a row a seed where one trained several."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from resnet_jax import spec
from resnet_jax.errors import UserError
from resnet_jax.report import findings, lesions
from resnet_jax.report.claims import Claim
from resnet_jax.report.page import read_settings
from resnet_jax.runtime import result
from resnet_jax.sweep.grid import Value
from resnet_jax.sweep.state import Directory, Status


class Row(NamedTuple):
    """A run, or of one that trained several seeds one of them.

    Attributes:
      run: its directory, in the sweep's.
      at: axis -> where it stands, without the seed.
      state: pending, running, done or failed.
      lines: what it said last, where it failed; or what is wrong with its files.
      numbers: those of its result; none: {}.
      claims: column -> claim.
      derived: column -> what is computed from the arrays of its findings.
    """

    run: str
    at: dict[str, Value]
    seed: int
    state: str
    lines: tuple[str, ...]
    numbers: result.Numbers
    claims: dict[str, Claim]
    derived: dict[str, float]

    @property
    def whole(self) -> str:
        """The name of the run that it is, or one seed of."""
        return self.run.partition('/')[0]

    @property
    def diverged(self) -> bool:
        return bool(self.numbers.get('diverged'))

    def value(self, column: str) -> float | None:
        """The number of that column; None where it has none, or it says nothing, for the training diverged."""
        if column in self.claims:
            return self.claims[column].measured
        if column in self.derived:
            return self.derived[column]
        return None if self.diverged else self.numbers.get(column)

    def lacks(self, column: str) -> str:
        """Why there is no number to draw in that column; '' where there is one."""
        value = self.value(column)
        if value is not None:
            return '' if math.isfinite(value) else 'not finite'
        if self.diverged:
            return 'diverged'
        if column in self.numbers:
            return 'not finite'
        return {'failed': 'failed', 'done': 'without it'}.get(self.state, 'not done yet')


class Runs(NamedTuple):
    """All of a sweep.

    Attributes:
      states: state -> how many runs, in whatever many seeds.
      common: setting -> its value in every run; `differing`: the other settings.
      outdated: experiments of which another version wrote findings.
      damaged: a line for each finding that cannot be read.
    """

    rows: list[Row]
    states: Counter[str]
    common: dict[str, Any]
    differing: list[str]
    outdated: list[str]
    damaged: list[str]


def read(sweep: Directory) -> Runs:
    """Reads all runs of a sweep, whatever their state.

    Raises:
      UserError: a run's config.json is missing or damaged, or its status.json.
    """
    statuses, rows, settings = sweep.statuses(), [], []
    outdated: set[str] = set()
    damaged: list[str] = []
    for name, at in sweep.runs.items():
        config = _settings(sweep.run(name))
        settings.append(config)
        for run, seed, identity in _seeds(sweep.path, name, config):
            claims, derived = _found(sweep.path / run, outdated, damaged)
            status, numbers = statuses[name], result.read(sweep.path / run, identity)
            rows.append(
                Row(
                    run, {axis: value for axis, value in at.items() if axis != 'seed'}, seed, status.state,
                    _lines(status, numbers), numbers or {}, claims, derived,
                )
            )  # fmt: skip
    common = {key: value for key, value in settings[0].items() if all(each.get(key) == value for each in settings)}
    differing = sorted({key for each in settings for key in each} - common.keys())
    states = Counter(status.state for status in statuses.values())
    return Runs(rows, states, common, differing, sorted(outdated), damaged)


def _settings(run_dir: Path) -> dict[str, Any]:
    """The flat config of a run."""
    record = read_settings(run_dir, 'config.json')
    if record is None:
        raise UserError(f'{run_dir} has no config.json; begin the sweep again, which writes it')
    return spec.flatten(record['config'])


def _seeds(path: Path, name: str, config: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """(directory, seed, identity) of each network that a run trains; one that has not begun has no identity."""
    seeds = spec.seeds(config)
    if len(seeds) == 1:
        yield name, config['seed'], spec.identity(config)
        return
    for seed in seeds:
        run = f'{name}/seed{seed}'
        record = read_settings(path / run, 'config.json')
        yield run, seed, spec.identity(record['config']) if record else ''


def _found(run_dir: Path, outdated: set[str], damaged: list[str]) -> tuple[dict[str, Claim], dict[str, float]]:
    """Claims and derived numbers by column; what cannot be read is told to `outdated` and `damaged`."""
    claims: dict[str, Claim] = {}
    derived: dict[str, float] = {}
    for experiment in findings.names(run_dir):
        try:
            if not findings.readable(run_dir, experiment):
                outdated.add(experiment)
                continue
            finding = findings.load(run_dir, experiment)
        except UserError as error:
            damaged.append(str(error))
            continue
        for claim in finding.claims:
            claims[_column(experiment, claim.statement, claims)] = claim
        if experiment == lesions.EXPERIMENT and (cost := lesions.cost(finding.arrays)) is not None:
            derived[lesions.COST] = cost
    return claims, derived


def _column(experiment: str, statement: str, taken: dict[str, Claim]) -> str:
    """The name of a claim: its experiment and its statement, numbered where one finding says it twice."""
    name, number = f'{experiment}: {statement}', 1
    while name in taken:
        number += 1
        name = f'{experiment}: {statement} ({number})'
    return name


def _lines(status: Status, numbers: result.Numbers | None) -> tuple[str, ...]:
    if status.state == 'done' and numbers is None:
        return ('its result.json is missing or damaged',)
    return status.lines if status.state == 'failed' else ()
