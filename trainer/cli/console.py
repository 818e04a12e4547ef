"""Tables on a terminal, or in a file or pipe: no number is cut off, and names of files and places are no markup."""

import os
import shutil
import sys

from rich.console import Console
from rich.table import Table

#: Columns of output to a file or a program.
PIPED_WIDTH = 132


def new_table(*columns: str, title: str | None = None) -> Table:
    """An empty table with these columns; a cell that is too wide goes on in a further line."""
    made = Table(title=title)
    for name in columns:
        made.add_column(name, overflow="fold")
    return made


def print_table(made: Table) -> None:
    """Print a table, as wide as the terminal or the variable COLUMNS says."""
    is_known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    width = shutil.get_terminal_size().columns if is_known else PIPED_WIDTH
    Console(markup=False, highlight=False, emoji=False, width=width).print(made)
