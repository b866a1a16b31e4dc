"""The errors a user can cause. The command line prints each as one line and exits with its code."""

import errno

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(Exception):
    """A mistake in what was asked: says the rule, what was given, and what to do. Exit code 2."""

    exit_code = 2


class Elsewhere(UserError):
    """Another process of this run says what is wrong."""


class TogetherError(UserError):
    """What all processes of a run have met, or have heard of: the first one says it."""


class Diverged(TogetherError):
    """The loss or a parameter stopped being finite in training. Exit code 2."""


class Stopped(Exception):
    """The run was asked to stop, has saved its state, and resumes by the same command. Exit code 75."""

    exit_code = 75


def unwritable(error: OSError) -> str:
    """What to say of an error that a disk gives, for which nobody else found words; empty: it is another one."""
    if error.errno not in CANNOT_WRITE:
        return ''
    return f'cannot write {error.filename or ""} ({error.strerror}); mend that and start again'
