"""The report of a sweep: runs.csv, figures along its axes, and one HTML file that needs nothing but itself.

Made of the files in its directory alone: no config is executed, no JAX imported. The one script of the page sorts its
table of runs; without it that is a plain table.
"""

import base64
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from resnet_jax.files import write_atomically
from resnet_jax.report import figures, page, sweep_figures, sweep_quantities, sweep_runs
from resnet_jax.report.sweep_axes import ABSENT, Axes, gather, lay_out, text
from resnet_jax.report.sweep_quantities import Quantity
from resnet_jax.report.sweep_runs import Row, Runs
from resnet_jax.sweep.state import Directory

SCRIPT = (Path(__file__).parent / 'sort.js').read_text()
SHOWN = {  # column of the page's table of runs -> key of the result
    'test error (%)': 'test_error',
    'training error (%)': 'train_error',
    'test loss': 'test_loss',
    'time (s)': 'seconds',
}


def write(sweep: Directory) -> Path:
    """Writes runs.csv, figures/ and report.html into a sweep's directory, however far it is; returns the page's path.

    Raises:
      UserError: the config.json or status.json of a run is damaged. A finding that is, is named in the page.
    """
    runs = sweep_runs.read(sweep)
    axes = lay_out(runs.rows)
    claimed = sweep_quantities.claimed(runs.rows)
    write_atomically(sweep.path / 'runs.csv', _table(runs.rows, claimed).encode())
    first = [*sweep_quantities.ERRORS, *sweep_quantities.DERIVED, *claimed]
    drawn = [
        [each for quantity in quantities for each in _drawn(sweep.path, runs.rows, axes, quantity)]
        for quantities in (first, sweep_quantities.FURTHER)
    ]
    path = sweep.path / 'report.html'
    write_atomically(path, _page(sweep, runs, axes, claimed, drawn).encode())
    return path


def _table(rows: Sequence[Row], claimed: Sequence[Quantity]) -> str:
    """The text of runs.csv: a row a run and seed, a column a number."""
    axes = _union(row.at for row in rows)
    numbers = [name for name in _union(row.numbers for row in rows) if name != 'diverged']
    measured = [*_union(row.derived for row in rows), *(quantity.column for quantity in claimed)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['run', *axes, 'seed', 'state', 'diverged', *numbers, *measured])
    for row in rows:
        writer.writerow([
            row.run, *(row.at.get(axis, '') for axis in axes), row.seed, row.state, row.numbers.get('diverged', ''),
            *(row.numbers.get(name, '') for name in numbers), *(row.value(column) for column in measured),
        ])  # fmt: skip
    return file.getvalue()


def _drawn(path: Path, rows: Sequence[Row], axes: Axes, quantity: Quantity) -> list[dict]:
    """Saves the figure of a quantity, if some run has it; returns it as the page shows it."""
    points = gather(rows, axes, quantity.column)
    if not any(point.values for point in points) or (quantity.as_map and not sweep_figures.is_map(axes)):
        return []
    draw, name = sweep_figures.heat if quantity.as_map else sweep_figures.lines, quantity.figure
    figures.save(draw(quantity, axes, points), path / 'figures', name)
    figures.save_numbers(path / 'figures', name, sweep_quantities.numbers(axes, points))
    caption = sweep_quantities.caption(quantity, axes, points)
    return [{'name': name, 'image': page.image(path, name), 'caption': caption}]


def _page(sweep: Directory, runs: Runs, axes: Axes, claimed: Sequence[Quantity], drawn: Sequence[list[dict]]) -> str:
    names = _union(row.at for row in runs.rows)
    values = {name: _union([text(row.at[name])] for row in runs.rows if name in row.at) for name in names}
    shown = {header: key for header, key in SHOWN.items() if any(key in row.numbers for row in runs.rows)}
    return page.template('sweep').render(
        name=sweep.name,
        runs=len(sweep.runs),
        states=runs.states,
        diverged=sum(row.diverged for row in runs.rows),
        axes=values | {'seed': sorted({row.seed for row in runs.rows})},
        first=drawn[0],
        further=drawn[1],
        headers=[*names, 'seed', 'state', *shown],
        rows=[_cells(row, names, list(shown.values()), sweep.path) for row in runs.rows],
        said=any(row.lines for row in runs.rows),
        places=[text(place) for place in axes.places],
        x=axes.x,
        claimed=[_verdicts(quantity, runs.rows, axes) for quantity in claimed],
        failures=_failures(runs.rows),
        common=runs.common,
        differing=runs.differing,
        outdated=runs.outdated,
        damaged=runs.damaged,
        findings=(),
        symbols=page.SYMBOLS,
        script=Markup(SCRIPT),
        script_hash=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
    )


def _failures(rows: Sequence[Row]) -> dict[tuple[str, ...], list[str]]:
    """What was said last -> the runs that ended so; a run that failed did with all its seeds."""
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for row in rows:
        if row.state == 'failed' or row.lines:
            found.setdefault(row.lines, {})[row.whole if row.state == 'failed' else row.run] = None
    return {lines: list(names) for lines, names in found.items()}


def _cells(row: Row, names: Sequence[str], shown: Sequence[str], path: Path) -> dict:
    """A line of the table of runs."""
    return {
        'run': row.run,
        'report': f'./{row.run}/report.html' if (path / row.run / 'report.html').is_file() else '',
        'at': [text(row.at.get(name, ABSENT)) for name in names] + [row.seed],
        'state': 'diverged' if row.diverged else row.state,
        'numbers': [row.numbers.get(key) for key in shown],
        'line': ' '.join(row.lines[-2:]),  # the last one is how it ended
    }


def _verdicts(quantity: Quantity, rows: Sequence[Row], axes: Axes) -> dict:
    """How often a claim came out how: series by series, from left to right; a series without it is left out."""
    counts = {serial: [Counter() for _ in axes.places] for serial in axes.series}
    for row in rows:
        if quantity.column in row.claims:
            place = axes.places.index(axes.place(row))
            counts[axes.serial(row)][place][row.claims[quantity.column].verdict] += 1
    own = {axes.label(serial): cells for serial, cells in counts.items() if any(cells)}
    total = sum((cell for cells in own.values() for cell in cells), Counter())
    experiment, _, statement = quantity.column.partition(': ')
    return {'experiment': experiment, 'statement': statement, 'figure': quantity.figure, 'total': total, 'series': own}


def _union(many: Iterable[Iterable[str]]) -> list[str]:
    """What is in any of these, in the order in which it first comes."""
    return list(dict.fromkeys(name for each in many for name in each))
