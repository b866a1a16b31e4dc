"""Tables of networks: all that have a name, or the layers of one."""

from collections.abc import Callable, Iterable

from rich.table import Table

from resnet_jax.models import counts
from resnet_jax.models.architecture import Architecture
from resnet_jax.models.counts import Layer

RIGHT: dict = {'justify': 'right', 'no_wrap': True}


def networks(named: Iterable[tuple[str, Architecture]]) -> Table:
    """A row a network; the last column has the share of the multiply-adds in stem, each stage, head."""
    table = _table('network', depth=str, parameters=str, multiply_adds=str, activations=str, field=str)
    table.add_column('blocks', no_wrap=True)
    table.add_column('stem | stages | head, %', no_wrap=True)
    pixels = None
    for name, arch in named:
        if pixels not in (None, arch.image_shape):
            table.add_section()
        pixels = arch.image_shape
        layers, logits = counts.walk(arch)
        table.add_row(
            name, str(logits.layers), f'{_total(layers, "parameters") / 1e6:.2f} M',
            f'{_total(layers, "multiply_adds") / 1e6:,.0f} M', f'{_total(layers, "activations") / 1e6:.2f} M',
            str(_field(layers)), ' '.join(map(str, arch.stage_blocks)), _shares(layers, arch),
        )  # fmt: skip
    return table


def layers(arch: Architecture) -> Table:
    """A row a layer, of a stage's body those of its first block; stem, stages and head summed up."""
    table = _table('layer', output=str, parameters=str, multiply_adds=str, activations=str, field=str)
    rows, _ = counts.walk(arch)
    for part in ('stem', *(f'stage{stage + 1}' for stage in range(arch.stages)), 'head'):
        own = [layer for layer in rows if layer.name.startswith(f'{part}/')]
        blocks = arch.stage_blocks[int(part[5:]) - 1] if part.startswith('stage') else 1
        for layer in own:
            if _shown(layer):
                table.add_row(*_layer_row(layer, blocks))
        sums = (f'{_total(own, what):,}' for what in ('parameters', 'multiply_adds', 'activations'))
        table.add_row(f'{part} in all', '', *sums, '', style='bold', end_section=True)
    sums = (f'{_total(rows, what):,}' for what in ('parameters', 'multiply_adds', 'activations'))
    table.add_row('network', '', *sums, str(_field(rows)), style='bold')
    return table


def _table(first: str, **columns: Callable) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.replace('_', '-'), **RIGHT)
    return table


def _layer_row(layer: Layer, blocks: int) -> tuple[str, ...]:
    signal = layer.signal
    name = layer.name
    if '/block2/' in name and blocks > 2:
        name = name.replace('/block2/', f'/block2…{blocks}/')
    size = f'{signal.height}x{signal.width}x{signal.channels}'
    costs = (f'{value:,}' if value else '' for value in (layer.multiply_adds, layer.activations))
    return name, size, f'{layer.parameters:,}', *costs, str(signal.field) if layer.multiply_adds else ''


def _shown(layer: Layer) -> bool:
    """Is it of a stem, a head, an entry block, or the first block of a body?"""
    block = layer.name.split('/')[1]
    return not block.startswith('block') or block in ('block1', 'block2')


def _shares(rows: list[Layer], arch: Architecture) -> str:
    total = _total(rows, 'multiply_adds')

    def share(part: str) -> str:
        own = _total([layer for layer in rows if layer.name.startswith(f'{part}/')], 'multiply_adds')
        return f'{100 * own / total:.0f}'

    stages = ' '.join(share(f'stage{stage + 1}') for stage in range(arch.stages))
    return f'{share("stem")} | {stages} | {share("head")}'


def _field(rows: list[Layer]) -> int:
    """The receptive field, in input pixels, of the last convolution's outputs."""
    return max(layer.signal.field for layer in rows)


def _total(rows: Iterable[Layer], what: str) -> int:
    return sum(getattr(layer, what) for layer in rows)
