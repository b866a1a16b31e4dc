"""A network as data: its settings, and the plan of its stem, blocks and head that follows. Imports no JAX."""

from dataclasses import dataclass
from functools import cached_property

PREACTIVATED = ('relu_only_preactivation', 'full_preactivation')


@dataclass(frozen=True)
class Architecture:
    """A network, all of it, but for its parameters and how they are run. Fields as in `configs/default.py`."""

    stem: str
    stem_width: int
    stem_strides: tuple[int, ...]
    block: str
    stage_blocks: tuple[int, ...]
    widths: tuple[int, ...]
    mid_ratios: tuple[float, ...]
    groups: int
    strided_conv: int
    downsample: str
    squeeze_excite: int
    dropout: float
    placement: str
    shortcut: str
    subsample: str
    zero_channels: str
    shortcut_scale: float
    residual_scale: float
    gate_bias: float
    shortcut_dropout: float
    join: str
    dense: str
    dense_join: str
    share: str
    survival: float
    norm: str
    norm_groups: int
    norm_examples: int
    norm_momentum: float
    norm_epsilon: float
    conv: str
    gain: str
    nf_alpha: float
    pool: str
    head_widths: tuple[int, ...]
    head_dropout: float
    image_shape: tuple[int, int, int]
    classes: int

    @property
    def blocks(self) -> int:
        return sum(self.stage_blocks)

    @property
    def stages(self) -> int:
        return len(self.stage_blocks)

    @cached_property
    def entry_blocks(self) -> tuple[int, ...]:
        """Index of the first block of each stage, in network order from 0."""
        return tuple(sum(self.stage_blocks[:stage]) for stage in range(self.stages))

    @cached_property
    def stage_of(self) -> tuple[int, ...]:
        """For every block, in network order: its stage, from 0."""
        return tuple(stage for stage, blocks in enumerate(self.stage_blocks) for _ in range(blocks))

    @property
    def preactivated(self) -> bool:
        return self.placement in PREACTIVATED

    @property
    def draws(self) -> bool:
        """Is anything dropped at random in training?"""
        return bool(self.dropout or self.head_dropout or self.survival != 1 or self.shortcut == 'dropout')

    @property
    def plain(self) -> bool:
        return self.shortcut == 'none'

    def strides(self, stage: int) -> int:
        """Of the entry block of a stage, counted from 0: the stem's strides serve the first."""
        return 2 if stage else 1

    def inputs(self, stage: int) -> int:
        """Channels that a stage is given."""
        return self.widths[stage - 1] if stage else self.stem_features

    @property
    def stem_features(self) -> int:
        """Channels that the stem gives."""
        return self.stem_width

    def changes_shape(self, stage: int) -> bool:
        """Has the entry block of a stage an output of another shape than its input?"""
        return self.strides(stage) != 1 or self.inputs(stage) != self.widths[stage]

    @cached_property
    def shortcut_shapes_agree(self) -> tuple[bool, ...]:
        """For every block, in network order: has its output the shape of its input?"""
        changes = {first for stage, first in enumerate(self.entry_blocks) if self.changes_shape(stage)}
        return tuple(index not in changes for index in range(self.blocks))
