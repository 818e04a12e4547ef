"""A day in the reading room: twenty studies come by DICOM, two readers read them all by keyboard alone, in both ways of
revealing what the model said."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome as Browser
from selenium.webdriver.common.keys import Keys

from tests.acceptance.installation import QUICK, SAMPLES, Installation, wait_until
from tests.browsers import browser, console, log_in, needs_chromium, press, requested, tab_to, until
from tests.receiver import CALLER, OURS
from tests.web_process import add_accounts, database_of, serving
from worker.runtime.children import child

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), needs_chromium]

STUDIES = 20
ROOT = "1.2.826.0.1.3680043.10.9.700"

#: Radiographs that are sent, each several times under other UIDs: native, JPEG-LS and JPEG 2000.
SENT = ("anna_explicit.dcm", "greta_monochrome1_12_bit.dcm", "hugo_pa.dcm", "hugo_ap.dcm")


def numbered(number: int, image: int = 1) -> Dataset:
    """One of the samples as the image of a study of its own."""
    ds = dcmread(BytesIO((SAMPLES / SENT[number % len(SENT)]).read_bytes()))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID(f"{ROOT}.{number}"), UID(f"{ROOT}.{number}.1")
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.{number}.1.{image}")
    ds.AccessionNumber, ds.PatientID = f"DAY-{number:02d}", f"P-{number:02d}"
    return ds


def send(port: int, *datasets: Dataset) -> None:
    """Store the images by one association; each must be answered with success."""
    entity = AE(CALLER)
    for sop_class, syntax in {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}:
        entity.add_requested_context(sop_class, [syntax])
    association = entity.associate("127.0.0.1", port, ae_title=OURS)
    assert association.is_established
    assert [association.send_c_store(ds).Status for ds in datasets] == [0x0000] * len(datasets)
    association.release()


@dataclass(frozen=True)
class Day:
    """The running installation of one day."""

    site: Installation
    receiver: int  #: its port
    logs: Path

    def rows(self, statement: str) -> list[Any]:
        with closing(database_of(self.site)) as database, database.reading() as connection:
            return list(connection.execute(sa.text(statement)).all())

    def screened(self) -> int:
        return int(self.rows("SELECT COUNT(*) FROM study WHERE state = 'screened'")[0][0])


@contextmanager
def processes(tmp_path: Path) -> Iterator[Day]:
    """Watcher, worker and receiver, each a process as a service manager runs it."""
    site = Installation(
        tmp_path / "home",
        {**QUICK, "SCREENING_RECEIVE_FROM": CALLER, "SCREENING_AE_TITLE": OURS, "SCREENING_RECEIVE_PORT": "0",
         "SCREENING_RECEIVE_METRICS_PORT": "0", "SCREENING_MIN_FREE_MIB": "1"},
    )  # fmt: skip
    (tmp_path / "inbox").mkdir()
    log = tmp_path / "receive.log"
    with (
        child(site.command("run", tmp_path / "inbox"), tmp_path / "run.log", 60, site.environment()),
        ExitStack() as stack,
    ):
        wait_until(lambda: b"watching" in (tmp_path / "run.log").read_bytes(), 300)
        stack.enter_context(child(site.command("receive"), log, 60, site.environment()))
        wait_until(lambda: b" port " in log.read_bytes(), 120)
        port = int(log.read_bytes().split(b" port ")[1].split(b";")[0])
        yield Day(site, port, tmp_path)


@contextmanager
def readers(address: str) -> Iterator[tuple[Browser, Browser]]:
    """Two readers in two browsers; at the end nothing was asked of another machine, and their consoles are empty."""
    with browser() as ann, browser() as ben:
        for driver, name in ((ann, "ann"), (ben, "ben")):
            log_in(driver, address, name)
        yield ann, ben
        for driver in (ann, ben):
            assert console(driver) == []
            assert requested(driver) == {address}


def body(driver: Browser) -> Any:
    return driver.find_element("tag name", "body")


def judge(driver: Browser, key: str, comment: str) -> None:
    """Type a comment, choose with one key, confirm with another; waits for the page that follows."""
    before = driver.find_element("id", "verdict")
    body(driver).send_keys("c")
    press(driver, comment, Keys.TAB)
    body(driver).send_keys(key)
    body(driver).send_keys(Keys.ENTER)
    until(lambda: gone(before))
    until(lambda: driver.execute_script("return document.readyState === 'complete'"))


def go_on(driver: Browser, key: str) -> None:
    """Press a key that leads to another page, which may be the same one again."""
    before = body(driver)
    before.send_keys(key)
    until(lambda: gone(before))
    until(lambda: driver.execute_script("return document.readyState === 'complete'"))


def gone(element: Any) -> bool:
    """Whether the page of this element is there no more."""
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    return False


def at_study(driver: Browser) -> bool:
    return "/study/" in driver.current_url


def test_two_readers_read_a_day_in_both_ways(tmp_path: Path) -> None:
    with processes(tmp_path) as day:
        send(day.receiver, *(numbered(n) for n in range(STUDIES)))
        wait_until(lambda: day.screened() == STUDIES, 600)
        add_accounts(day.site)
        with serving(day.site, tmp_path / "web.log") as address, readers(address) as (ann, ben):
            assert "was never seen" not in body(ann).text, "watcher, worker and receiver give signs of life"
            assert "last seen" not in body(ann).text
            assert "receiver alive" in body(ann).text
            take_over(ann, ben)
            lose_the_race(day, ann)
            read(ann, ben, until_read=STUDIES // 2, day=day)
        hidden = Installation(day.site.home, {**day.site.settings, "SCREENING_REVEAL": "after_verdict"})
        with serving(hidden, tmp_path / "web.log") as address, readers(address) as (ann, ben):
            read(ann, ben, until_read=STUDIES, day=day, is_hidden=True)
            go_on(ann, "b")
            assert "No study matches" in body(ann).text
        agrees(day)


def take_over(ann: Browser, ben: Browser) -> None:
    """Ann reads the first study; Ben opens it from the list, and takes it over after a confirmation."""
    go_on(ann, "n")
    body(ben).send_keys("j")
    press(ben, Keys.ENTER)
    until(lambda: at_study(ben))
    assert ben.current_url == ann.current_url
    assert "ann reads this study" in ben.find_element("tag name", "main").text
    assert not ben.find_elements("id", "verdict")
    tab_to(ben, ".message summary")
    press(ben, Keys.ENTER)
    tab_to(ben, ".message button")
    press(ben, Keys.ENTER)
    until(lambda: ben.find_elements("id", "verdict"))
    until(lambda: ann.find_element("id", "lost").is_displayed())
    judge(ben, "p", "taken over")
    go_on(ann, "n")
    assert at_study(ann)


def lose_the_race(day: Day, ann: Browser) -> None:
    """Another image of Ann's study comes while she types: her verdict is refused once, and her text is kept."""
    number = int(ann.current_url.rsplit(".", 1)[1])
    url = ann.current_url
    body(ann).send_keys("c")
    text = "a finding that must not be lost"
    press(ann, text)
    send(day.receiver, numbered(number, image=2))
    revision = f"SELECT revision FROM study WHERE study_uid = '{ROOT}.{number}' AND state = 'screened'"
    wait_until(lambda: [tuple(row) for row in day.rows(revision)] == [(2,)], 300)
    press(ann, Keys.TAB)
    body(ann).send_keys("u", Keys.ENTER)
    until(lambda: ann.find_elements("class name", "changed"))
    assert ann.current_url.startswith(url)
    assert ann.find_element("id", "comment").get_attribute("value") == text
    assert ann.find_element("css selector", "input[value=uncertain]").is_selected()
    body(ann).send_keys("o")
    before = ann.find_element("id", "verdict")
    body(ann).send_keys(Keys.ENTER)
    until(lambda: gone(before))


def read(ann: Browser, ben: Browser, *, until_read: int, day: Day, is_hidden: bool = False) -> None:
    """Both read in turn what comes next; where the model is hidden, each gives a second verdict when it is shown."""
    for turn in range(4 * STUDIES):
        read_so_far = day.rows("SELECT COUNT(*) FROM study WHERE read_at IS NOT NULL")[0][0]
        if read_so_far >= until_read:
            return
        driver = (ann, ben)[turn % 2]
        if not at_study(driver):
            go_on(driver, "n")
        if not at_study(driver):  # the other one reads what is left
            continue
        uid = driver.current_url.rsplit("/", 1)[1]
        if is_hidden:
            assert "Hidden until you have given a verdict" in driver.find_element("tag name", "main").text
            assert not driver.find_elements("id", "heat")
            judge(driver, "po"[turn % 4 // 2], f"unseen {turn}")
            assert driver.current_url.rsplit("/", 1)[1] == uid, "the same study again, with what the model said"
            assert "probability" in driver.find_element("class name", "said").text
            body(driver).send_keys("h")
            until(driver.find_element("id", "heat-words").is_displayed)
        judge(driver, "po"[turn % 4 // 2], f"read {turn}")
    pytest.fail("the day does not end")


def agrees(day: Day) -> None:
    """Reviews, trail and list tell the same day."""
    reviews = day.rows(
        "SELECT study_uid, outcome, reader, comment, saw_probability, saw_heatmap FROM review"
        " JOIN study ON study.id = review.study_id ORDER BY review.id"
    )
    assert {row.study_uid for row in reviews} == {f"{ROOT}.{n}" for n in range(STUDIES)}
    assert {row.reader for row in reviews} == {"ann", "ben"}
    assert {"taken over", "a finding that must not be lost"} <= {row.comment for row in reviews}
    unseen = [row for row in reviews if row.comment.startswith("unseen")]
    assert len(unseen) == STUDIES // 2
    assert not any(row.saw_probability or row.saw_heatmap for row in unseen)
    assert all(row.saw_probability for row in reviews if not row.comment.startswith("unseen"))
    again = [row for row in reviews if row.study_uid in {each.study_uid for each in unseen} and row not in unseen]
    assert len(again) == STUDIES // 2
    assert all(row.saw_heatmap for row in again)
    said = json.loads(day.site.run("audit", "--since", "2000-01-01", "--json"))
    told = sorted((e["who"], e["study_uid"]) for e in said if e["deed"] == "reviewed")
    assert told == sorted((row.reader, row.study_uid) for row in reviews)
    assert [e["who"] for e in said if e["deed"] == "hold_taken_over"] == ["ben"]
    assert day.site.json("worklist") == []
    assert day.site.json("reconcile")["holds"]
