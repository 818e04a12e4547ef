"""Results reach an archive: one report for each result, the same object however often it is sent, and never a lie."""

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from highdicom.sr import CodedConcept, Comprehensive3DSR
from pydicom.dataset import Dataset
from sqlalchemy import text

from schema.setting_values import (
    ReportClass,
    Retract,
    SendVerdicts,
    Silent,
)
from schema.vocabulary import DispatchKind, DispatchState
from tests.ledger import STUDY as LEDGER_STUDY
from tests.ledger import Ledger, card, image
from tests.receiver import receiving, send
from tests.sent_results import (
    SOURCES,
    STUDY,
    ArchiveOfTest,
    bring,
    overlay_in_store,
    screen,
    sender_of,
    sent,
    to_archive,
    written,
)
from worker.dicom.send.composer import Composer
from worker.dicom.send.sender import Sender
from worker.inference.prediction import Prediction
from worker.ledger.decisions import requeue
from worker.ledger.dispatch import dispatches, undelivered
from worker.ledger.dispatch.dispatches import Due
from worker.ledger.screening import claims, verdicts
from worker.ledger.screening.results import ModelUse, Result
from worker.monitoring import result_delivery
from worker.monitoring.result_delivery import check_sending
from worker.screening.rules import ImageOutcome, decide, eligible

sqlite = pytest.mark.parametrize("kind", ["sqlite"])


def rows(desk: Ledger) -> list[tuple[str, str]]:
    with desk.database.reading() as connection:
        return [(row.kind, row.state) for row in connection.execute(text("SELECT * FROM dispatch ORDER BY id"))]


@pytest.fixture
def outbox(desk: Ledger, tmp_path: Path) -> Path:
    folder = tmp_path / "outbox"
    desk.settings = attrs.evolve(desk.settings, send=f"{folder}/")
    return folder


def items(ds: Dataset) -> dict[str, Any]:
    """The content items of the measurement group, by their meaning."""
    (group,) = Comprehensive3DSR.from_dataset(ds).content.get_image_measurement_groups()
    found: dict[str, Any] = {"group": group}
    for item in group[0].ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "NUM":
            found[name] = float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "CODE":
            found.setdefault(name, []).append(item.ConceptCodeSequence[0].CodeMeaning)
        elif item.ValueType == "TEXT":
            found.setdefault(name, []).append(str(item.TextValue))
    return found


def test_a_flagged_study_is_reported_as_suspected_and_a_negative_never_as_absent(desk: Ledger, outbox: Path) -> None:
    bring(desk, PatientName="Yamada^Taro", PatientID="P7")
    screen(desk, 0.75)
    (flagged,) = sent(desk, outbox)
    found = items(flagged)
    assert (found["Probability"], found["CAD Operating Point"]) == (0.75, 0.5)
    assert found["Finding"] == ["Pneumonia", "Suspected"]
    assert "not a diagnosis" in found["Comment"][0]
    assert (flagged.PatientName, flagged.PatientID, flagged.StudyInstanceUID) == ("Yamada^Taro", "P7", STUDY)
    assert (flagged.CompletionFlag, flagged.VerificationFlag, flagged.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert flagged.ContentQualification == "RESEARCH"
    bring(desk, study_uid=f"{STUDY}.8")
    screen(desk, 0.1, study_uid=f"{STUDY}.8")
    negative = next(ds for ds in sent(desk, outbox) if f"{STUDY}.8" == ds.StudyInstanceUID)
    found = items(negative)
    assert found["Finding"] == ["Pneumonia"]
    assert found["Comment"] == [
        "below the operating point; this does not say that pneumonia is absent; RESEARCH USE ONLY"
    ]
    assert "Absent" not in str(negative)


@sqlite
def test_every_image_that_was_looked_at_is_evidence_and_named(desk: Ledger, outbox: Path) -> None:
    uids = {bring(desk, 1), bring(desk, 2)}
    screen(desk, 0.2, 0.7)
    (ds,) = sent(desk, outbox)
    named = {uid for *_, uid, _ in Comprehensive3DSR.from_dataset(ds).get_evidence()}
    assert named == uids
    assert {img.referenced_sop_instance_uid for img in items(ds)["group"].source_images} == uids


@sqlite
def test_what_could_not_be_screened_is_reported_without_a_number(desk: Ledger, outbox: Path) -> None:
    bring(desk)
    desk.clock.forward(hours=1)
    claims.fail(desk.database, desk.claim(STUDY), "unexpected_error", "", desk.clock(), desk.settings)
    (failed,) = sent(desk, outbox)
    found = items(failed)
    assert "Probability" not in found
    assert found["Comment"] == ["could not be screened: unexpected error; RESEARCH USE ONLY"]
    desk.settings = attrs.evolve(desk.settings, max_attempts=1)
    bring(desk, study_uid=f"{STUDY}.8")
    desk.clock.forward(hours=1)
    desk.claim(f"{STUDY}.8")
    desk.clock.forward(hours=1)
    claims.take_back_lapsed(desk.database, desk.settings, desk.clock())
    assert len(sent(desk, outbox)) == 2


@sqlite
def test_a_conflict_is_reported_with_its_reason_and_without_the_number_it_has(desk: Ledger, outbox: Path) -> None:
    bring(desk, 1, PatientID="P1")
    bring(desk, 2, PatientID="P2")
    screen(desk, 0.9)
    (ds,) = sent(desk, outbox)
    assert items(ds)["Comment"] == ["could not be screened: two patients; RESEARCH USE ONLY"]
    assert "Probability" not in items(ds)


@sqlite
def test_an_unscreenable_study_names_its_reason(desk: Ledger, outbox: Path) -> None:
    bring(desk)
    screen(desk, 0.2, headers=[image(STUDY, view="LATERAL")])
    (ds,) = sent(desk, outbox)
    assert items(ds)["Comment"] == ["unscreenable: not frontal; RESEARCH USE ONLY"]
    assert "Probability" not in items(ds)


@sqlite
@pytest.mark.parametrize("probability", [0.9, 0.1, None])
@pytest.mark.parametrize("source", SOURCES)
def test_highdicom_reads_back_what_was_said_of_each_kind_of_source(
    desk: Ledger, outbox: Path, source: str, probability: float | None
) -> None:
    uid = bring(desk, **SOURCES[source])
    headers = [image(STUDY, view="LATERAL")] if probability is None else []
    screen(desk, probability or 0.2, headers=headers)
    (ds,) = sent(desk, outbox)
    found = items(ds)
    assert found.get("Probability") == probability
    assert found.get("CAD Operating Point") == (None if probability is None else 0.5)
    assert ("Suspected" in found["Finding"]) is (probability == 0.9)
    (evidence,) = Comprehensive3DSR.from_dataset(ds).get_evidence()
    sop_class = SOURCES[source].get("SOPClassUID", "1.2.840.10008.5.1.4.1.1.1.1")
    assert evidence[2:] == (uid, sop_class)
    assert str(ds.PatientName) == SOURCES[source].get("PatientName", "")
    if shutil.which("dsrdump"):
        read = subprocess.run(["dsrdump", next(outbox.glob("*.dcm"))], capture_output=True, check=False)
        assert (read.returncode, b"error" in read.stderr.lower()) == (0, False), read.stderr


@sqlite
def test_a_study_that_holds_no_chest_radiograph_after_all_replaces_what_was_sent_by_what_is_true(
    desk: Ledger, outbox: Path
) -> None:
    bring(desk)
    screen(desk, 0.9)
    (flagged,) = sent(desk, outbox)
    requeue(desk.database, STUDY, desk.settings, desk.clock())
    screen(desk, 0.9, headers=[image(STUDY, body_part="HIP")])
    assert desk.entry(STUDY).verdict == "ineligible"
    (ds,) = [ds for ds in sent(desk, outbox) if flagged.SOPInstanceUID != ds.SOPInstanceUID]
    found = items(ds)
    (comment,) = found["Comment"]
    assert comment.startswith("no chest radiograph to screen in this study; an earlier result does not hold any more: ")
    assert "unscreenable" not in comment
    assert {"Probability", "CAD Operating Point"}.isdisjoint(found)
    assert found["Finding"] == ["Pneumonia"]
    assert [code.meaning for code in procedures(ds)] == ["Imaging procedure"]  # and no chest X-ray
    (study,) = ds.PredecessorDocumentsSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == flagged.SOPInstanceUID


def procedures(ds: Dataset) -> list[Any]:
    """The codes of Procedure Reported."""
    found = [i for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121058"]
    return [CodedConcept.from_dataset(item.ConceptCodeSequence[0]) for item in found]


@sqlite
def test_what_a_shadow_model_says_is_sent_nowhere(desk: Ledger, outbox: Path) -> None:
    bring(desk)
    desk.clock.forward(hours=1)
    held = desk.claim(STUDY)
    assert desk.record(held, 0.1)
    shadow = ModelUse("b" * 64, card(), "CPUExecutionProvider")
    outcome = ImageOutcome(image(STUDY), eligible(image(STUDY)), Prediction(0.9, np.full((2, 3), 0.5, np.float32), 1.5))
    said = Result(held, decide([outcome], shadow.card), [outcome], [None], shadow, 1.0, desk.times)
    assert verdicts.record_shadows(desk.database, [said], desk.model.digest, desk.clock()) == [True]
    assert desk.count("screening") == 2
    (ds,) = sent(desk, outbox)
    assert items(ds)["Probability"] == 0.1


@sqlite
def test_a_study_that_never_held_a_chest_radiograph_is_sent_nowhere(desk: Ledger, outbox: Path) -> None:
    bring(desk)
    screen(desk, 0.9, headers=[image(STUDY, body_part="HIP")])
    assert (rows(desk), outbox.exists()) == ([], False)


@sqlite
@pytest.mark.usefixtures("outbox")
def test_a_raster_has_no_patient_and_is_sent_nowhere(desk: Ledger) -> None:
    desk.receive()
    with desk.database.writing() as session:
        session.execute(text("UPDATE instance SET container = 'raster'"))
    screen(desk, 0.9, study_uid=LEDGER_STUDY)
    assert (desk.entry(LEDGER_STUDY).verdict, rows(desk)) == ("flagged", [])


@sqlite
@pytest.mark.parametrize(
    ("changes", "probability", "count"),
    [
        ({"send": ""}, 0.9, 0),
        ({"silent": Silent.ON}, 0.9, 0),
        ({"send_verdicts": SendVerdicts.FLAGGED}, 0.9, 1),
        ({"send_verdicts": SendVerdicts.FLAGGED}, 0.1, 0),
        ({}, 0.1, 1),
    ],
)
def test_nothing_is_sent_but_what_the_settings_ask_for(
    desk: Ledger, outbox: Path, changes: dict[str, Any], probability: float, count: int
) -> None:
    desk.settings = attrs.evolve(desk.settings, **changes)
    bring(desk)
    screen(desk, probability)
    assert (len(rows(desk)), outbox.exists()) == (count, False)


@sqlite
def test_a_failure_and_a_conflict_are_sent_where_only_flags_are(desk: Ledger, outbox: Path) -> None:
    """Silence would look as if they were not flagged."""
    desk.settings = attrs.evolve(desk.settings, send_verdicts=SendVerdicts.FLAGGED)
    bring(desk)
    desk.clock.forward(hours=1)
    claims.fail(desk.database, desk.claim(STUDY), "unexpected_error", "", desk.clock(), desk.settings)
    other = f"{STUDY}.2"
    bring(desk, study_uid=other)
    bring(desk, 2, other, PatientID="another")
    screen(desk, 0.1, 0.1, study_uid=other)
    assert len(sent(desk, outbox)) == 2


@sqlite
def test_a_negative_that_replaces_a_flag_is_sent_where_only_flags_are(desk: Ledger, outbox: Path) -> None:
    desk.settings = attrs.evolve(desk.settings, send_verdicts=SendVerdicts.FLAGGED)
    bring(desk)
    screen(desk, 0.9)
    assert len(sent(desk, outbox)) == 1
    bring(desk, 2)
    screen(desk, 0.1, 0.1)
    comments = sorted(items(ds)["Comment"][0] for ds in sent(desk, outbox))
    assert [comment.partition(";")[0] for comment in comments] == [
        "at or above the operating point", "below the operating point",
    ]  # fmt: skip


@sqlite
@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"PatientName": "山田^太郎", "SpecificCharacterSet": "ISO_IR 192"},
        {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "SpecificCharacterSet": ["", "ISO 2022 IR 87"]},
        {"PatientName": "Люкceмбypг", "SpecificCharacterSet": "ISO_IR 144"},
        {"PatientBirthDate": "1.1.1970", "PatientSex": "unknown", "StudyTime": "25:99", "StudyDate": "20261399"},
        {"PatientName": "<script>alert(1)</script>", "PatientID": "x\ty", "AccessionNumber": "A" * 40},
    ],
    ids=range(6),
)
@pytest.mark.parametrize("report_class", list(ReportClass))
def test_a_report_is_made_whatever_the_source_lacks_and_keeps_its_names(
    desk: Ledger, outbox: Path, elements: dict[str, Any], report_class: ReportClass
) -> None:
    desk.settings = attrs.evolve(desk.settings, report_class=report_class)
    bring(desk, **elements)
    screen(desk, 0.9)
    (ds,) = sent(desk, outbox)
    assert str(ds.PatientName) == elements.get("PatientName", str(ds.PatientName))
    assert all(keyword in ds for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"))
    assert rows(desk) == [("report", "sent")]
    if shutil.which("dsrdump"):
        read = subprocess.run(["dsrdump", next(outbox.glob("*.dcm"))], capture_output=True, check=False)
        assert (read.returncode, b"error" in read.stderr.lower()) == (0, False), read.stderr


@sqlite
def test_a_character_set_that_is_none_is_no_obstacle_and_no_line_of_the_log(
    desk: Ledger, outbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bring(desk, PatientName="Doe^Jane", SpecificCharacterSet=["ISO_IR 192", "PLANTED"])
    screen(desk, 0.9)
    while sender_of(desk).turn():
        pass
    assert rows(desk) == [("report", "sent")]
    (path,) = outbox.glob("*.dcm")
    assert b"Doe^Jane" in path.read_bytes()
    assert "PLANTED" not in caplog.text


@sqlite
def test_a_result_that_cannot_be_written_holds_up_no_other(desk: Ledger, outbox: Path) -> None:
    for study_uid in (STUDY, f"{STUDY}.8"):
        bring(desk, study_uid=study_uid)
        screen(desk, 0.9, study_uid=study_uid)
    sender = sender_of(desk)

    class Odd(Composer):
        def compose(self, due: Due) -> Dataset | None:
            made = super().compose(due)
            if made is not None and due.study_uid == STUDY:
                made.Rows = "no number"
            return made

    Sender(desk.database, Odd(*vars(sender.composer).values()), sender.destination, sender.name, desk.clock).turn()
    assert rows(desk) == [("report", "refused"), ("report", "sent")]
    assert [path.name.endswith(".dcm") for path in outbox.iterdir()] == [True]


@sqlite
def test_what_is_due_waits_while_a_run_is_silent(desk: Ledger, outbox: Path) -> None:
    bring(desk)
    screen(desk, 0.9)
    desk.settings = attrs.evolve(desk.settings, silent=Silent.ON)
    assert (sent(desk, outbox), rows(desk)) == ([], [("report", "due")])
    desk.settings = attrs.evolve(desk.settings, silent=Silent.OFF)
    assert len(sent(desk, outbox)) == 1


def test_an_archive_takes_results_and_lost_answers_make_no_second_object(desk: Ledger) -> None:
    archive = ArchiveOfTest()
    with archive.listening():
        to_archive(desk, archive)
        bring(desk)
        screen(desk, 0.9)
        archive.status = 0xA700
        assert sender_of(desk).turn() == 1
        assert rows(desk) == [("report", "due")]
        archive.status = 0x0000
        assert sender_of(desk).turn() == 0  # a minute has not passed
        desk.clock.forward(61)
        sender = sender_of(desk)  # it is killed between sending and its row
        (due,) = dispatches.take(desk.database, desk.settings.send, desk.clock())
        made = sender.composer.compose(due)
        assert made is not None
        assert [answer.state for answer in sender.destination.send([made])] == [DispatchState.SENT]
        desk.clock.forward(hours=1)
        assert sender_of(desk).turn() == 1
        assert rows(desk) == [("report", "sent")]
        assert (len(archive.objects), len(archive.uids)) == (2, 1)
        first, second = (written(ds) for ds in archive.objects)
        assert str(first) == str(second)


@pytest.mark.slow
@sqlite
def test_an_archive_that_is_away_for_days_is_tried_ever_more_rarely_and_then_given_up(desk: Ledger) -> None:
    archive = ArchiveOfTest()
    with archive.listening():
        pass  # its port is closed again
    to_archive(desk, archive)
    bring(desk)
    screen(desk, 0.9)
    began, tries = desk.clock(), 0
    while rows(desk) == [("report", "due")]:
        tries += sender_of(desk).turn()
        desk.clock.forward(30 * 60)
    assert rows(desk) == [("report", "given_up")]
    assert timedelta(days=3) <= desk.clock() - began < timedelta(days=3, hours=2)
    assert 70 < tries < 85
    (stuck,) = undelivered.needing_a_person(desk.database)
    assert (stuck.study_uid, stuck.answer) == (STUDY, "the archive cannot be reached")
    with archive.listening():
        assert undelivered.retry(desk.database, desk.clock()) == 1
        assert sender_of(desk).turn() == 1
    assert len(archive.uids) == 1


@sqlite
def test_an_archive_that_knows_no_comprehensive_3d_report_refuses_it_for_good(desk: Ledger) -> None:
    archive = ArchiveOfTest()
    archive.classes.remove("1.2.840.10008.5.1.4.1.1.88.34")
    with archive.listening():
        to_archive(desk, archive)
        bring(desk)
        screen(desk, 0.9)
        sender_of(desk).turn()
        (stuck,) = undelivered.needing_a_person(desk.database)
        assert (stuck.state, "SCREENING_REPORT_CLASS" in (stuck.answer or "")) == (DispatchState.REFUSED, True)
        desk.settings = attrs.evolve(desk.settings, report_class=ReportClass.ENHANCED)
        undelivered.retry(desk.database, desk.clock())
        sender_of(desk).turn()
    assert [str(ds.SOPClassUID) for ds in archive.objects] == ["1.2.840.10008.5.1.4.1.1.88.22"]


def test_a_third_revision_names_the_earlier_reports_and_rejects_them(desk: Ledger) -> None:
    archive = ArchiveOfTest()
    with archive.listening():
        to_archive(desk, archive, retract=Retract.IOCM)
        for number in (1, 2, 3):
            bring(desk, number)
            screen(desk, 0.1 * number)
            while sender_of(desk).turn():
                pass
    found = [ds for ds in archive.objects if ds.Modality == "SR"]
    rejections = [ds for ds in archive.objects if ds.Modality == "KO"]
    assert (len(found), len(rejections), len(archive.uids)) == (3, 2, 5)
    assert [ds.Modality for ds in archive.objects] == ["SR", "KO", "SR", "KO", "SR"]  # the rejection goes first
    assert "PredecessorDocumentsSequence" not in found[0]
    named = [
        {str(sop.ReferencedSOPInstanceUID) for sop in series.ReferencedSOPSequence}
        for study in found[2].PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
    ]
    assert set().union(*named) == {str(found[0].SOPInstanceUID), str(found[1].SOPInstanceUID)}
    series = {
        str(s.SeriesInstanceUID) for st in found[2].PredecessorDocumentsSequence for s in st.ReferencedSeriesSequence
    }
    assert series == {str(found[0].SeriesInstanceUID), str(found[1].SeriesInstanceUID)}
    title = rejections[1].ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    assert len({str(ds.SeriesInstanceUID) for ds in archive.objects}) == 5
    tracking = {str(items(ds)["group"].tracking_uid) for ds in found}
    assert len(tracking) == 1  # one finding through all revisions


@sqlite
def test_the_results_of_a_study_go_in_their_order(desk: Ledger) -> None:
    archive = ArchiveOfTest()
    with archive.listening():
        to_archive(desk, archive)
        archive.status = 0xA700
        bring(desk, 1)
        screen(desk, 0.1)
        sender_of(desk).turn()
        requeue(desk.database, STUDY, desk.settings, desk.clock())
        screen(desk, 0.9)
        archive.status = 0x0000
        desk.clock.forward(hours=2)
        while sender_of(desk).turn():
            pass
    first, second = archive.objects
    (study,) = second.PredecessorDocumentsSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


@sqlite
def test_a_study_whose_objects_are_gone_needs_a_person(desk: Ledger, outbox: Path) -> None:
    bring(desk)
    screen(desk, 0.9)
    for stored in list(desk.store.files("objects")):
        desk.store.remove(stored, stored.modified_at + 1)
    assert sent(desk, outbox) == []
    assert rows(desk) == [(DispatchKind.REPORT, DispatchState.GIVEN_UP)]


@pytest.mark.usefixtures("outbox")
def test_metrics_and_the_check_up_say_when_results_do_not_go(desk: Ledger) -> None:
    desk.settings = attrs.evolve(desk.settings, database=desk.database.url)
    bring(desk)
    assert check_sending(desk.settings) == (True, "0 results sent, 0 due")
    screen(desk, 0.9)
    desk.clock.forward(1900)

    def numbers() -> dict[str, float]:
        with desk.database.reading() as connection:
            found = [s for family in result_delivery.metrics(connection, desk.clock()) for s in family.samples]
        return {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in found}

    assert (numbers()["screening_oldest_unsent_seconds"], numbers()["screening_dispatches due"]) == (1900, 1)
    is_well, words = check_sending(desk.settings) or (True, "")
    assert (is_well, "worker send" in words) == (False, True)
    for stored in list(desk.store.files("objects")):
        desk.store.remove(stored, stored.modified_at + 1)
    sender_of(desk).turn()
    assert (numbers()["screening_oldest_unsent_seconds"], numbers()["screening_dispatches given_up"]) == (0, 1)
    is_well, words = check_sending(desk.settings) or (True, "")
    assert (is_well, "--stuck" in words) == (False, True)


@sqlite
def test_the_overlay_of_the_deciding_image_goes_as_secondary_capture(desk: Ledger, outbox: Path) -> None:
    desk.settings = attrs.evolve(desk.settings, results="report,overlay")
    uid = bring(desk, PatientName="Doe^Jane")
    screen(desk, 0.9)
    overlay_in_store(desk)
    shown = next(ds for ds in sent(desk, outbox) if ds.Modality == "OT")
    assert list(shown.ImageType) == ["DERIVED", "SECONDARY"]
    assert (shown.BurnedInAnnotation, shown.SeriesDescription) == ("YES", "AI heat map RESEARCH ONLY")
    assert shown.SourceImageSequence[0].ReferencedSOPInstanceUID == uid
    assert max(shown.Rows, shown.Columns) <= 1024
    pixels = shown.pixel_array
    assert (pixels[:500] == 90).all()  # the overlay as it is
    assert pixels[500:].max() > 150  # and text below it
    assert shown.PatientName == "Doe^Jane"
    with receiving(desk) as receiver:
        assert send(receiver, shown) == [0x0000]
    assert desk.count("arrival") == 1  # our own result is never an arrival
