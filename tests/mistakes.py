"""What a user's mistake is answered with."""

import pytest

from resnet_jax.errors import UserError


def refused(action, *arguments):
    """The one line with which it is refused."""
    with pytest.raises(UserError) as error:
        action(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)
