"""Commands in this process, and what they say."""

import contextlib
import io
from types import SimpleNamespace

from resnet_jax import cli


def call(*arguments):
    """The command in this process."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = cli.main([str(argument) for argument in arguments])
    return SimpleNamespace(code=code, out=out.getvalue(), error=error.getvalue())


def one_line(done):
    """The message of a command that refused what was asked."""
    assert done.code == 2, done
    assert done.error.startswith('resnet-jax: ') and done.error.count('\n') == 1 and done.error.endswith('\n'), done
    assert 'Traceback' not in done.error + done.out
    return done.error
