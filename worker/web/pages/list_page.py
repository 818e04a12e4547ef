"""The list: filters in the URL, searches by a short-lived token, pages by key, an ETag for the polls."""

import hashlib
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, RedirectResponse, Response

from schema.setting_values import AuditReads
from schema.vocabulary import AuditAction, Band, Priority
from worker.ledger import audit
from worker.ledger.lookup import find_meant
from worker.ledger.reading_room.sessions import note_input
from worker.ledger.transactions import reading
from worker.ledger.worklist import overdue
from worker.web import rendering, wording
from worker.web.browser_request import BrowserRequest
from worker.web.page_context import PageContext
from worker.web.permissions import Permission
from worker.web.rendering import study_path, uid_of
from worker.worklist import changes, page_list, quarantined_files, signs_of_life, underway, unread_list
from worker.worklist.next_study import next_unread
from worker.worklist.page_list import Filter, Key, ListRow, Show
from worker.worklist.signs_of_life import SignsOfLife
from worker.worklist.study_view import MOST_FOUND, find

LONGEST_SEARCH = 256

#: What the list says of a study whose result its reader may not see yet.
HIDDEN = "shown after your verdict"


def show(context: PageContext, asked: BrowserRequest) -> Response:
    """The whole page."""
    _note_list(context, asked)
    if unread_list.is_stale(context.database, asked.now):  # no sweep may be running
        overdue.advance(context.database, asked.now)
    values = _values(context, asked, signs_of_life.signs_of_life(context.database))
    return rendering.page("list", **values, **asked.page_values)


def rows(context: PageContext, asked: BrowserRequest) -> Response:
    """The rows alone, for polls and for the next page; 304 when nothing has changed."""
    if asked.request.query_params.get("after"):
        _note_list(context, asked)
    known = asked.request.headers.get("if-none-match")
    seen, signs = changes.list_signature(context.database, asked.now)
    signature = _signature(context, asked, seen, signs)
    if known and signature and context.polls.get(asked.who.id) == (signature, known):
        return _unchanged(known, signs)
    values = _values(context, asked, signs)
    tag = _tag(values)
    if signature:
        context.polls.put(asked.who.id, (signature, tag))
    if known == tag:
        return _unchanged(tag, signs)
    answer = rendering.page("polled", **values, **asked.page_values)
    answer.headers.update(_poll_headers(tag, signs))
    return answer


def _unchanged(tag: str, signs: SignsOfLife) -> Response:
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_poll_headers(tag, signs))


def _poll_headers(tag: str, signs: SignsOfLife) -> dict[str, str]:
    """The ETag, and when each process was last seen alive: an answer without a body has these too."""
    seen_at = ", ".join(f"{kind}={at:{wording.MOMENT}}" for kind, at in signs.seen_at.items())
    return {"ETag": tag, "X-Seen-At": seen_at}


def _signature(context: PageContext, asked: BrowserRequest, seen: str, signs: SignsOfLife) -> str:
    """A text that differs with all that the unread list shows this person; empty for any other list."""
    if asked_filter(context, asked) != Filter() or {"after", "search"} & asked.request.query_params.keys():
        return ""
    shown = (hides_model(context, asked), context.database.is_silent_run, _beside(signs, asked.now))
    return f"{seen} {shown}"


def search(context: PageContext, asked: BrowserRequest) -> Response:
    """Remember the words under a token, so that no URL and no log has them."""
    return _to_study_or_list(context, asked, asked.form.get("words", "").strip()[:LONGEST_SEARCH])


def open_study(context: PageContext, asked: BrowserRequest) -> Response:
    """A link from another system: leads to the study. A strict cookie does not come with such a link, so the answer
    without a session is a page of ours that asks once more."""
    query = asked.request.query_params
    said = (query.get("accession") or query.get("study") or "").strip()[:LONGEST_SEARCH]
    if asked.session is None:
        if "again" not in query:
            return rendering.page("again", **{**asked.page_values, "query": dict(query)})
        return RedirectResponse(f"/login?next=/opened/{context.remember(said)}", HTTPStatus.SEE_OTHER)
    return _to_study_or_list(context, asked, said)


def opened(context: PageContext, asked: BrowserRequest) -> Response:
    """What `/open` was asked for, after the log-in."""
    return _to_study_or_list(context, asked, context.recall(str(asked.request.path_params["token"])) or "")


def _to_study_or_list(context: PageContext, asked: BrowserRequest, said: str) -> Response:
    """Lead to the one study that somebody means, else to the list of all that match."""
    found = matches(context, said)
    if len(found) == 1:
        return RedirectResponse(study_path(found[0]), HTTPStatus.SEE_OTHER)
    return RedirectResponse(f"/?search={context.remember(said, asked.who.id)}", HTTPStatus.SEE_OTHER)


def next_study(context: PageContext, asked: BrowserRequest) -> Response:
    """Lead to the first unread study that nobody reads, but not to the one that is left."""
    but = uid_of(asked.request.query_params.get("but", ""))
    return RedirectResponse(next_path(context, asked, but=but), HTTPStatus.SEE_OTHER)


def next_pictures(context: PageContext, asked: BrowserRequest) -> Response:
    """The digest of the first picture of the study that would come next, so that it is fetched while one reads."""
    but = uid_of(str(asked.request.path_params["study"]))
    found = next_unread(context.database, asked.who.name, but, asked.now)
    rows = [] if found is None else page_list.of_studies(context.database, [found], asked.now)
    return JSONResponse({"digests": [row.digest for row in rows if row.digest]})


def beat(context: PageContext, asked: BrowserRequest) -> Response:
    """The list is still open; only input prolongs the session."""
    if asked.form.get("input") == "1":
        note_input(context.database, asked.who, asked.now)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def quarantine(context: PageContext, asked: BrowserRequest) -> Response:
    """The files that could not be read."""
    _note_list(context, asked)
    return rendering.page("quarantine", files=quarantined_files.quarantine(context.database), **asked.page_values)


def next_path(context: PageContext, asked: BrowserRequest, but: str) -> str:
    """The path of the next study to read; the list when there is none."""
    found = next_unread(context.database, asked.who.name, but, asked.now)
    return "/" if found is None else study_path(found)


def matches(context: PageContext, said: str) -> list[str]:
    """UIDs of the studies that somebody means: by accession number, patient ID, UID or its end, or file name."""
    if not said:
        return []
    elements = (("accession", "accession_number"), ("patient", "patient_id"))
    for way, element in elements:
        for name in dict.fromkeys((said, context.identifiers.name(element, said))):
            found = find(context.database, way, name)
            if found:
                return found
    with reading(context.database) as connection:
        return find_meant(connection, said, context.identifiers, MOST_FOUND)


def masked(context: PageContext, asked: BrowserRequest, row: ListRow) -> ListRow:
    """A row without what the model said, where its reader has to judge first; its place in the list stays."""
    is_own = row.is_read and row.review_reader == asked.who.name and not context.database.is_silent_run
    return row if is_own or not hides_model(context, asked) else without_model(row)


def without_model(row: ListRow) -> ListRow:
    """A row without what tells FLAGGED from NOT_FLAGGED."""
    band = Band.WAITING if row.key.band in (Band.FLAGGED, Band.NOT_FLAGGED) else row.key.band
    reason = HIDDEN if row.reason in wording.TELLING else row.reason
    told = row.verdict_reason if row.verdict_reason not in wording.TELLING else None
    detail = row.verdict_detail if told else None
    verdict = row.verdict if row.verdict in ("unscreenable", "ineligible") else None
    key = replace(row.key, band=band)
    return replace(
        row, key=key, reason=reason, verdict_reason=told, verdict_detail=detail, verdict=verdict, probability=None
    )


def hides_model(context: PageContext, asked: BrowserRequest) -> bool:
    """Whether this person judges before the model is shown; in a silent run nobody is shown what it said."""
    return context.database.is_silent_run or (context.hides_model and asked.may(Permission.VERDICT))


def asked_filter(context: PageContext, asked: BrowserRequest) -> Filter:
    """The filter of the URL; what it does not know is ignored."""
    query = asked.request.query_params
    show = query.get("show", "")
    priority, date = query.get("priority", ""), query.get("date", "").replace("-", "")
    if show not in set(Show) or (show == Show.FLAGGED and hides_model(context, asked)):
        show = Show.UNREAD
    return Filter(
        Show(show), priority if priority in set(Priority) else "", query.get("scanner", "")[:64].strip(),
        date if len(date) == 8 and date.isascii() and date.isdecimal() else "",
    )  # fmt: skip


def _values(context: PageContext, asked: BrowserRequest, signs: SignsOfLife) -> dict[str, Any]:
    query = asked.request.query_params
    chosen, after = asked_filter(context, asked), _after(context, asked)
    token = query.get("search", "")
    said = context.recall(token, asked.who.id) if token else None
    if token:
        found = page_list.of_studies(context.database, matches(context, said or ""), asked.now)
        total, more = len(found), None
    else:
        found = page_list.rows(context.database, chosen, after, asked.now)
        total = page_list.count(context.database, chosen)
        more = _key(context, asked, found[-1].key) if len(found) == page_list.PAGE else None
    return {
        "rows": [masked(context, asked, row) for row in found],
        "total": total,
        "is_cut": bool(token) and total == MOST_FOUND,
        "more": more,
        "after": query.get("after", ""),
        "filter": chosen,
        "shows": [show for show in Show if show is not Show.FLAGGED or not hides_model(context, asked)],
        "priorities": list(Priority),
        "search": token,
        "said": said,
        "url_filter": {k: v for k, v in vars(chosen).items() if v and v != Show.UNREAD},
        "hidden": HIDDEN,
        "signs": signs,
        "missing": signs.missing(asked.now),
        "waited_s": underway.longest_wait_s(context.database, asked.now),
        "now": asked.now,
    }


def _key(context: PageContext, asked: BrowserRequest, key: Key) -> str:
    """A row's key in a URL. It contains band and probability: where the model is hidden, a token takes its place."""
    return context.remember(str(key), asked.who.id) if hides_model(context, asked) else str(key)


def _after(context: PageContext, asked: BrowserRequest) -> Key | None:
    said = asked.request.query_params.get("after", "")
    return Key.read(said) or Key.read(context.recall(said, asked.who.id) or "")


def _tag(values: dict[str, Any]) -> str:
    """An ETag of what the rows and the signs beside them show. Times that only grow are left to the page's script, and
    those of the processes that live to a header."""
    beside = _beside(values["signs"], values["now"])
    shown = (values["rows"], values["total"], values["more"] is None, beside, int(values["waited_s"] // 60))
    return f'"{hashlib.sha256(repr(shown).encode()).hexdigest()[:32]}"'


def _beside(signs: SignsOfLife, now: datetime) -> tuple[object, ...]:
    """What the page shows beside the list."""
    return signs.last_file_at, signs.last_result_at, signs.quarantined, signs.missing(now)


def _note_list(context: PageContext, asked: BrowserRequest) -> None:
    if context.settings.audit_reads is AuditReads.LISTS:
        audit.note(context.database, AuditAction.LISTED, asked.who.name, asked.now)
