"""Plans against the models."""

import jax
import pytest


@pytest.fixture
def accelerator(monkeypatch):
    """The models' programs for accelerators; nothing is compiled."""
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
