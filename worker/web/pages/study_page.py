"""The page of one study: pictures, what the model said where it may be shown, history, and the form of a verdict.

Name, sex, birth date and description are read from the stored file for this page alone, where identifiers are plain.
"""

from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from schema.setting_values import AuditReads
from schema.vocabulary import AuditAction, IdentifierMode, ReviewOutcome
from worker.errors import Interrupted, Rejected
from worker.imaging.viewer_data import Person, read_view
from worker.inference.card import Population
from worker.ledger import audit
from worker.ledger.reading_room import holds
from worker.ledger.reading_room.sessions import note_input
from worker.screening.ages import in_words
from worker.store.fetch import fetch
from worker.web import rendering
from worker.web.browser_request import BrowserRequest
from worker.web.page_context import PageContext
from worker.web.pages.list_page import hides_model
from worker.web.permissions import Permission
from worker.web.rendering import uid_of
from worker.worklist.study_view import StudyView, instance_of, study_view


def show(context: PageContext, asked: BrowserRequest) -> Response:
    """Open a study: the audit first, then the hold of a reader, then the page."""
    uid = uid_of(str(asked.request.path_params["study"]))
    view = study_view(context.database, uid, asked.now)
    if context.settings.audit_reads is not AuditReads.NONE:
        audit.note(context.database, AuditAction.SHOWN, asked.who.name, asked.now, [uid])
    if asked.may(Permission.VERDICT):
        holds.take(context.database, view.id, asked.who, asked.now)
        view = study_view(context.database, uid, asked.now)
    return render(context, asked, view)


def render(
    context: PageContext, asked: BrowserRequest, view: StudyView, *, message: str = "",
    shown_before: dict[str, Any] | None = None, status: HTTPStatus = HTTPStatus.OK,
) -> Response:  # fmt: skip
    """The page, with what was typed if a form was refused."""
    is_open = not hides_model(context, asked) or is_revealed(context, view, asked.who.name)
    newest, is_mine = view.newest_review, view.holder == asked.who.name
    return rendering.page(
        "study", status,
        view=view, uid=view.study["study_uid"], is_revealed=is_open, message=message,
        opening=view.opening if is_mine else "", outside=outside_population(view),
        is_silent=context.database.is_silent_run, shown_before=shown_before, typed=asked.form,
        outcomes=list(ReviewOutcome),
        person=_person(context, view) if asked.may(Permission.LOOK) else Person(),
        images=[image for image in view.images if not image["superseded"]],
        held_by_other=None if is_mine else view.holder,
        in_force=newest if newest and not newest["withdrawn_at"] else None,
        review_id="" if newest is None else newest["id"],
        screening_id=view.study["current_screening_id"] or "", now=asked.now, **asked.page_values,
    )  # fmt: skip


def beat(context: PageContext, asked: BrowserRequest) -> Response:
    """The page is still open: says who holds the study. Only input prolongs hold and session."""
    view = study_view(context.database, uid_of(str(asked.request.path_params["study"])), asked.now)
    if asked.form.get("input") == "1":
        note_input(context.database, asked.who, asked.now)
        if view.holder == asked.who.name:
            holds.prolong(context.database, view.id, asked.who, asked.now)
    shown = (asked.form.get("revision"), asked.form.get("screening"))
    current = (str(view.study["revision"]), str(view.study["current_screening_id"] or ""))
    holders = {None: "none", asked.who.name: "own"}
    headers = {
        "X-Holder": holders.get(view.holder, "other"),
        "X-Changed": "no" if shown == current else "yes",
    }
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)


def is_revealed(context: PageContext, view: StudyView, reader: str) -> bool:
    """Whether a reader may see what the model said: always, or after an own verdict on this result; in a silent run
    never."""
    if context.database.is_silent_run:
        return False
    if not context.hides_model:
        return True
    current = view.study["current_screening_id"]
    return any(review["reader"] == reader and review["screening_id"] == current for review in view.reviews)


def outside_population(view: StudyView) -> str:
    """The ages for which the model of the result was not made; nothing where it was made for all."""
    if not view.model:
        return ""
    population = Population(**view.model["population"])
    ages = sorted({image["age_years"] for image in view.images if not population.admits(image["age_years"])})
    return ", ".join(f"age {in_words(age)}" for age in ages)


def _person(context: PageContext, view: StudyView) -> Person:
    """What the header of the first readable image says of the patient; nothing where identifiers are pseudonyms."""
    if context.settings.identifiers is not IdentifierMode.PLAIN:
        return Person()
    for image in view.images:
        kept = None if image["unreadable"] else instance_of(context.database, image["digest"])
        if kept is None:
            continue
        try:
            return read_view(fetch(context.store, kept.digest, kept.left_at, kept.crc), context.limits).person
        except (Rejected, Interrupted):  # the images list says why it cannot be shown
            continue
    return Person()
