"""The pages name files, sections and commands that are there, queries that answer, and numbers that were measured."""

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import Reason
from tests.benchmarks.measures import RESULTS
from trainer.cli.main import app as trainer
from worker.cli.main import app as worker
from worker.settings import DEFAULT_MODEL

ROOT = Path(__file__).parents[2]
PAGES = [page for page in sorted(ROOT.rglob("*.md")) if not {".venv", "build", "runs"} & set(page.parts)]
PROGRAMS: dict[str, click.Command] = {"worker": worker, "trainer": trainer}

#: Usage lines, made from the programs themselves.
GENERATED = ROOT / "deploy" / "COMMANDS.md"

README, MODEL_PAGE = ROOT / "README.md", ROOT / "trainer" / "MODEL.md"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_section(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    rooms = "worker|trainer|schema|tests|deploy|docker"
    named = re.findall(rf"`((?:{rooms})/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_what_the_table_of_places_names_is_in_the_files_of_its_row() -> None:
    page = (ROOT / "deploy" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+ \|$", page.split("## Where is what\n")[1].split("\n## ")[0], re.MULTILINE)[2:]
    assert len(rows) > 10
    for row in rows:
        words = re.findall(r"`([\w./]+)`", row)
        files = [ROOT / word for word in words if word.count("/")]
        beside = [files[0].with_name(word) for word in words if re.fullmatch(r"\w+\.py", word)]
        code = "\n".join(file.read_text(encoding="utf-8") for file in [*files, *beside])
        named = [word.rpartition(".")[2] for word in words if "/" not in word and not word.endswith(".py")]
        assert [
            name for name in named if not re.search(rf"\b{name.removeprefix('SCREENING_')}\b", code, re.IGNORECASE)
        ] == []


def commands(page: Path) -> list[str]:
    """Every call of our programs in the code blocks of a page, continued lines joined."""
    whole = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", whole, re.DOTALL) + re.findall(r"(?:^ {4}.*\n?)+", whole, re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith(tuple(f"{name} " for name in PROGRAMS))]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=f"{name_of(page)}: {line}")
        for page in PAGES
        if page != GENERATED
        for line in commands(page)
    ],
)
def test_every_command_is_one_that_the_programs_take(line: str) -> None:
    for part in re.split(r"\|\||&&|;| > ", line):  # `[...]` marks what may be left out: all of it is tried
        words = shlex.split(re.sub(r"[\[\]]", "", part).replace(" | ", " "), comments=True)
        if not words or words[0] not in PROGRAMS:
            continue
        command, rest = PROGRAMS[words[0]], words[1:]
        while isinstance(command, click.Group):
            command = command.commands[rest.pop(0)]
        command.make_parser(click.Context(command)).parse_args(rest)


@pytest.mark.parametrize("page", [page for page in PAGES if page != GENERATED], ids=name_of)
def test_the_verbs_and_options_in_running_text_are_there(page: Path) -> None:
    said = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in re.findall(rf"`((?:{'|'.join(PROGRAMS)}) [^`\n]+)`", said):
        words = re.sub(r"[\[\]]", "", line).split()
        command, rest = PROGRAMS[words[0]], words[1:]
        while isinstance(command, click.Group) and rest and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        if rest and isinstance(command, click.Group):
            assert rest[0] == "..." or rest[0].startswith("--"), f"{line}: no such verb"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_unit_that_is_named_is_one_that_the_page_installs(page: Path) -> None:
    install = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    units = set(re.findall(r"/etc/systemd/system/([\w-]+)\.(?:service|timer)", install))
    named = re.findall(
        r"(?:journalctl (?:-u|--unit)|systemctl (?:edit|stop|start|restart|status|enable --now)) ([\w-]+)",
        page.read_text(encoding="utf-8"),
    )
    assert set(named) <= units


def test_every_query_answers(database: Database) -> None:
    """Those that read; the ones of SECURITY.md that delete have a test of their own."""
    queries = [
        query
        for page in PAGES
        for query in re.findall(r"```sql\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        if "DELETE" not in query
    ]
    assert len(queries) == 4
    for query in queries:
        with database.reading() as connection:
            assert connection.execute(text(query)).all() == []


def result(name: str) -> Any:
    """A result file that was measured on the model that ships."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert found["model_digest"] == hashlib.sha256(DEFAULT_MODEL.read_bytes()).hexdigest(), name
    return found


@pytest.mark.parametrize("page", [README, MODEL_PAGE], ids=name_of)
def test_the_external_numbers_are_those_of_the_model_that_ships(page: Path) -> None:
    found = result("trainer_efficientnet_lite0_lungs_external_choose")
    cells = [
        "{value:.3f} [{low:.3f}, {high:.3f}]".format(**found["metrics"][name])
        for name in ("auc", "sensitivity", "specificity")
    ]
    normal = found["n"] - found["positives"]
    row = next(line for line in page.read_text(encoding="utf-8").splitlines() if f"these, {found['n']} " in line)
    assert f"{found['positives']} " in row
    assert f"{normal} normal | {' | '.join(cells)} |" in row
    assert f"({found['threshold']})" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("reason", list(Reason))
def test_readers_find_every_reason_in_words(reason: Reason) -> None:
    page = (ROOT / "deploy" / "READING.md").read_text(encoding="utf-8")
    told = {words.strip() for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for words in row.split(",")}
    assert reason.replace("_", " ") in told


def test_what_is_said_of_unfamiliar_adults_was_measured_on_the_model_that_ships() -> None:
    found = result("trainer_efficientnet_lite0_lungs_familiarity_adults")
    pa, ap = (found["kinds"][f"NIH adults, {view}"] for view in ("PA", "AP"))
    said = " and ".join(
        f"{kind['count_outside']} of {kind['outside']['n']} {view}" for kind, view in ((pa, "PA"), (ap, "AP"))
    )
    assert f"NIH adults: {said}" in MODEL_PAGE.read_text(encoding="utf-8")
