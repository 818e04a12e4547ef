"""The forms of a study: verdict, back on the list, priority, requeue, taking over and letting go.

All in the name of the account, through the ledger. A refused form comes back with all that was typed.
"""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

from starlette.responses import RedirectResponse, Response

from schema.vocabulary import Priority, ReviewOutcome
from worker.errors import DatabaseUnavailable, Misconfigured, StudyChanged
from worker.ledger import decisions
from worker.ledger.decisions import Seen
from worker.ledger.reading_room import holds
from worker.web.browser_request import BrowserRequest
from worker.web.page_context import PageContext
from worker.web.pages.list_page import hides_model, next_path
from worker.web.pages.study_page import is_revealed, render
from worker.web.rendering import study_path, uid_of
from worker.worklist.study_view import StudyView, has_seen_heatmap, screening_words, study_view

LONGEST_COMMENT = 2_000


def give(context: PageContext, asked: BrowserRequest) -> Response:
    """Store a verdict on what its reader was shown; then the next study, or this one with what the model said."""
    view = _view(context, asked)
    outcome, comment = asked.form.get("outcome", ""), asked.form.get("comment", "").replace("\r\n", "\n").strip()
    fault = _fault(view, asked, outcome, comment)
    if fault:
        return render(context, asked, view, message=fault, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    was_hidden = hides_model(context, asked) and not is_revealed(context, view, asked.who.name)
    try:
        decisions.review(
            context.database, _uid(view), ReviewOutcome(outcome), asked.who.name, comment or None, asked.now,
            context.settings.uncertain_review, _seen(context, asked, view, is_hidden=was_hidden),
        )  # fmt: skip
    except StudyChanged as error:
        fresh = _view(context, asked)
        return render(
            context, asked, fresh, message=error.message, shown_before=_shown_before(context, asked),
            status=HTTPStatus.CONFLICT,
        )  # fmt: skip
    if was_hidden and not context.database.is_silent_run:
        return RedirectResponse(study_path(_uid(view)), HTTPStatus.SEE_OTHER)
    return RedirectResponse(_after_verdict(context, asked, view), HTTPStatus.SEE_OTHER)


def _after_verdict(context: PageContext, asked: BrowserRequest, view: StudyView) -> str:
    """Let go of the study. The path of the next one; of the list where the database is away: the verdict is stored."""
    try:
        holds.release(context.database, view.id, asked.who)
        return next_path(context, asked, but=_uid(view))
    except DatabaseUnavailable:
        return "/"


def withdraw(context: PageContext, asked: BrowserRequest) -> Response:
    """Back on the list, with a reason."""
    view, reason = _view(context, asked), asked.form.get("reason", "").strip()
    if not 0 < len(reason) <= LONGEST_COMMENT:
        message = f"say why, in at most {LONGEST_COMMENT:,} characters"
        return render(context, asked, view, message=message, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return _done(
        context,
        asked,
        view,
        lambda: decisions.withdraw(context.database, _uid(view), asked.who.name, reason, asked.now),
    )


def prioritise(context: PageContext, asked: BrowserRequest) -> Response:
    """STAT or routine."""
    view, named = _view(context, asked), asked.form.get("priority", "")
    if named not in (Priority.STAT, Priority.ROUTINE):
        return render(context, asked, view, message="stat or routine", status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if named == Priority.STAT and view.study["read_at"] is not None:
        message = "it was read: put it back on the list first"
        return render(context, asked, view, message=message, status=HTTPStatus.CONFLICT)
    return _done(
        context,
        asked,
        view,
        lambda: decisions.prioritise(context.database, _uid(view), Priority(named), asked.who.name, asked.now),
    )


def requeue(context: PageContext, asked: BrowserRequest) -> Response:
    """Have it screened again."""
    view = _view(context, asked)
    return _done(
        context,
        asked,
        view,
        lambda: decisions.requeue(context.database, _uid(view), context.settings, asked.now, asked.who.name),
    )


def take_over(context: PageContext, asked: BrowserRequest) -> Response:
    """Take the study over from the holder whom the form names, from nobody else; what was typed stays."""
    view = _view(context, asked)
    if view.holder is not None and view.holder != asked.form.get("from"):
        message = "somebody else reads it by now"
        return render(context, asked, view, message=message, status=HTTPStatus.CONFLICT)
    holds.take_over(context.database, view.id, asked.who, asked.now)
    if asked.form.keys() & {"outcome", "comment"}:
        return render(context, asked, _view(context, asked), message="not stored yet: look again, then confirm")
    return RedirectResponse(study_path(_uid(view)), HTTPStatus.SEE_OTHER)


def release(context: PageContext, asked: BrowserRequest) -> Response:
    """The page was closed: let go, unless a later page of this reader holds the study."""
    holds.release(context.database, _view(context, asked).id, asked.who, asked.form.get("opening", ""))
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _done(context: PageContext, asked: BrowserRequest, view: StudyView, deed: Callable[[], object]) -> Response:
    try:
        deed()
    except Misconfigured as error:  # the ledger says why not
        return render(context, asked, _view(context, asked), message=error.message, status=HTTPStatus.CONFLICT)
    return RedirectResponse(study_path(_uid(view)), HTTPStatus.SEE_OTHER)


def _fault(view: StudyView, asked: BrowserRequest, outcome: str, comment: str) -> str:
    """Why a verdict cannot be stored, or nothing."""
    if outcome not in set(ReviewOutcome):
        return "choose a verdict"
    if len(comment) > LONGEST_COMMENT:
        return f"the comment has {len(comment):,} characters, {LONGEST_COMMENT:,} are kept: shorten it"
    if view.holder not in (None, asked.who.name):
        return f"{view.holder} reads this study: take it over first"
    return ""


def _seen(context: PageContext, asked: BrowserRequest, view: StudyView, *, is_hidden: bool) -> Seen:
    """What the form was made for, and what its reader had been shown by then."""
    return Seen(
        revision=_number(asked.form.get("revision")) or 0,
        screening_id=_number(asked.form.get("screening")),
        review_id=_number(asked.form.get("review")),
        saw_probability=not is_hidden and view.screening is not None and view.screening["probability"] is not None,
        saw_heatmap=has_seen_heatmap(context.database, _uid(view), asked.who.name),
        open_s=_open_s(view, asked.now) if view.holder == asked.who.name else None,
    )


def _open_s(view: StudyView, now: datetime) -> float | None:
    return None if view.held_since is None else max(0.0, (now - view.held_since).total_seconds())


def _shown_before(context: PageContext, asked: BrowserRequest) -> dict[str, object]:
    """What the refused form was made for, to be shown beside what is there now."""
    number = _number(asked.form.get("screening"))
    screening = None if number is None else screening_words(context.database, number)
    return {"revision": _number(asked.form.get("revision")), "screening": screening}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 18 else None


def _view(context: PageContext, asked: BrowserRequest) -> StudyView:
    return study_view(context.database, uid_of(str(asked.request.path_params["study"])), asked.now)


def _uid(view: StudyView) -> str:
    return str(view.study["study_uid"])
