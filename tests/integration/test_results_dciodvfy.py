"""What dciodvfy, dsr2html and dsrdump say of each kind of object, for each verdict and each kind of source."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from pydicom import dcmread

from schema.setting_values import ReportClass, Retract
from tests.ledger import Ledger, image
from tests.sent_results import SOURCES, STUDY, bring, overlay_in_store, screen, sent
from worker.ledger.decisions import requeue
from worker.ledger.screening import claims

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dicom3tools here"),
    pytest.mark.parametrize("kind", ["sqlite"]),
]


@pytest.fixture
def outbox(desk: Ledger, tmp_path: Path) -> Path:
    folder = tmp_path / "outbox"
    desk.settings = attrs.evolve(desk.settings, send=f"{folder}/")
    return folder


@pytest.mark.parametrize("probability", [0.9, 0.1, None])
@pytest.mark.parametrize("report_class", list(ReportClass))
@pytest.mark.parametrize("source", [*SOURCES, "named"])
def test_dciodvfy_finds_nothing(
    desk: Ledger, outbox: Path, probability: float | None, report_class: ReportClass, source: str
) -> None:
    desk.settings = attrs.evolve(
        desk.settings, report_class=report_class, retract=Retract.IOCM, results="report,overlay"
    )
    elements = {
        "PatientName": "Doe^Jane", "PatientID": "P", "PatientBirthDate": "20200101", "PatientSex": "F",
        "StudyDate": "20260101", "StudyTime": "0101", "StudyID": "1", "AccessionNumber": "A",
    } if source == "named" else SOURCES[source]  # fmt: skip
    for number in (1, 2):
        bring(desk, number, **elements)
        if probability is None:
            screen(desk, 0.1, headers=[image(STUDY, view="LATERAL"), image(STUDY, view="LATERAL")])
        else:
            screen(desk, probability)
        overlay_in_store(desk)
        sent(desk, outbox)
    assert len(list(outbox.glob("*.dcm"))) == 3 + 2 * (probability is not None)
    assert_valid(outbox)


def fail(desk: Ledger, **elements: Any) -> None:
    bring(desk, **elements)
    desk.clock.forward(hours=1)
    claims.fail(desk.database, desk.claim(STUDY), "unexpected_error", "", desk.clock(), desk.settings)


def conflict(desk: Ledger, **elements: Any) -> None:
    bring(desk, 1, **elements | {"PatientID": "P1"})
    bring(desk, 2, **elements | {"PatientID": "P2"})
    screen(desk, 0.9)


def prove_ineligible(desk: Ledger, **elements: Any) -> None:
    bring(desk, **elements)
    screen(desk, 0.9)
    requeue(desk.database, STUDY, desk.settings, desk.clock())
    screen(desk, 0.9, headers=[image(STUDY, body_part="HIP")])


@pytest.mark.parametrize(("ends", "reports"), [(fail, 1), (conflict, 1), (prove_ineligible, 2)])
@pytest.mark.parametrize("source", SOURCES)
def test_dciodvfy_finds_nothing_in_what_could_not_be_screened(
    desk: Ledger, outbox: Path, source: str, ends: Callable[..., None], reports: int
) -> None:
    ends(desk, **SOURCES[source])
    assert len(sent(desk, outbox)) == reports
    assert_valid(outbox)


def assert_valid(outbox: Path) -> None:
    """What dciodvfy says of each object in the outbox is listed; dsr2html reads each report."""
    for path in outbox.glob("*.dcm"):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
        assert unlisted(said.stdout + said.stderr) == []
        if dcmread(path).Modality == "OT":
            continue
        page = subprocess.run(["dsr2html", str(path)], capture_output=True, text=True, errors="replace", check=False)
        assert page.returncode == 0, page.stderr


#: What dciodvfy takes an object for: the first thing that it says.
KINDS = {"Comprehensive3DSR", "EnhancedSR", "KeyObjectSelectionDocument", "SCImage"}

#: Warnings that are known, each with its reason in deploy/CONFORMANCE.md.
KNOWN = (
    "Retired Person Name form",
    "Missing attribute or value that would be needed to build DICOMDIR",
    "Attribute is not present in standard DICOM IOD - (0x0018,0x9004)",
)


def unlisted(said: str) -> list[str]:
    """What dciodvfy says beyond what is known."""
    lines = [line for line in said.splitlines() if line.strip() and line.strip() not in KINDS]
    return [line for line in lines if not any(word in line for word in KNOWN)]
