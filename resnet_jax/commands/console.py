"""Where commands print."""

import sys

from rich.console import Console

# Where there is no terminal a table keeps its lines whole, up to this width.
console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 120)
