import pytest

from tests.models.reference import Reference


@pytest.fixture(scope='session')
def reference():
    """The second implementation of the networks."""
    return Reference
