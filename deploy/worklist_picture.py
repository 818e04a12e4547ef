"""Draws what `worker worklist` prints as an SVG picture:  SCREENING_HOME=FOLDER python -m deploy.worklist_picture

Run `make screen` first: the picture shows the list of the state folder in force.
"""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import click
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

PICTURE = Path(__file__).parent / "pictures" / "worklist.svg"

#: rich's own, without the fonts that it would load from the network.
SVG = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
  line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
<rect width="{terminal_width}" height="{terminal_height}" rx="8" fill="#1b1b1b"/>
<g transform="translate(8, 4)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def printed() -> Text:
    """What the program prints, with its colours."""
    command = [sys.executable, "-m", "worker", "worklist"]
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode != 0:
        sys.exit(f"`worker worklist` ended with {ended.returncode}: {ended.stderr.strip()}")
    return Text.from_ansi("\n".join(line.rstrip() for line in ended.stdout.rstrip().splitlines()))


@click.command()
@click.option("--out", default=PICTURE, type=click.Path(dir_okay=False, path_type=Path), help="The SVG file.")
def main(out: Path) -> None:
    """Draw it."""
    list_ = printed()
    width = max(len(line) for line in list_.plain.splitlines()) + 2
    console = Console(record=True, width=width, file=StringIO(), force_terminal=True)
    console.print(list_, "\n")  # a line of room at the bottom
    console.save_svg(str(out), title="", theme=DIMMED_MONOKAI, code_format=SVG, unique_id="worklist")


if __name__ == "__main__":
    main()
