"""The JSON interface for other systems: read-only, with bearer tokens of named scopes. Fields are added, never changed.

The shapes are in deploy/interface/*.schema.json.
"""

from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response

from schema.vocabulary import AuditAction
from worker.errors import UnknownStudy
from worker.ledger import audit
from worker.ledger.reading_room import accounts
from worker.web.browser_request import BrowserRequest
from worker.web.page_context import PageContext
from worker.web.pages.list_page import without_model
from worker.web.refusal import Refused
from worker.web.rendering import uid_of
from worker.worklist import page_list, signs_of_life, underway, unread_list
from worker.worklist.page_list import Filter, Key, ListRow
from worker.worklist.study_view import study_view

VERSION = 1


def worklist(context: PageContext, asked: BrowserRequest) -> Response:
    """A page of the unread studies in the order of the list; `next` is the `after` of the following page."""
    _note(context, asked, _admitted(context, asked, "worklist"), "worklist")
    found = page_list.rows(context.database, Filter(), Key.read(asked.request.query_params.get("after", "")), asked.now)
    return _answer(
        total=page_list.count(context.database, Filter()),
        studies=[_row(context, row) for row in found],
        next=str(found[-1].key) if len(found) == page_list.PAGE else None,
    )


def study(context: PageContext, asked: BrowserRequest) -> Response:
    """One study with its results, images and verdicts."""
    uid = uid_of(str(asked.request.path_params["study"]))
    name = _admitted(context, asked, "studies")
    try:
        view = study_view(context.database, uid, asked.now)
    except UnknownStudy:
        _note(context, asked, name, "studies: no such study")
        raise
    _note(context, asked, name, "studies", uid)
    row = page_list.of_studies(context.database, [uid], asked.now)[0]
    return _answer(
        study=_row(context, row) | {"revision": row.revision, "is_read": row.is_read},
        images=[
            {
                "sop_instance_uid": image["sop_instance_uid"],
                "view": image["view"],
                "exclusion": image["exclusion"],
                "unreadable": image["unreadable"] or image["unreadable_now"],
                "probability": None if context.database.is_silent_run else image["probability"],
            }
            for image in view.images
        ],
        verdicts=[
            {
                "outcome": review["outcome"],
                "reader": review["reader"],
                "reviewed_at": review["reviewed_at"].isoformat(),
                "is_withdrawn": review["withdrawn_at"] is not None,
            }
            for review in view.reviews
        ],
    )


def health(context: PageContext, asked: BrowserRequest) -> Response:
    """Whether studies get their results in time."""
    _note(context, asked, _admitted(context, asked, "health"), "health")
    waited_s = underway.longest_wait_s(context.database, asked.now)
    signs = signs_of_life.signs_of_life(context.database)
    return _answer(
        is_well=waited_s <= context.settings.alarm_after_s,
        longest_wait_s=round(waited_s, 1),
        unread=unread_list.count(context.database),
        quarantined_files=signs.quarantined,
        last_file_at=None if signs.last_file_at is None else signs.last_file_at.isoformat(),
        last_result_at=None if signs.last_result_at is None else signs.last_result_at.isoformat(),
        last_seen_at={str(kind): at.isoformat() for kind, at in signs.seen_at.items()},
        missing=[str(kind) for kind in signs.missing(asked.now)],
    )


def _admitted(context: PageContext, asked: BrowserRequest, scope: str) -> str:
    """The name of the token; raises Refused unless it opens this."""
    kind, _, token = asked.request.headers.get("authorization", "").partition(" ")
    found = accounts.token_scopes(context.database, token) if kind.lower() == "bearer" and token else None
    if found is None:
        raise Refused(HTTPStatus.UNAUTHORIZED, "a bearer token is needed: `worker user token`")
    name, scopes = found
    if scope not in scopes:
        raise Refused(HTTPStatus.FORBIDDEN, f"this token does not open {scope}")
    return name


def _note(context: PageContext, asked: BrowserRequest, name: str, detail: str, uid: str | None = None) -> None:
    """The audit has each read before it is answered; `uid` is that of a study that is there."""
    audit.note(context.database, AuditAction.INTERFACE_READ, name, asked.now, [uid], detail=detail)


def _row(context: PageContext, row: ListRow) -> dict[str, Any]:
    row = without_model(row) if context.database.is_silent_run else row
    names = (
        "place", "study_uid", "accession_number", "patient_id", "study_date", "state", "verdict", "probability",
        "threshold", "reason", "verdict_reason", "conflict", "failure_code", "priority", "review_outcome",
    )  # fmt: skip
    return {name: getattr(row, name) for name in names} | {
        "band": row.key.band,
        "received_at": row.received_at.isoformat(),
    }


def _answer(**values: Any) -> JSONResponse:
    return JSONResponse({"version": VERSION, "research_use_only": True, **values})
