"""What would not fit the memory is refused with what it takes and what there is."""

import os
from types import SimpleNamespace

import jax
import pytest

from resnet_jax import memory
from resnet_jax.errors import UserError


def test_half_of_the_memory_fits_and_a_byte_more_does_not():
    there = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    memory.check_fits('images', there // 2, 'take fewer')
    with pytest.raises(UserError, match=f'^images: .* GB, more than half of the {there / 1e9:,.1f} GB .*; take fewer$'):
        memory.check_fits('images', there // 2 + 1, 'take fewer')


def test_there_is_room_for_half_of_the_devices_memory_or_where_it_has_none_of_the_machines(monkeypatch):
    for told, there in (
        ({'bytes_limit': 1000}, 1000),
        (None, os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')),
    ):
        monkeypatch.setattr(jax, 'local_devices', lambda told=told: [SimpleNamespace(memory_stats=lambda: told)])
        assert memory.room() == there // 2
