"""The main job on the sample studies: what a user sees after `make screen`."""

import hashlib
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.acceptance.installation import SAMPLES, Installation

Entries = list[dict[str, Any]]


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("installation"))


@pytest.fixture(scope="module")
def entries(site: Installation) -> Entries:
    before = digests(SAMPLES)
    printed: Entries = site.json("screen", SAMPLES)
    assert digests(SAMPLES) == before, "worker screen altered a source"
    return printed


def names(entry: dict[str, Any]) -> set[str]:
    return {Path(source).name for source in entry["sources"]}


def entry_of(entries: Entries, name: str) -> dict[str, Any]:
    return next(entry for entry in entries if name in names(entry))


def test_every_promised_field_is_printed(entries: Entries) -> None:
    promised = {
        "place", "band", "study_uid", "accession_number", "state", "verdict", "probability", "threshold", "reason",
        "priority", "sources", "heatmap", "received_at", "screened_at",
    }  # fmt: skip
    assert all(promised <= entry.keys() for entry in entries)
    assert [entry["place"] for entry in entries] == list(range(1, len(entries) + 1))


def test_the_list_is_in_the_order_of_the_promise(entries: Entries) -> None:
    verdicts = [entry["verdict"] for entry in entries]
    order = ["flagged", "unscreenable", "not_flagged", "ineligible"]
    assert verdicts == sorted(verdicts, key=order.index)
    assert set(verdicts) == set(order)
    flagged = [entry["probability"] for entry in entries if entry["verdict"] == "flagged"]
    assert flagged == sorted(flagged, reverse=True)


def test_each_odd_sample_stands_where_it_should_with_its_reason(entries: Entries) -> None:
    for name, verdict, reason in (
        ("olga_hand.dcm", "ineligible", "other_body_part"),
        ("paul_lateral.dcm", "unscreenable", "not_frontal"),
        ("rosa_truncated.dcm", "unscreenable", "unreadable_image"),
    ):
        entry = entry_of(entries, name)
        assert (entry["verdict"], entry["reason"]) == (verdict, reason)


def test_the_broken_files_are_in_quarantine_and_the_rest_is_unaffected(site: Installation, entries: Entries) -> None:
    files = {Path(file["path"]).name: file["code"] for file in site.json("quarantine")}
    assert files == {"report.txt": "not_an_image", "rosa_truncated.dcm": "truncated"}
    assert len(entries) == 17
    assert all(entry["state"] == "screened" for entry in entries)


def test_two_images_of_one_study_and_one_file_twice(entries: Entries) -> None:
    assert names(entry_of(entries, "hugo_ap.dcm")) == {"hugo_ap.dcm", "hugo_pa.dcm"}
    assert names(entry_of(entries, "anna_explicit.dcm")) == {"anna_explicit.dcm", "anna_explicit_again.dcm"}


def test_every_screened_image_has_a_heat_map_of_its_own_shape(entries: Entries) -> None:
    for entry in entries:
        if entry["probability"] is None:
            assert entry["heatmap"] is None
            continue
        overlay = cv2.imread(entry["heatmap"])
        assert overlay is not None
        assert max(overlay.shape[:2]) <= 768
        assert Path(entry["heatmap"]).stat().st_mode & 0o077 == 0


def test_the_sums_hold(site: Installation, entries: Entries) -> None:
    account = site.json("reconcile")
    assert account["holds"]
    assert account["files"] == {"accepted": 17, "duplicate": 1, "quarantined": 2}
    assert account["studies"] == {"screened": len(entries)}


def test_strict_tells_of_quarantined_files(site: Installation, entries: Entries) -> None:
    site.run("screen", "--strict", SAMPLES / "report.txt", code=3)
    assert site.json("worklist") == entries


def test_the_same_files_again_change_nothing(site: Installation, entries: Entries, tmp_path: Path) -> None:
    (tmp_path / "renamed.dcm").write_bytes((SAMPLES / "ben_jpeg2000.dcm").read_bytes())
    text = site.run("screen", tmp_path)
    assert "1 duplicate" in text
    again = entry_of(site.json("worklist"), "renamed.dcm")
    before = entry_of(entries, "ben_jpeg2000.dcm")
    assert {**again, "sources": None} == {**before, "sources": None}


def test_what_people_do_with_a_study(site: Installation, entries: Entries) -> None:
    negative = entry_of(entries, "leo_native.jpeg")["study_uid"]
    site.run("prioritise", negative, "stat", "--by", "Dr Test")
    assert site.json("worklist")[0]["study_uid"] == negative
    site.run("review", negative, "--verdict", "no_pneumonia", "--reader", "Dr Test")
    assert negative not in {entry["study_uid"] for entry in site.json("worklist")}
    kept = site.json("show", negative)
    assert kept["reviews"][0]["outcome"] == "no_pneumonia"
    assert kept["priorities"][0]["given_by"] == "Dr Test"
    site.run("review", "no such study", "--verdict", "pneumonia", "--reader", "x", code=1)
    site.run("review", negative, "--verdict", "pneumonia", "--reader", " ", code=64)


@pytest.mark.slow
@pytest.mark.usefixtures("entries")
def test_requeue_screens_afresh_with_whatever_is_screened_next(site: Installation) -> None:
    name = "emma_rle.dcm"
    site.run("requeue", name)
    assert entry_of(site.json("worklist"), name)["reason"] == "requeued"
    assert "1 studies of an earlier command that were still waiting" in site.run("screen", SAMPLES / "ida_8_bit.png")
    kept = site.json("show", name)
    assert [s["revision"] for s in kept["screenings"]] == [2, 1]
    assert kept["state"] == "screened"


@pytest.mark.usefixtures("entries")
def test_a_study_is_found_by_whatever_the_list_prints(site: Installation) -> None:
    uid = site.json("show", "ACC-0003")["study_uid"]
    for name in ("clara_jpegls.dcm", uid, f"…{uid[-12:]}", str(SAMPLES / "clara_jpegls.dcm")):
        assert site.json("show", name)["study_uid"] == uid
    site.run("show", "dcm", code=1)


def test_nothing_to_look_at_is_not_an_empty_list(tmp_path: Path) -> None:
    nowhere = Installation(tmp_path / "nowhere")
    for verb in ("worklist", "quarantine", "reconcile"):
        nowhere.run(verb, code=1)
    assert not nowhere.home.exists()
    nowhere.run("screen", "", code=64)
    nowhere.run("screen", tmp_path / "no such folder", code=64)


@pytest.mark.usefixtures("entries")
def test_the_checkup_is_well_and_says_what_is_not(site: Installation, tmp_path: Path) -> None:
    results = {result["what"]: result["is_well"] for result in site.json("check")}
    assert set(results) == {"database", "broker", "model", "provider", "decoder", "store", "disk", "page", "waiting"}
    assert all(results.values())
    empty = Installation(tmp_path / "never made")
    assert "SQLite" in empty.run("check")
