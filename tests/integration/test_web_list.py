"""The list of the page: rows in the order of the worklist, filters, searches that leave no trace, polls."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
import sqlalchemy as sa

from schema.setting_values import AuditReads, Reveal, Silent
from schema.vocabulary import IdentifierMode, Priority, ReviewOutcome, Role
from tests.ledger import Ledger, card, digest, image
from tests.reading_room import Page, Visitor, running
from worker.ledger import audit, decisions
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.reading_room import accounts
from worker.ledger.screening import claims
from worker.ledger.screening.results import ModelUse
from worker.web.pages.json_interface import VERSION
from worker.web.rendering import as_row

INTERFACE = Path(__file__).parents[2] / "deploy" / "interface"
UIDS = [f"1.2.826.9.{n:03d}" for n in range(120)]


@pytest.fixture
def page(desk: Ledger) -> Iterator[Page]:
    with running(desk) as page:
        yield page


def shown(answer_text: str) -> list[str]:
    return re.findall(r'data-uid="([^"]*)"', answer_text)


def filled(desk: Ledger, n: int = 6) -> None:
    """Studies with falling probability, received one minute apart; half of them flagged."""
    for i, uid in enumerate(UIDS[:n]):
        header: dict[str, Any] = {
            "accession_number": f"A-{i}",
            "patient_id": f"P-{i}",
            "study_date": f"2026030{1 + i % 2}",
        }
        desk.receive(uid, content=f"file {i}", station_name=f"room {i % 2}", **header)
        desk.screen(uid, 0.9 - 0.8 * i / n)
        desk.clock.forward(60)


def test_the_rows_have_the_order_of_the_worklist_and_their_places(page: Page) -> None:
    filled(page.desk, 120)
    decisions.prioritise(page.desk.database, UIDS[77], Priority.STAT, "me", page.desk.clock())
    expected = [entry.study_uid for entry in page.desk.worklist()]
    visitor = page.visitor("ann")
    text = visitor.get("/").text
    found, places = shown(text), re.findall(r'class="place">(\d*)<', text)
    while more := re.search(r'hx-get="(/rows\?[^"]*)"', text):
        text = visitor.get(more[1].replace("&amp;", "&")).text
        found += shown(text)
        places += re.findall(r'class="place">(\d*)<', text)
    assert found == expected
    assert [int(place) for place in places] == list(range(1, 121))
    assert found[0] == UIDS[77]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {0, 1, 2, 3, 4}), ("show=flagged", {0, 1, 2}), ("show=read", {5}), ("show=waiting", {3}),
        ("show=attention", set()), ("priority=stat", {4}), ("scanner=room+1", {1, 3}), ("date=2026-03-02", {1, 3}),
        ("show=nonsense&date=yesterday", {0, 1, 2, 3, 4}), ("show=flagged&scanner=room+0", {0, 2}),
        ("scanner=OOM+1", {1, 3}), ("scanner=r%25m", set()), ("scanner=r_om", set()),
    ],
)  # fmt: skip
def test_filters(page: Page, query: str, expected: set[int]) -> None:
    desk = page.desk
    filled(desk)
    decisions.prioritise(desk.database, UIDS[4], Priority.STAT, "me", desk.clock())
    decisions.review(desk.database, UIDS[5], ReviewOutcome.NO_PNEUMONIA, "Dr Dee", None, desk.clock())
    decisions.requeue(desk.database, UIDS[3], desk.settings, desk.clock(), "me")
    text = page.visitor("ann").get(f"/?{query}").text
    assert set(shown(text)) == {UIDS[i] for i in expected}
    count = len(expected)
    assert f"{count} {'study' if count == 1 else 'studies'}" in text


def test_a_scanner_is_found_by_the_very_name_that_it_has(page: Page) -> None:
    """SQLite lowers ASCII alone."""
    page.desk.receive(UIDS[0], content="file", station_name="R\u00d6NTGEN 1")
    for typed in ("R%C3%96NTGEN+1", "r%C3%96ntgen"):
        assert shown(page.visitor("ann").get(f"/?scanner={typed}").text) == [UIDS[0]]


def test_a_row_says_everything_in_words(page: Page) -> None:
    filled(page.desk, 2)
    page.visitor("ben").get(f"/study/{UIDS[0]}")
    decisions.review(page.desk.database, UIDS[1], ReviewOutcome.UNCERTAIN, "Dr Dee", None, page.desk.clock())
    text = page.visitor("ann").get("/").text
    said = ("flagged", "▲", "the probability reaches the operating point", "0.900", "A-0", "P-0", "2026-03-01", "PA")
    for words in (*said, "file 0.dcm", "screened", "ben reads it", "read as uncertain by Dr Dee"):
        assert words in text, words
    assert "operating point 0.50" in text  # drawn into the bar, and said


def test_a_file_received_by_dicom_is_named_by_the_end_of_its_uid(page: Page) -> None:
    """The whole takes five lines of the row; the title has it."""
    name = "1.2.826.0.1.3680043.8.498.78291752523942872407057653880175528718"
    page.desk.receive(UIDS[0], path=f"/store/{name}")
    text = page.visitor("ann").get("/").text
    assert f'title="{name}">…880175528718<' in text


def test_a_row_says_the_verdict_also_where_the_band_says_something_else(page: Page) -> None:
    filled(page.desk, 2)
    desk = page.desk
    desk.model = ModelUse("c" * 64, card(familiarity_limit=1.0), "CPUExecutionProvider")
    desk.receive("1.2.826.9.800", content="odd")
    desk.screen("1.2.826.9.800", 0.95)
    for uid in (UIDS[0], "1.2.826.9.800"):
        decisions.prioritise(desk.database, uid, Priority.STAT, "me", desk.clock())
    odd, first, second = re.findall(r"<tr data-uid.*?</tr>", page.visitor("ann").get("/").text, re.DOTALL)
    assert '<span class="verdict">flagged</span>' in first
    assert "a person gave it priority" in first
    assert "unlike the images the model was made from" in odd
    assert "unlike" not in first + second


@pytest.mark.parametrize(
    ("show", "expected"), [("attention", {6, 8}), ("conflict", {7}), ("unread", {6, 7, 8}), ("flagged", set())]
)
def test_what_needs_a_person_is_on_the_list_and_can_be_asked_for(page: Page, show: str, expected: set[int]) -> None:
    desk = page.desk
    for n in (6, 7, 8):
        desk.receive(UIDS[n], content=f"file {n}", patient_id="P-1")
    desk.screen(UIDS[6], headers=[image(UIDS[6], view="LL")])
    desk.receive(UIDS[7], f"{UIDS[7]}.1.2", "another", patient_id="P-2")
    claims.fail(desk.database, desk.claim(UIDS[8]), "unexpected_error", "a fault", desk.clock(), desk.settings)
    assert set(shown(page.visitor("ann").get(f"/?show={show}").text)) == {UIDS[n] for n in expected}


def test_pictures_are_small_ones_for_readers_and_none_for_operators(page: Page) -> None:
    filled(page.desk, 1)
    assert "/thumbnail" in page.visitor("ann").get("/").text
    assert "/thumbnail" not in page.visitor("olga", Role.OPERATOR).get("/").text


def test_a_search_leaves_no_trace_and_is_its_own_sessions(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    filled(page.desk, 3)
    page.desk.receive("1.2.826.9.500", content="twin", patient_id="P-0", accession_number="A-9")
    visitor = page.visitor("ann")
    for words, uid in (
        ("A-1", UIDS[1]),
        ("P-1", UIDS[1]),
        (UIDS[2], UIDS[2]),
        (UIDS[2][-6:], UIDS[2]),
        ("file 2.dcm", UIDS[2]),
    ):
        answer = visitor.post("/search", {"words": words})
        assert (answer.status, answer.header("Location")) == (303, f"/study/{uid}"), words
    several = visitor.post("/search", {"words": "P-0"}).header("Location")
    assert "P-0" not in several
    assert set(shown(visitor.get(several).text)) == {UIDS[0], "1.2.826.9.500"}
    assert shown(page.visitor("ben").get(several).text) == []
    for words, uids in (("1.2.826.9.500"[-4:], ["1.2.826.9.500"]), ("twin.dcm", ["1.2.826.9.500", "1.2.826.9.501"])):
        page.desk.receive("1.2.826.9.501", content="twin 2", path="/inbox/other/twin.dcm")
        where = visitor.post("/search", {"words": words}).header("Location")
        assert where == f"/study/{uids[0]}" if len(uids) == 1 else set(shown(visitor.get(where).text)) == set(uids)
    page.desk.clock.forward(60)
    assert "No study matches" in visitor.get(visitor.post("/search", {"words": "nobody"}).header("Location")).text
    page.desk.clock.forward(19 * 60)
    visitor.post("/beat", {"input": "1"})
    page.desk.clock.forward(120)
    assert "search again" in visitor.get(several).text
    for planted in ("A-1", "P-0", "nobody", "file 2"):
        assert planted not in caplog.text


def test_open_leads_from_an_accession_number_to_the_study(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    filled(page.desk, 2)
    visitor = page.visitor("ann")
    assert visitor.get("/open?accession=A-1").header("Location") == f"/study/{UIDS[1]}"
    stranger = Visitor(page.port)  # a strict cookie does not come with a foreign link: our page asks once more
    first = stranger.get("/open?accession=A-1", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert first.status == 200
    again = re.search(r'content="0; url=([^"]*)"', first.text)
    assert again is not None
    target = again[1].replace("&amp;", "&")
    assert visitor.get(target).header("Location") == f"/study/{UIDS[1]}"
    login = stranger.get(target).header("Location")
    assert "A-1" not in login
    stranger.csrf = stranger.get(login).field("csrf")
    back = login.partition("next=")[2]
    answer = stranger.post("/login", {"name": "ann", "password": "correct horse battery staple", "next": back})
    assert stranger.get(answer.header("Location")).header("Location") == f"/study/{UIDS[1]}"
    assert "A-1" not in caplog.text


def test_open_gives_a_choice_where_several_studies_answer(page: Page) -> None:
    filled(page.desk, 2)
    page.desk.receive("1.2.826.9.501", content="twin", accession_number="A-1")
    visitor = page.visitor("ann")
    choice = visitor.get("/open?accession=A-1").header("Location")
    assert "A-1" not in choice
    assert set(shown(visitor.get(choice).text)) == {UIDS[1], "1.2.826.9.501"}


def test_a_search_says_where_it_shows_the_newest_alone(page: Page) -> None:
    for uid in UIDS[:51]:
        page.desk.receive(uid, content=uid, patient_id="P-9")
    ann = page.visitor("ann")
    text = ann.get(ann.post("/search", {"words": "P-9"}).header("Location")).text
    assert sorted(shown(text)) == UIDS[1:51]
    assert "the newest 50 studies; there may be more" in text


def test_pseudonyms_are_reckoned_for_a_search(desk: Ledger) -> None:
    desk.settings = attrs.evolve(desk.settings, identifiers=IdentifierMode.PSEUDONYMS)
    policy = IdentifierPolicy.of(desk.settings)
    desk.receive(
        UIDS[0], accession_number=policy.word("accession_number", "A-77"), patient_id=policy.word("patient_id", "P-77")
    )
    with running(desk) as page:
        visitor = page.visitor("ann")
        for words in ("A-77", "P-77"):
            assert visitor.post("/search", {"words": words}).header("Location") == f"/study/{UIDS[0]}"


def test_a_poll_costs_no_body_until_something_changes(page: Page) -> None:
    filled(page.desk, 3)
    visitor = page.visitor("ann")
    first = visitor.get("/rows")
    tag = first.header("ETag")
    assert visitor.get("/rows", If_None_Match=tag).status == 304
    assert visitor.get("/rows", If_None_Match=tag).body == b""
    page.visitor("ben").get(f"/study/{UIDS[2]}")
    changed = visitor.get("/rows", If_None_Match=tag)
    assert changed.status == 200
    assert "ben reads it" in changed.text


def test_a_poll_renders_no_row_that_was_shown_before(page: Page) -> None:
    as_row.cache_clear()
    filled(page.desk, 6)
    visitor = page.visitor("ann")
    tag = visitor.get("/rows").header("ETag")
    page.visitor("ben").get(f"/study/{UIDS[2]}")
    before = as_row.cache_info().misses
    changed = visitor.get("/rows", If_None_Match=tag).text
    assert (len(shown(changed)), "ben reads it" in changed) == (6, True)
    assert as_row.cache_info().misses - before == 1


def test_a_poll_asks_the_database_for_the_session_and_for_the_list_once_each(page: Page) -> None:
    filled(page.desk, 3)
    visitor = page.visitor("ann")
    tag = visitor.get("/rows").header("ETag")
    page.context.looks_at = float("inf")  # whether there is a silent run is asked every five seconds, by one more
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    sa.event.listen(page.desk.database.engine, "before_cursor_execute", note)
    try:
        assert visitor.get("/rows", If_None_Match=tag).status == 304
    finally:
        sa.event.remove(page.desk.database.engine, "before_cursor_execute", note)
    assert len([statement for statement in asked if "SELECT" in statement]) == 2
    assert len(asked) == 2 or page.desk.database.engine.dialect.name == "sqlite"  # which has BEGIN, without a trip


def test_next_is_the_first_that_nobody_reads_and_that_i_have_not_read(page: Page) -> None:
    desk = page.desk
    filled(desk, 4)
    ann, ben = page.visitor("ann"), page.visitor("ben")
    ben.get(f"/study/{UIDS[0]}")
    assert ann.get("/next").header("Location") == f"/study/{UIDS[1]}"
    decisions.review(desk.database, UIDS[1], ReviewOutcome.UNCERTAIN, "ann", None, desk.clock())  # stays on the list
    assert ann.get("/next").header("Location") == f"/study/{UIDS[2]}"
    decisions.withdraw(desk.database, UIDS[1], "ann", "a slip", desk.clock())
    assert ann.get("/next").header("Location") == f"/study/{UIDS[1]}"
    desk.clock.forward(601)
    assert ann.get("/next").header("Location") == f"/study/{UIDS[0]}"  # ben's hold has ended


def test_next_leads_away_from_the_study_that_is_open(page: Page) -> None:
    filled(page.desk, 2)
    ann = page.visitor("ann")
    for here, there in ((0, f"/study/{UIDS[1]}"), (1, f"/study/{UIDS[0]}")):
        link = re.search(r'id="next" href="([^"]*)"', ann.get(f"/study/{UIDS[here]}").text)
        assert link is not None
        assert ann.get(link[1]).header("Location") == there
    decisions.review(page.desk.database, UIDS[0], ReviewOutcome.PNEUMONIA, "ann", None, page.desk.clock())
    assert ann.get(f"/next?but={UIDS[1]}").header("Location") == "/", "nothing else is left"


def test_the_next_picture_is_named_for_fetching_without_a_hold(page: Page) -> None:
    desk = page.desk
    filled(desk, 2)
    ann = page.visitor("ann")
    ann.get(f"/study/{UIDS[0]}")
    held = desk.count("hold")
    named = json.loads(ann.get(f"/study/{UIDS[0]}/next").text)
    assert named == {"digests": [digest("file 1")]}
    assert desk.count("hold") == held
    decisions.review(desk.database, UIDS[1], ReviewOutcome.PNEUMONIA, "ben", None, desk.clock())
    assert json.loads(ann.get(f"/study/{UIDS[0]}/next").text) == {"digests": []}


def test_the_list_is_in_the_audit_where_the_setting_says_so(desk: Ledger) -> None:
    filled(desk, 1)
    for reads, times in ((AuditReads.STUDIES, 0), (AuditReads.LISTS, 1)):
        with running(desk, audit_reads=reads) as page:
            visitor = page.visitor("ann")
            before = len(audit.trail(desk.database, desk.clock() - timedelta(days=1)))
            visitor.get("/")
            deeds = [e.deed for e in audit.trail(desk.database, desk.clock() - timedelta(days=1))[before:]]
            assert deeds == ["listed"] * times


def test_after_verdict_the_list_keeps_its_order_and_hides_what_the_model_said(desk: Ledger) -> None:
    filled(desk, 4)
    with running(desk, reveal=Reveal.AFTER_VERDICT) as page:
        visitor = page.visitor("ann")
        for path in ("/", "/?show=flagged", "/rows"):
            text = visitor.get(path).text
            assert shown(text) == UIDS[:4]
            for telling in ("▲", "○", "0.900", "operating point", "below", "band-3", "band-6"):
                assert telling not in text, telling
        assert "▲" in page.visitor("olga", Role.OPERATOR).get("/").text


def test_no_url_of_a_hidden_list_tells_band_or_probability(desk: Ledger) -> None:
    filled(desk, 120)
    with running(desk, reveal=Reveal.AFTER_VERDICT) as page:
        visitor = page.visitor("ann")
        text, found = visitor.get("/").text, []
        found += shown(text)
        while more := re.search(r'hx-get="/rows\?after=([^"]*)"', text):
            assert not re.match(r"\d+-\d+-\d+", more[1])
            text = visitor.get(f"/rows?after={more[1]}").text
            found += shown(text)
        assert found == UIDS


def test_in_a_silent_run_nobody_sees_what_the_model_said(desk: Ledger) -> None:
    desk.database.is_silent_run = True
    try:
        filled(desk, 4)
        with running(desk, silent=Silent.ON) as page:
            for visitor in (page.visitor("ann"), page.visitor("root", Role.ADMIN)):
                for path in ("/", "/rows", f"/study/{UIDS[0]}"):
                    assert "0.900" not in visitor.get(path).text
    finally:
        desk.database.is_silent_run = False


@pytest.mark.parametrize(
    ("schema", "path"), [("worklist", "worklist"), ("study", f"studies/{UIDS[0]}"), ("health", "health")]
)
def test_answers_have_the_shape_that_is_promised(page: Page, schema: str, path: str) -> None:
    desk = page.desk
    filled(desk, 3)
    desk.receive("1.2.826.9.900", content="waits")
    decisions.review(desk.database, UIDS[0], ReviewOutcome.NOT_ASSESSABLE, "Dr Dee", None, desk.clock())
    token = accounts.make_token(desk.database, "ris", accounts.SCOPES, "me", desk.clock())
    answer = json.loads(page.visitor().get(f"/api/v1/{path}", Authorization=f"Bearer {token}").text)
    promised = json.loads((INTERFACE / f"{schema}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(promised)
    jsonschema.validate(answer, promised)


def test_other_systems_read_with_a_token_of_their_scope(page: Page) -> None:
    desk = page.desk
    filled(desk, 3)
    token = accounts.make_token(desk.database, "ris", ("worklist", "health"), "me", desk.clock())
    bearer = {"Authorization": f"Bearer {token}"}
    visitor = page.visitor()
    listed = json.loads(visitor.get("/api/v1/worklist", **bearer).text)
    assert [study["study_uid"] for study in listed["studies"]] == UIDS[:3]
    assert (listed["version"], listed["total"], listed["next"], listed["research_use_only"]) == (VERSION, 3, None, True)
    assert json.loads(visitor.get("/api/v1/health", **bearer).text)["unread"] == 3
    assert visitor.get(f"/api/v1/studies/{UIDS[0]}", **bearer).status == 403
    assert visitor.get("/api/v1/worklist").status == 401
    assert visitor.get("/api/v1/worklist", Authorization="Bearer wrong").status == 401
    assert page.visitor("ann").get("/api/v1/worklist").status == 401  # a session is no token
    entries = audit.trail(desk.database, desk.clock() - timedelta(days=1))
    assert [e.who for e in entries if e.deed == "interface_read"] == ["ris", "ris"]
    accounts.revoke_token(desk.database, "ris", "me", desk.clock())
    assert visitor.get("/api/v1/worklist", **bearer).status == 401


def test_other_systems_hear_that_a_study_is_unknown_whatever_they_call_it(page: Page) -> None:
    token = accounts.make_token(page.desk.database, "ris", accounts.SCOPES, "me", page.desk.clock())
    for uid in ("1.2.3", "1" * 300, "~" + "QUFB" * 100):
        answer = page.visitor().get(f"/api/v1/studies/{uid}", Authorization=f"Bearer {token}")
        assert (answer.status, answer.text) == (404, "no such study [unknown_study]\n")
    entries = audit.trail(page.desk.database, page.desk.clock() - timedelta(days=1))
    asked = [(e.who, e.study_uid, e.detail) for e in entries if e.deed == "interface_read"]
    assert asked == 3 * [("ris", None, "studies: no such study")]


def test_a_poll_that_makes_no_rows_misses_nothing(page: Page) -> None:
    """Whatever the list shows of a study or beside it: the next poll after it brings it."""
    desk = page.desk
    filled(desk, 3)
    visitor, other = page.visitor("ann"), page.visitor("ben")
    first, second = UIDS[:2]

    def changes(act: Callable[[], object]) -> bool:
        tag = visitor.get("/rows").header("ETag")
        assert [visitor.get("/rows", If_None_Match=tag).status for _ in range(2)] == [304, 304]
        act()
        return visitor.get("/rows", If_None_Match=tag).status == 200

    desk_review = partial(decisions.review, desk.database, reader="Dr Dee", comment=None, now=desk.clock())
    acts: tuple[Callable[[], object], ...] = (
        lambda: other.get(f"/study/{first}"),
        lambda: other.post("/logout"),
        lambda: desk_review(study=first, outcome=ReviewOutcome.UNCERTAIN),
        lambda: desk_review(study=first, outcome=ReviewOutcome.NOT_ASSESSABLE),
        lambda: decisions.withdraw(desk.database, first, "Dr Dee", "no", desk.clock()),
        lambda: desk_review(study=second, outcome=ReviewOutcome.PNEUMONIA),
        lambda: decisions.prioritise(desk.database, first, Priority.STAT, "me", desk.clock()),
        lambda: desk.receive(first, f"{first}.1.2", "another"),
        lambda: desk.screen(first, 0.2),
        lambda: decisions.requeue(desk.database, first, desk.settings, desk.clock(), "me"),
        lambda: desk.receive("1.2.826.9.901", content="new"),
        lambda: desk.clock.forward(120),
    )
    for n, act in enumerate(acts):
        assert changes(act), n
