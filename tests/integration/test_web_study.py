"""The page of a study: verdicts on what was shown, holds, priorities, what a reader may see first."""

import asyncio
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.types import Message

from schema.setting_values import AuditReads, Reveal
from schema.vocabulary import Priority, ReviewOutcome, Role
from tests.ledger import STUDY, Ledger, card, image
from tests.reading_room import Answer, Page, Visitor, running
from worker.errors import DatabaseUnavailable
from worker.inference.card import Population
from worker.ledger import audit, decisions
from worker.ledger.reading_room import holds
from worker.ledger.screening.results import ModelUse
from worker.web.application import build
from worker.web.guards import Guard

OTHER = "1.2.826.0.1.3680043.10.8"
PATH, OTHER_PATH = f"/study/{STUDY}", f"/study/{OTHER}"


@pytest.fixture
def ready(desk: Ledger) -> Ledger:
    """Two studies with results: 0.9, and 0.8."""
    for uid, probability in ((STUDY, 0.9), (OTHER, 0.8)):
        desk.receive(uid, content=uid, accession_number=f"A{uid[-1]}")
        desk.screen(uid, probability)
    return desk


@pytest.fixture
def page(ready: Ledger) -> Iterator[Page]:
    with running(ready) as page:
        yield page


def fields(opened: Answer, **more: object) -> dict[str, object]:
    return {name: opened.field(name) for name in ("revision", "screening", "review")} | more


def reviews(desk: Ledger) -> list[Any]:
    with desk.database.reading() as connection:
        return list(connection.execute(sa.text("SELECT * FROM review ORDER BY id")))


def give(visitor: Visitor, outcome: str = "pneumonia", path: str = PATH, **more: object) -> Answer:
    return visitor.post(f"{path}/verdict", fields(visitor.get(path), outcome=outcome, **more))


def test_a_verdict_leads_to_the_next_study_and_is_kept_with_what_was_seen(page: Page) -> None:
    visitor = page.visitor("ann")
    opened = visitor.get(PATH)
    page.desk.clock.forward(30)
    answer = visitor.post(f"{PATH}/verdict", fields(opened, outcome="pneumonia", comment=" left base\r\nsure "))
    assert (answer.status, answer.header("Location")) == (303, OTHER_PATH)
    (review,) = reviews(page.desk)
    assert (review.outcome, review.reader, review.comment) == ("pneumonia", "ann", "left base\nsure")
    assert (bool(review.saw_probability), bool(review.saw_heatmap), bool(review.saw_place)) == (True, False, True)
    assert review.open_s == 30
    assert [entry.study_uid for entry in page.desk.worklist()] == [OTHER]
    assert give(visitor, "no_pneumonia", OTHER_PATH).header("Location") == "/"
    assert page.desk.count("hold") == 0  # a verdict lets go


def test_a_correction_is_another_verdict(page: Page) -> None:
    visitor = page.visitor("ann")
    give(visitor)
    give(visitor, "no_pneumonia")
    assert [review.outcome for review in reviews(page.desk)] == ["pneumonia", "no_pneumonia"]
    with pytest.raises(sa.exc.DatabaseError):  # noqa: SIM117
        with page.desk.database.engine.begin() as connection:
            connection.execute(sa.text("UPDATE review SET outcome = 'uncertain'"))


@pytest.mark.parametrize("what", ["new images", "another result", "another verdict"])
def test_a_verdict_on_something_older_is_refused_with_both_shown_and_nothing_lost(page: Page, what: str) -> None:
    desk, visitor = page.desk, page.visitor("ann")
    opened = visitor.get(PATH)
    if what == "new images":
        desk.receive(STUDY, f"{STUDY}.1.2", "two")
    elif what == "another result":
        decisions.requeue(desk.database, STUDY, desk.settings, desk.clock.forward(1), "me")
        desk.screen(STUDY, 0.7)
    else:
        decisions.review(desk.database, STUDY, ReviewOutcome.UNCERTAIN, "Dr Dee", None, desk.clock())
    before = len(reviews(desk))
    answer = visitor.post(f"{PATH}/verdict", fields(opened, outcome="no_pneumonia", comment="typed <with> care"))
    assert answer.status == 409
    assert len(reviews(desk)) == before
    assert "typed &lt;with&gt; care" in answer.text
    assert 'value="no_pneumonia" checked' in answer.text
    assert "You were shown: revision 1, flagged, probability 0.900" in answer.text
    assert {"new images": "Now: revision 2", "another result": "probability 0.700",
            "another verdict": "read as uncertain by Dr Dee"}[what] in answer.text  # fmt: skip
    again = visitor.post(f"{PATH}/verdict", fields(answer, outcome="no_pneumonia", comment="typed <with> care"))
    assert again.status == 303
    assert reviews(desk)[-1].comment == "typed <with> care"


@pytest.mark.parametrize(
    ("form", "fault"),
    [({"outcome": "cancer", "comment": "kept"}, "choose a verdict"), ({"comment": "kept"}, "choose a verdict"),
     ({"outcome": "pneumonia", "comment": "kept " * 401}, "shorten it")],
)  # fmt: skip
def test_a_form_with_a_fault_comes_back_whole(page: Page, form: dict[str, object], fault: str) -> None:
    visitor = page.visitor("ann")
    answer = visitor.post(f"{PATH}/verdict", fields(visitor.get(PATH)) | form)
    assert answer.status == 422
    assert fault in answer.text
    assert "kept" in answer.text
    assert reviews(page.desk) == []


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize(
    ("end", "status", "why"),
    [("idle", 401, "log in first"), ("logged in anew", 403, "of another session"), ("fault", 500, "a fault")],
)
def test_what_was_typed_comes_back_when_the_session_ends_before_it_arrives(
    page: Page, caplog: pytest.LogCaptureFixture, end: str, status: int, why: str
) -> None:
    caplog.set_level("DEBUG")
    visitor = page.visitor("ann")
    typed = fields(visitor.get(PATH), outcome="no_pneumonia", comment="\r\nclear </textarea> base")
    if end == "idle":
        page.desk.clock.forward(21 * 60)
    elif end == "fault":

        def fail() -> None:
            raise ZeroDivisionError

        page.context.follow_silent_run = fail  # type: ignore[method-assign]
    else:
        visitor.csrf = "of the session before"
    answer = visitor.post(f"{PATH}/verdict", typed, Accept="text/html")
    assert (answer.status, answer.header("Cache-Control")) == (status, "no-store")
    for words in (why, "Your verdict was: no pneumonia.", "\r\nclear &lt;/textarea&gt; base</textarea>", f'"{PATH}"'):
        assert words in answer.text
    assert ("Nothing was stored" in answer.text, "not known whether this was stored" in answer.text) == (
        status < 500, status >= 500
    )  # fmt: skip
    assert reviews(page.desk) == []
    assert "clear" not in caplog.text
    withdrawn = visitor.post(f"{PATH}/withdraw", {"reason": "wrong patient"}, Accept="text/html")
    assert "wrong patient</textarea>" in withdrawn.text


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_verdict_that_comes_while_too_many_others_are_answered_was_not_stored_and_is_said_to_be_so(
    page: Page,
) -> None:
    full = Guard(build(page.context), page.context, most_at_a_time=0)
    host = "127.0.0.1"
    headers = {"host": host, "origin": f"http://{host}", "accept": "text/html",
               "content-type": "application/x-www-form-urlencoded"}  # fmt: skip
    said = b""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"outcome=pneumonia&comment=left+base"}

    async def send(message: Message) -> None:
        nonlocal said
        said += message.get("body", b"")

    scope = {
        "type": "http", "method": "POST", "path": f"{PATH}/verdict", "raw_path": f"{PATH}/verdict".encode(),
        "query_string": b"", "client": (host, 1), "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    asyncio.run(full(scope, receive, send))
    text = said.decode()
    for words in ("too many requests at a time", "Nothing was stored.", "Your verdict was: pneumonia.", "left base"):
        assert words in text


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize(("error", "status"), [(DatabaseUnavailable("away"), 303), (ZeroDivisionError(), 500)])
def test_what_fails_after_a_verdict_was_stored_does_not_deny_it(
    page: Page, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    visitor = page.visitor("ann")
    typed = fields(visitor.get(PATH), outcome="pneumonia")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(holds, "release", fail)
    answer = visitor.post(f"{PATH}/verdict", typed, Accept="text/html")
    assert (answer.status, answer.header("Location")) == (status, "/" if status == 303 else "")
    assert len(reviews(page.desk)) == 1
    assert "othing was stored" not in answer.text


@pytest.mark.parametrize("kind", ["sqlite"])
def test_only_what_is_typed_on_a_study_of_ours_comes_back(page: Page) -> None:
    """No password, and nothing that another page sent."""
    anybody = page.visitor()
    form = {"comment": "typed", "password": "secret"}
    for path, more in (("/login", {}), (f"{PATH}/verdict", {"Origin": "http://elsewhere", "Sec_Fetch_Site": None})):
        answer = anybody.post(path, form, Accept="text/html", **more)
        assert answer.status == 403
        assert "typed" not in answer.text
        assert "secret" not in answer.text
    assert "typed" not in anybody.post(f"{PATH}/verdict", form).text  # for a program


def test_not_assessable_stays_in_band_4_until_another_verdict(page: Page) -> None:
    desk, visitor = page.desk, page.visitor("ann")
    give(visitor, "not_assessable")
    entry = desk.entry(STUDY)
    assert (entry.band, entry.reason, entry.review_outcome) == (4, "not_assessable", "not_assessable")
    assert "read as not assessable by ann" in visitor.get("/").text
    with desk.database.reading() as connection:
        (row,) = connection.execute(sa.text("SELECT * FROM agreement")).all()
    assert (row.reviewed, row.true_positive, row.false_positive, row.agreement) == (1, 0, 0, None)
    give(visitor, "pneumonia")
    assert [entry.study_uid for entry in desk.worklist()] == [OTHER]


def test_new_images_end_not_assessable(page: Page) -> None:
    desk = page.desk
    give(page.visitor("ann"), "not_assessable")
    desk.receive(STUDY, f"{STUDY}.1.2", "two")
    desk.screen(STUDY, 0.95)
    assert (desk.entry(STUDY).band, desk.entry(STUDY).reason) == (3, "at_or_above_threshold")


def test_back_on_the_list_needs_a_reason(page: Page) -> None:
    visitor = page.visitor("ann")
    give(visitor)
    assert visitor.post(f"{PATH}/withdraw", {"reason": " "}).status == 422
    assert visitor.post(f"{PATH}/withdraw", {"reason": "wrong patient"}).status == 303
    assert STUDY in [entry.study_uid for entry in page.desk.worklist()]
    assert "withdrawn by ann: wrong patient" in visitor.get(PATH).text
    assert visitor.post(f"{PATH}/withdraw", {"reason": "again"}).status == 409


def test_a_hold_is_seen_and_taken_over_after_a_confirmation(page: Page) -> None:
    ann, ben = page.visitor("ann"), page.visitor("ben")
    mine = ann.get(PATH)
    theirs = ben.get(PATH)
    assert "<strong>ann</strong> reads this study" in theirs.text
    assert 'id="verdict"' not in theirs.text
    typed = fields(mine, outcome="pneumonia", comment="kept")
    refused = ben.post(f"{PATH}/verdict", typed)
    assert refused.status == 422
    assert "take it over first" in refused.text
    assert ben.post(f"{PATH}/take-over", {"from": "somebody"}).status == 409
    assert ben.post(f"{PATH}/take-over", {"from": "ann"}).status == 303
    assert 'id="verdict"' in ben.get(PATH).text
    lost = ann.post(f"{PATH}/verdict", typed)
    assert lost.status == 422
    assert "ben reads this study: take it over first" in lost.text
    assert "readonly>kept</textarea>" in lost.text  # she may not write here now, but what she typed is not lost
    taken = [(e.who, e.detail) for e in audit.trail(page.desk.database, page.desk.clock() - timedelta(days=1))
             if e.deed == "hold_taken_over"]  # fmt: skip
    assert taken == [("ben", "from ann")]
    back = ann.post(f"{PATH}/take-over", {name: lost.field(name) for name in ("from", "outcome", "comment")})
    assert back.status == 200
    assert 'value="pneumonia" checked' in back.text
    assert ">kept</textarea>" in back.text
    assert reviews(page.desk) == []
    stored = ann.post(f"{PATH}/verdict", fields(back, outcome="pneumonia", comment="kept"))
    assert (stored.status, reviews(page.desk)[0].comment) == (303, "kept")


def test_closing_a_page_that_came_back_with_a_fault_lets_go_too(page: Page) -> None:
    ann = page.visitor("ann")
    refused = ann.post(f"{PATH}/verdict", fields(ann.get(PATH), outcome="none of these"))
    opening = refused.text.partition('data-opening="')[2].partition('"')[0]
    assert opening
    ann.post(f"{PATH}/release", {"opening": opening})
    assert page.desk.count("hold") == 0


def test_other_studies_of_a_patient_are_told_apart(page: Page) -> None:
    for number in (1, 2):
        uid = f"1.2.826.9.{number}"
        page.desk.receive(uid, content=uid, patient_id="P-7", study_date="20260301", accession_number=f"B-{number}")
    assert ">2026-03-01, B-2</a>" in page.visitor("ann").get("/study/1.2.826.9.1").text


def test_the_age_that_stands_beside_a_flag_is_shown_where_the_header_names_none_now(page: Page) -> None:
    desk, uid = page.desk, "1.2.826.9.1"
    desk.model = ModelUse("c" * 64, card(population=Population("children", 1, 5)), "CPUExecutionProvider")
    desk.receive(uid, content=uid, age_years=None)
    desk.screen(uid, 0.9, headers=[image(uid, age_years=71.0)])
    assert "(age 71 years)" in page.visitor("ann").get("/study/1.2.826.9.1").text


def test_a_flagged_study_outside_the_models_population_says_so(page: Page) -> None:
    desk = page.desk
    desk.model = ModelUse("c" * 64, card(population=Population("children", 1, 5)), "CPUExecutionProvider")
    for uid, age in (("1.2.826.9.1", 71.0), ("1.2.826.9.2", 3.0)):
        desk.receive(uid, content=uid, age_years=age)
        desk.screen(uid, 0.9, headers=[image(uid, age_years=age)])
    text = page.visitor("ann").get("/study/1.2.826.9.1").text
    assert "outside the model&#39;s population: age 71 years" in text.replace("model's", "model&#39;s")
    assert text.count("outside the model") == 1
    assert "outside the model" not in page.visitor("ann").get("/study/1.2.826.9.2").text
    rows = dict(re.findall(r'<tr data-uid="(.*?)"(.*?)</tr>', page.visitor("ann").get("/").text, re.DOTALL))
    for uid, shown_age, is_outside in (("1.2.826.9.1", ", 71 y<", True), ("1.2.826.9.2", ", 3 y<", False)):
        assert shown_age in rows[uid]
        assert ("outside the model" in rows[uid]) is is_outside


def test_a_hold_ends_by_idleness_closing_and_log_out_and_only_input_prolongs_it(page: Page) -> None:
    desk, ann, ben = page.desk, page.visitor("ann"), page.visitor("ben")

    def holder() -> str:
        return ben.post(f"{PATH}/beat", {"input": "0"}).header("X-Holder")

    opened = ann.get(PATH)
    desk.clock.forward(400)
    assert ann.post(f"{PATH}/beat", {"input": "1"}).header("X-Holder") == "own"
    desk.clock.forward(400)
    assert holder() == "other"
    ann.post(f"{PATH}/beat", {"input": "0"})
    desk.clock.forward(201)
    assert holder() == "none"
    first = opened.text.partition('data-opening="')[2].partition('"')[0]
    second = ann.get(PATH).text.partition('data-opening="')[2].partition('"')[0]
    ann.post(f"{PATH}/release", {"opening": first})  # late news of a page that was left before
    assert holder() == "other"
    ann.post(f"{PATH}/release", {"opening": second})
    assert holder() == "none"
    ann.get(PATH)
    ann.post("/logout")
    assert holder() == "none"


def test_a_hold_blocks_no_worker_and_hides_no_study(page: Page) -> None:
    desk = page.desk
    page.visitor("ann").get(PATH)
    decisions.requeue(desk.database, STUDY, desk.settings, desk.clock(), "me")
    assert desk.screen(STUDY, 0.2)
    assert STUDY in page.visitor("ben").get("/").text


def test_an_open_page_hears_of_new_images(page: Page) -> None:
    visitor = page.visitor("ann")
    opened = visitor.get(PATH)
    shown = {"revision": opened.field("revision"), "screening": opened.field("screening"), "input": "0"}
    assert visitor.post(f"{PATH}/beat", shown).header("X-Changed") == "no"
    page.desk.receive(STUDY, f"{STUDY}.1.2", "two")
    assert visitor.post(f"{PATH}/beat", shown).header("X-Changed") == "yes"


def test_a_study_tells_its_images_its_history_and_the_patients_other_studies(page: Page) -> None:
    desk, ann = page.desk, page.visitor("ann")
    uid, dates = "1.2.826.9.10", {"1.2.826.9.11": "20250102", "1.2.826.9.12": "20260102"}
    for earlier, date in dates.items():
        desk.receive(earlier, content=earlier, patient_id="P-7", study_date=date, accession_number=f"A{date}")
        desk.screen(earlier, 0.1)
    for earlier in dates:
        decisions.review(desk.database, earlier, ReviewOutcome.PNEUMONIA, "Dr Dee", None, desk.clock())
    decisions.withdraw(desk.database, "1.2.826.9.12", "Dr Dee", "the wrong patient", desk.clock())
    desk.receive("1.2.826.9.13", content="somebody else", patient_id="P-8")
    desk.receive(uid, f"{uid}.1", "frontal", path="/inbox/frontal.dcm", patient_id="P-7")
    desk.receive(uid, f"{uid}.2", "lateral", path="/inbox/lateral.dcm", patient_id="P-7", view="LL")
    desk.screen(uid, 0.6, headers=[image(uid), image(uid, view="LL")])
    decisions.prioritise(desk.database, uid, Priority.STAT, "Dr Dee", desk.clock())
    decisions.review(desk.database, uid, ReviewOutcome.UNCERTAIN, "Dr Dee", "see the base", desk.clock())
    page.visitor("ben").get(f"/study/{uid}")
    text = " ".join(re.sub(r"<[^>]*>", " ", ann.get(f"/study/{uid}").text).split())
    for words in (
        "probability 0.600", "not screened, no frontal image", "file frontal.dcm: accepted", "ben opened it",
        "file lateral.dcm: accepted", "screened (revision 1, ", "Dr Dee: uncertain “see the base”", "Dr Dee: STAT",
    ):  # fmt: skip
        assert words in text, words
    listed = re.findall(r'<li><a href="/study/([0-9.]+)">([^<]*)</a>([^<]*)', ann.get(f"/study/{uid}").text)
    assert listed == [
        ("1.2.826.9.12", "2026-01-02, A20260102", ": withdrawn verdict, pneumonia"),
        ("1.2.826.9.11", "2025-01-02, A20250102", ": read as pneumonia"),
    ]


def test_priority_and_requeue_are_in_the_accounts_name(page: Page) -> None:
    reader, operator = page.visitor("ann"), page.visitor("olga", Role.OPERATOR)
    assert reader.post(f"{PATH}/priority", {"priority": "stat"}).status == 303
    assert page.desk.entry(STUDY).priority == Priority.STAT
    assert reader.post(f"{PATH}/priority", {"priority": "nightly"}).status == 422
    assert operator.post(f"{PATH}/requeue").status == 303
    assert operator.post(f"{PATH}/requeue").status == 409
    entries = audit.trail(page.desk.database, page.desk.clock() - timedelta(days=1))
    assert {("ann", "prioritised"), ("olga", "requeued")} <= {(e.who, e.deed) for e in entries}


def test_the_verdict_in_force_is_there_for_those_who_give_none_and_on_paper(page: Page) -> None:
    decisions.review(page.desk.database, STUDY, ReviewOutcome.PNEUMONIA, "Dr Dee", None, page.desk.clock())
    ann, olga = page.visitor("ann"), page.visitor("olga", Role.OPERATOR)
    for text in (ann.get(PATH).text, olga.get(PATH).text):
        before_the_form = text.partition('<form id="verdict"')[0]  # which is not printed
        assert "<strong>In force: pneumonia</strong>, by Dr Dee, " in before_the_form


def test_a_study_that_was_read_comes_back_before_it_is_stat(page: Page) -> None:
    ann = page.visitor("ann")
    assert "Make it STAT" in ann.get(PATH).text
    decisions.review(page.desk.database, STUDY, ReviewOutcome.PNEUMONIA, "Dr Dee", None, page.desk.clock())
    assert "Make it STAT" not in ann.get(PATH).text
    refused = ann.post(f"{PATH}/priority", {"priority": "stat"})
    assert refused.status == 409
    assert "it was read: put it back on the list first" in refused.text


def test_after_verdict_a_reader_judges_first_and_may_judge_again(ready: Ledger) -> None:
    digest = "b" * 64
    with running(ready, reveal=Reveal.AFTER_VERDICT) as page:
        visitor, other = page.visitor("ann"), page.visitor("ben")
        opened = visitor.get(PATH)
        for telling in ("0.900", "flagged</span>", "operating point", 'id="heat"', "band-3"):
            assert telling not in opened.text, telling
        assert visitor.get(f"{PATH}/heat/{digest}").status == 403
        first = visitor.post(f"{PATH}/verdict", fields(opened, outcome="no_pneumonia"))
        assert first.header("Location") == PATH  # now it is shown
        assert "0.900" in visitor.get(PATH).text
        assert visitor.get(f"{PATH}/heat/{digest}").status == 404
        assert give(visitor, "pneumonia").header("Location") == OTHER_PATH
        assert "0.900" not in other.get(PATH).text
    seen = [(review.outcome, bool(review.saw_probability)) for review in reviews(ready)]
    assert seen == [("no_pneumonia", False), ("pneumonia", True)]


def test_agreement_can_be_limited_to_verdicts_given_unseen(ready: Ledger) -> None:
    with running(ready, reveal=Reveal.AFTER_VERDICT) as page:
        give(page.visitor("ann"), "no_pneumonia")
    decisions.review(ready.database, OTHER, ReviewOutcome.PNEUMONIA, "Dr Dee", None, ready.clock())
    with ready.database.reading() as connection:
        (everything,) = connection.execute(sa.text("SELECT * FROM agreement")).all()
        (unseen,) = connection.execute(sa.text("SELECT * FROM agreement_unseen")).all()
    assert (everything.reviewed, unseen.reviewed, unseen.false_positive) == (2, 1, 1)


def test_a_reader_who_follows_the_model_after_all_has_still_disagreed_unseen(ready: Ledger) -> None:
    """Else the studies in which the model changed a reader's mind would be missing among the verdicts given unseen."""

    def agreement(view: str) -> tuple[int, float] | None:
        with ready.database.reading() as connection:
            row = connection.execute(sa.text(f"SELECT reviewed, agreement FROM {view}")).one_or_none()
        return None if row is None else (row.reviewed, float(row.agreement))

    with running(ready, reveal=Reveal.AFTER_VERDICT) as page:
        visitor = page.visitor("ann")
        give(visitor, "no_pneumonia")
        give(visitor, "pneumonia")
    assert (agreement("agreement"), agreement("agreement_unseen")) == ((1, 1.0), (1, 0.0))
    decisions.withdraw(ready.database, STUDY, "ann", "the wrong study", ready.clock())
    assert (agreement("agreement"), agreement("agreement_unseen")) == (None, None)


def test_each_opening_is_in_the_audit_unless_the_setting_says_none(ready: Ledger) -> None:
    for reads, times in ((AuditReads.NONE, 0), (AuditReads.STUDIES, 1)):
        with running(ready, audit_reads=reads) as page:
            page.visitor("ann").get(PATH)
            entries = audit.trail(ready.database, ready.clock() - timedelta(days=1), STUDY)
            assert [e.deed for e in entries].count("shown") == times
    assert "ann opened it" in _history(ready)


def _history(desk: Ledger) -> str:
    with running(desk) as page:
        return page.visitor("ben").get(PATH).text


def test_an_unknown_study_is_not_found(page: Page) -> None:
    assert page.visitor("ann").get("/study/1.2.3").status == 404
    assert page.visitor("ann").get("/study/~not-base64-of-anything").status == 404
