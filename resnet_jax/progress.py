"""How long work says how far it is: `progress(what, done, total)`. The command line draws it."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Says nothing."""
