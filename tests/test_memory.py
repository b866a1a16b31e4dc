"""What would not fit the memory is refused with what it takes and what there is."""

import os

import pytest

from resnet_jax import memory
from resnet_jax.errors import UserError


def test_half_of_the_memory_fits_and_a_byte_more_does_not():
    there = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    memory.check_fits('images', there // 2, 'take fewer')
    with pytest.raises(UserError, match=f'^images: .* GB, more than half of the {there / 1e9:,.1f} GB .*; take fewer$'):
        memory.check_fits('images', there // 2 + 1, 'take fewer')
