"""The worklist on terminals of every width: place, verdict and reason never yield, and names are cut in the middle."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.cli.study_page import print_study, sentence
from worker.cli.tables import console, print_table
from worker.cli.worklist_table import UNLIKE, cut, explained, print_worklist
from worker.worklist.unread_list import WorklistEntry

LONG = "1.2.392.200036.9125.9.0.1251627530.1234567890.3344556677_PA_CHEST_PORTABLE_20260302_081500.dcm"

ENTRY = WorklistEntry(
    place=1, band=3, study_uid="1.2.826.0.1.3680043.10.7.123456", accession_number="ACC-2026-000123",
    patient_id="PAT-000000123", study_date="20260302", age_years=4.5, state="screened", verdict="flagged",
    probability=0.93, threshold=0.3, reason="at_or_above_threshold", verdict_reason="at_or_above_threshold",
    verdict_detail="", conflict=None, failure_code=None, priority="routine", sources=[f"/inbox/{LONG}"], heatmap=None,
    received_at=datetime.now(UTC), screened_at=None, model_digest="a" * 64, review_outcome=None, review_reader=None,
    review_withdrawn=None,
)  # fmt: skip


@pytest.fixture
def width() -> Iterator[Any]:
    """Sets the width of the terminal for one test."""
    before = console.width

    def of(columns: int) -> None:
        console.width = columns

    yield of
    console.width = before


@pytest.mark.parametrize("columns", [80, 100, 132, 200])
def test_nothing_that_matters_yields_to_a_long_name(
    columns: int, width: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    width(columns)
    print_worklist([ENTRY, replace(ENTRY, place=2, sources=["/inbox/short.dcm"])], 2)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    for words in ("at or above threshold", "flagged", "0.930", "PAT-000000123", "4 y", "2026-03-02", "ACC-2026-000123"):
        assert words in shown, words
    assert "1.2.3" in shown, "the name's beginning"
    assert "00.dcm" in shown, "and its end"
    assert "short.dcm" in shown
    assert [line.split()[0] for line in shown.splitlines() if "flagged" in line] == ["1", "2"]


def test_where_identifiers_are_not_plain_they_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_worklist([ENTRY], 1, shows_identifiers=False)
    shown = capsys.readouterr().out
    assert "PAT-000000123" not in shown
    assert "2026-03-02" not in shown


@pytest.mark.parametrize("columns", ["80", "100", "150"])
def test_what_is_piped_follows_columns(columns: str) -> None:
    program = "from worker.cli.tables import console; console.print('x ' * 300)"
    environment = {**os.environ, "COLUMNS": columns}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(columns) - 2 <= max(len(line.rstrip()) for line in done.stdout.splitlines()) <= int(columns)


def test_a_name_is_cut_in_its_middle() -> None:
    assert cut("short.dcm", 9) == "short.dcm"
    assert cut("abcdefghij.dcm", 9) == "abcd….dcm"
    assert len(cut(LONG, 20)) == 20


def test_a_flag_on_an_image_unlike_those_of_the_model_is_marked() -> None:
    unlike = replace(ENTRY, verdict_detail="familiarity 2.100 beyond the limit of 1.338")
    assert explained(unlike) == f"at or above threshold, {UNLIKE}"
    assert UNLIKE not in explained(ENTRY)
    strange = replace(unlike, verdict="unscreenable", reason="unfamiliar", verdict_reason="unfamiliar")
    assert explained(strange) == f"unfamiliar, {UNLIKE}"


def test_a_flag_on_an_image_outside_the_population_is_marked() -> None:
    older = replace(ENTRY, age_years=64.5, verdict_detail="age 64 years")
    assert explained(older) == "at or above threshold, outside the model's population"
    both = replace(older, verdict_detail="age 64 years; familiarity 2.100 beyond the limit of 1.338")
    assert explained(both) == f"at or above threshold, outside the model's population, {UNLIKE}"
    excluded = replace(older, verdict="unscreenable", reason="outside_population", verdict_reason="outside_population")
    assert explained(excluded) == "outside population, age 64 years"


SCREENING: dict[str, Any] = {
    "id": 1, "verdict": "flagged", "reason": "at_or_above_threshold", "detail": "", "probability": 0.93,
    "threshold": 0.2978, "model_digest": "c042274a1511" + "0" * 52,
    "model": {"name": "house", "sensitivity": {"value": 0.9866, "n": 298}, "familiarity_limit": 1.338},
}  # fmt: skip

STUDY: dict[str, Any] = {
    "study_uid": "1.2.3", "patient_id": "P-1", "study_date": "20260302", "accession_number": "A-1",
    "current_screening_id": 1, "screenings": [SCREENING], "images": [], "files": [], "priorities": [], "reviews": [],
    "reason": "at_or_above_threshold", "state": "screened", "priority": "routine", "read_at": None,
    "received_at": "2026-03-02T08:00:00+00:00",
}  # fmt: skip


def test_the_names_of_settings_are_printed_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 80)
    name = "SCREENING_WEB_RETURN_ADDRESS_OF_ALL"
    print_table("Settings", ("environment", "value", "meaning"), [(name, "§" * 60, "m " * 60)], whole="environment")
    shown = capsys.readouterr().out
    assert name in shown
    assert shown.count("§") == 60, "the value is divided, and nothing of it is left out"


def test_a_flag_says_how_sure_it_is() -> None:
    assert sentence(SCREENING) == (
        "probability 0.93, flagged from 0.30 on (model house c042274a1511,"
        " sensitivity 0.987 on 298 pneumonias that chose its threshold)"
    )
    assert "probability 0.999," in sentence({**SCREENING, "probability": 0.9991})


def test_a_study_is_shown_to_people_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_study(STUDY)
    shown = capsys.readouterr().out
    assert "patient P-1, study of 2026-03-02, accession number A-1" in shown
    assert "familiarity: like the images this model was made from" in shown
    assert "nobody has read it" in shown
    unlike = {**SCREENING, "detail": "familiarity 2.100 beyond the limit of 1.338"}
    older = {**SCREENING, "detail": "age 64 years; familiarity 2.100 beyond the limit of 1.338"}
    print_study({**STUDY, "screenings": [older]})
    assert f"outside the model's population (age 64 years), {UNLIKE} (familiarity 2.100" in capsys.readouterr().out
    review = {"outcome": "pneumonia", "reader": "Dr A", "reviewed_at": "2026-03-02T09:00:00+00:00", "comment": None}
    other = {**review, "outcome": "no_pneumonia", "reader": "Dr B"}
    print_study({**STUDY, "screenings": [unlike], "reviews": [review, other]}, shows_identifiers=False)
    shown = capsys.readouterr().out
    assert f"flagged: at or above threshold, {UNLIKE} (familiarity 2.100" in shown
    assert "read: no pneumonia, by Dr B, 2026-03-02 09:00 UTC" in shown
    assert "the readers CONTRADICT each other" in shown
    assert "P-1" not in shown
    withdrawn = {**other, "withdrawn_by": "Dr B", "withdrawn_because": "wrong patient"}
    print_study({**STUDY, "reviews": [review, withdrawn]})
    shown = capsys.readouterr().out
    assert "WITHDRAWN by Dr B: wrong patient" in shown
    assert "CONTRADICT" not in shown
