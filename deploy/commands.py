"""Writes COMMANDS.md from the two programs themselves:  python -m deploy.commands

`make check` compares.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import Path

import click

from trainer.cli.exit_codes import MEANINGS as TRAINER_EXITS
from trainer.cli.main import app as trainer
from worker.cli.exit_codes import MEANINGS as WORKER_EXITS
from worker.cli.main import app as worker
from worker.cli.options import Verbs

PAGE = Path(__file__).parent / "COMMANDS.md"

OPENING = """\
# Commands

Written by `python -m deploy.commands` from the programs; do not edit. `make check` compares. Research use only; not a
medical device.

After `make screen` the programs are `.venv/bin/worker` and `.venv/bin/trainer` (`. .venv/bin/activate` puts both on the
path). `trainer` needs `make .venv/dev.stamp` first, which installs TensorFlow. Every verb prints its help with `-h`.
"""

EXITS_OF_WATCHERS = "`worker run` and `worker watch` end with 0 on SIGTERM and on Ctrl-C.\n"


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join(
        [
            OPENING,
            *program("worker", worker, WORKER_EXITS),
            EXITS_OF_WATCHERS,
            *verbs("worker", worker),
            *program("trainer", trainer, TRAINER_EXITS),
            *verbs("trainer", trainer),
        ]
    )


def program(name: str, group: click.Group, exits: dict[IntEnum, str]) -> Iterator[str]:
    """What the program does, its verbs in one table, and its exit codes."""
    yield f"## {name}\n"
    yield f"{described(group)}\n"
    sections = group.sections if isinstance(group, Verbs) and group.sections else {"verb": group.commands.values()}
    for heading, commands in sections.items():
        yield f"| {heading} | what it does |\n|---|---|"
        for words, command in leaves(name, commands):
            first, _, _ = described(command).partition("\n")
            yield f"| [`{words}`](#{words.replace(' ', '-')}) | {cell(first)} |"
        yield ""
    yield "| exit code | when |\n|---|---|"
    yield from (f"| {int(code)} | {cell(meaning)} |" for code, meaning in exits.items())
    yield ""


def verbs(name: str, group: click.Group) -> Iterator[str]:
    """Each verb: how it is called, what it does, its options."""
    for words, command in leaves(name, group.commands.values()):
        context = click.Context(command, info_name=words)
        yield f"### {words}\n"
        yield f"    {' '.join([words, *command.collect_usage_pieces(context)])}\n"
        yield f"{described(command)}\n"
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        if options:
            yield "| option | meaning |\n|---|---|"
        for option in options:
            names, meaning = option.get_help_record(context) or ("", "")
            yield f"| `{cell(names)}` | {cell(meaning)} |"
        yield ""


def leaves(before: str, commands: Iterable[click.Command]) -> Iterator[tuple[str, click.Command]]:
    """Every verb with the words that call it, in the program's order."""
    for command in commands:
        words = f"{before} {command.name}"
        if isinstance(command, click.Group):
            yield from leaves(words, command.commands.values())
        else:
            yield words, command


def described(command: click.Command) -> str:
    """A command's help: each paragraph one line."""
    paragraphs = (command.help or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def cell(words: str) -> str:
    """Words for a cell of a Markdown table."""
    return " ".join(words.replace("|", "\\|").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
