"""The errors a user can cause. The command line prints each as one line and exits with its code."""


class UserError(Exception):
    """A mistake in what was asked: says the rule, what was given, and what to do. Exit code 2."""

    exit_code = 2


class Diverged(UserError):
    """The loss or a parameter stopped being finite in training. Exit code 2."""


class Stopped(Exception):
    """The run was asked to stop, has saved its state, and resumes by the same command. Exit code 75."""

    exit_code = 75
