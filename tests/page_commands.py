"""The commands of the pages: which a test runs, and which it does not, with the reason that the page states.

A comment above a block of commands says what is not run of it:

    <!-- not run: REASON -->              nothing of it
    <!-- not run (PREFIX): REASON -->     the lines that begin so
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Made from the programs: usage lines, which nobody types.
GENERATED = ROOT / "deploy" / "COMMANDS.md"

PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if page != GENERATED and not {".venv", "build", "runs", "shared", "node_modules"} & set(page.parts)
]

MARK = re.compile(r"^<!-- not run(?: \((?P<prefix>[^)]+)\))?: (?P<reason>.+) -->$")
FENCE = re.compile(r"^```(\w*)$")

#: Languages of blocks that hold no commands of a shell; queries have tests of their own.
OTHER_LANGUAGES = ("sql", "python", "json", "yaml", "toml", "text", "lua")


@dataclass(frozen=True)
class Block:
    """A block of commands of a page."""

    page: Path
    line: int  #: its first line, counted from 1
    commands: tuple[str, ...]  #: continued lines joined
    marks: tuple[tuple[str, str], ...]  #: (prefix, reason); an empty prefix: the whole block

    @property
    def runs(self) -> list[str]:
        """The commands that a test runs."""
        return [c for c in self.commands if not any(c.startswith(prefix) for prefix, _ in self.marks)]

    @property
    def idle_marks(self) -> list[str]:
        """Prefixes of marks that meet no command."""
        return [prefix for prefix, _ in self.marks if not any(c.startswith(prefix) for c in self.commands)]


def blocks(page: Path) -> list[Block]:
    """Every block of commands: fenced, or indented by four spaces after an empty line."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    marks: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        line, begin = lines[at], at
        if mark := MARK.match(line.strip()):
            marks.append((mark["prefix"] or "", mark["reason"]))
        elif fence := FENCE.match(line):
            at = lines.index("```", at + 1)
            if fence[1] not in OTHER_LANGUAGES:
                found.append(_block(page, begin + 1, lines[begin + 1 : at], marks))
            marks = []
        elif line.startswith("    ") and at and not lines[at - 1].strip():
            while at + 1 < len(lines) and (lines[at + 1].startswith("    ") or not lines[at + 1].strip()):
                at += 1
            found.append(_block(page, begin, [inner[4:] for inner in lines[begin : at + 1]], marks))
            marks = []
        elif line.strip():
            marks = []
        at += 1
    return found


def _block(page: Path, line: int, lines: list[str], marks: list[tuple[str, str]]) -> Block:
    whole = "\n".join(lines)
    commands: list[str] = []
    for one in re.sub(r"\\\n\s*", " ", whole).splitlines():
        is_quote_open = commands and re.sub(r"\s#.*", "", commands[-1]).count("'") % 2
        if commands and (is_quote_open or one.startswith((" ", "\t", "done", "}"))):  # a loop, or a quote that goes on
            commands[-1] += f"\n{one}"
        elif one.strip() and not one.startswith("#"):
            commands.append(one)
    return Block(page, line + 1, tuple(commands), tuple(marks))
