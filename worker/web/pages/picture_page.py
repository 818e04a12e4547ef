"""The routes of pictures. Each is looked up by a digest that the ledger knows; the audit has each once a session."""

import re
from http import HTTPStatus
from typing import Any

from sqlalchemy import Row
from starlette.responses import Response

from schema.vocabulary import AuditAction
from worker.ledger import audit
from worker.web import pictures
from worker.web.browser_request import BrowserRequest
from worker.web.packing import encoding_for
from worker.web.page_context import PageContext
from worker.web.pages.study_page import is_revealed
from worker.web.refusal import Refused
from worker.web.rendering import uid_of
from worker.worklist.study_view import heatmap_of, instance_of, study_view

DIGEST = re.compile(r"[0-9a-f]{64}")

#: A picture never changes under its digest; at log-out `Clear-Site-Data` removes it from the browser.
KEPT = {"Cache-Control": "private, max-age=86400, immutable", "Vary": "Accept-Encoding, Cookie"}


def pixels(context: PageContext, asked: BrowserRequest) -> Response:
    """Packed stored values; the browser undoes their Content-Encoding."""
    encoding = encoding_for(asked.request.headers.get("accept-encoding", ""))
    body = pictures.packed(context, _picture(context, asked), encoding)
    return Response(body, media_type="application/octet-stream", headers=KEPT | {"Content-Encoding": encoding})


def facts(context: PageContext, asked: BrowserRequest) -> Response:
    """What the viewer needs beside the pixels, as JSON."""
    encoding = encoding_for(asked.request.headers.get("accept-encoding", ""))
    return Response(
        pictures.facts(context, _picture(context, asked), encoding), media_type="application/json", headers=KEPT
    )


def half(context: PageContext, asked: BrowserRequest) -> Response:
    """The half-size preview."""
    encoding = encoding_for(asked.request.headers.get("accept-encoding", ""))
    return Response(pictures.half(context, _picture(context, asked), encoding), media_type="image/png", headers=KEPT)


def thumbnail(context: PageContext, asked: BrowserRequest) -> Response:
    """The small picture of the list."""
    return Response(pictures.thumbnail(context, _picture(context, asked)), media_type="image/png", headers=KEPT)


def heat(context: PageContext, asked: BrowserRequest) -> Response:
    """The heat map of an image, to lay over it. Refused until this reader may see what the model said."""
    uid = uid_of(asked.request.path_params["study"])
    view = study_view(context.database, uid, asked.now)
    if not is_revealed(context, view, asked.who.name):
        raise Refused(HTTPStatus.FORBIDDEN, "the heat map is shown after your verdict")
    found = heatmap_of(context.database, uid, _digest(asked))
    if found is None:
        raise Refused(HTTPStatus.NOT_FOUND, "the model made no heat map of this image")
    audit.note(context.database, AuditAction.HEATMAP_SHOWN, asked.who.name, asked.now, [uid], subject=_digest(asked))
    return Response(pictures.heat(found), media_type="image/png")


def _picture(context: PageContext, asked: BrowserRequest) -> Row[Any]:
    """Where the asked image is; its first fetch of a session is in the audit before it is read."""
    kept = instance_of(context.database, _digest(asked))
    if kept is None:
        raise Refused(HTTPStatus.NOT_FOUND, "no study has such an image")
    key = (asked.who.id, kept.digest)
    if context.fetched.get(key) is None:
        who, deed = asked.who.name, AuditAction.PICTURE_FETCHED
        audit.note(context.database, deed, who, asked.now, [kept.study_uid], subject=kept.digest)
        context.fetched.put(key, True)
    return kept


def _digest(asked: BrowserRequest) -> str:
    digest = str(asked.request.path_params["digest"])
    if not DIGEST.fullmatch(digest):
        raise Refused(HTTPStatus.NOT_FOUND, "no study has such an image")
    return digest
