"""Text from senders is printed as text: no escape sequence, no line break, no right-to-left marks."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from worker.cli.study_page import print_study
from worker.cli.tables import print_quarantine
from worker.cli.worklist_table import print_worklist
from worker.worklist.quarantined_files import QuarantinedFile
from worker.worklist.unread_list import WorklistEntry

NOW = datetime.now(UTC)
NASTY = "\x1b[2J\x1b[31m[red]a\nb\r\u202edcm\x07.dcm"
SHOWN = r"\x1b[2J\x1b[31m[red]a\nb\r\u202edcm\x07.dcm"


def assert_is_tame(printed: str) -> None:
    assert all(c.isprintable() for c in printed.replace("\n", ""))
    assert "[red]" in printed, "no markup either"


def test_the_worklist(capsys: pytest.CaptureFixture[str]) -> None:
    entry = WorklistEntry(
        place=1, band=7, study_uid="1.2.3", accession_number=NASTY, patient_id=NASTY, study_date=NASTY,
        age_years=3.0, review_outcome="uncertain", review_reader=NASTY, review_withdrawn=NASTY, state="screened",
        verdict="ineligible", probability=None, threshold=0.5, reason="other_body_part",
        verdict_reason="other_body_part", verdict_detail=NASTY, conflict=None, failure_code=None, priority="routine",
        sources=[f"/inbox/{NASTY}"], heatmap=None, received_at=NOW, screened_at=NOW, model_digest=None,
    )  # fmt: skip
    print_worklist([entry], 1)
    assert_is_tame(capsys.readouterr().out)


def test_the_quarantine_and_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(Path("/inbox") / NASTY)
    print_quarantine([QuarantinedFile(path, "not_an_image", "send another", NOW, 1, None, None)])
    printed = capsys.readouterr().out
    assert_is_tame(printed)
    assert SHOWN in printed
    lists = {"images": [], "screenings": [], "files": [{"path": path}], "reviews": [], "priorities": []}
    print_study({"study_uid": "1.2.3", "accession_number": NASTY, "failure_detail": "one\ntwo", **lists})
    printed = capsys.readouterr().out
    assert_is_tame(printed)
    assert printed.count(SHOWN) == 2
    assert "one\ntwo" in printed, "a traceback keeps its lines"
