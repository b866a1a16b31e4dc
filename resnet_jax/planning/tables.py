"""The plan as tables, one a group. No JAX."""

import math
from collections.abc import Iterator

from rich.table import Table

from resnet_jax.planning import memory, sent, speed
from resnet_jax.planning.devices import Device
from resnet_jax.planning.setup import Setup

RIGHT: dict = {'justify': 'right', 'no_wrap': True}
UNITS = ('B', 'kB', 'MB', 'GB', 'TB')


def tables(setup: Setup, device: Device) -> Iterator[Table]:
    """Memory, work and what is sent; where the device says enough, time and scaling."""
    yield held(setup, device)
    yield work(setup)
    step = speed.step(setup, device)
    if step is not None:
        yield time(setup, step)
        if setup.devices > 1:
            yield scaling(setup, device)


def held(setup: Setup, device: Device) -> Table:
    table = _table('memory of a device', 'bytes', '%')
    rows = memory.held(setup, device.memory)
    total = sum(rows.values())
    for what, size in rows.items():
        table.add_row(what, _bytes(size), f'{100 * size / total:.1f}')
    table.add_row('in all', _bytes(total), '', style='bold')
    return table


def work(setup: Setup) -> Table:
    table = _table('a step', 'in all', 'a device')
    flops = speed.flops(setup)
    table.add_row('TFLOP', f'{flops / 1e12:,.3f}', f'{flops / setup.devices / 1e12:,.3f}')
    moved = speed.moved(setup)
    table.add_row('moved through memory', _bytes(moved * setup.devices), _bytes(moved))
    if setup.devices > 1:
        rows = sent.gradients(setup) | {"BN's sums": sent.bn_bytes(setup)}
        for what, size in rows.items():
            table.add_row(f'sent: {what}', _bytes(size * setup.devices), _bytes(size))
    return table


def time(setup: Setup, step: speed.Step) -> Table:
    table = _table('time of a step', 'ms', 'images/s')
    parts = {
        f'arithmetic, at {speed.MATH:.0%} of the peak': step.math,
        f'memory, at {speed.MEMORY:.0%} of its bandwidth': step.memory,
        'gradients and parameters sent': step.gradients,
        f"BN's {sent.bn_rounds(setup):,} sums sent, without latency": step.statistics,
    }
    for what, seconds in parts.items():
        if seconds:
            table.add_row(what, f'{1e3 * seconds:,.3f}', '')
    for what, seconds in {'step, communication hidden': step.hidden, 'step, nothing hidden': step.unhidden}.items():
        table.add_row(what, f'{1e3 * seconds:,.3f}', f'{setup.batch / seconds:,.0f}', style='bold')
    return table


def scaling(setup: Setup, device: Device) -> Table:
    share = setup.batch // setup.devices
    table = _table('devices', f'images/s, {share} each', 'efficiency', f'images/s, {setup.batch} in all', 'efficiency')
    for row in speed.scaling(setup, device):
        table.add_row(str(row.devices), *_rate(row.weak, row.weak_share), *_rate(row.strong, row.strong_share))
    return table


def _rate(rate: float, share: float) -> tuple[str, str]:
    return ('', '') if math.isnan(rate) else (f'{rate:,.0f}', f'{share:.1%}')


def _bytes(size: float) -> str:
    """Three digits and a unit, of powers of 1,000."""
    power = min(4, int(math.log10(size)) // 3) if size >= 1 else 0
    scaled = size / 1000**power
    return f'{scaled:.{max(0, 2 - int(math.log10(scaled)))}f} {UNITS[power]}' if scaled else '0 B'


def _table(first: str, *columns: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, **RIGHT)
    return table
