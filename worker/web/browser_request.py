"""The request of a browser: the session of its cookie, the form of its body, the proof that our own page sent it.

Cookies are `HttpOnly` and `SameSite=Strict`. Over TLS they are `Secure`, with the prefix `__Host-`; on this machine's
plain HTTP they have another name without it.
"""

import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from worker.ledger.reading_room import sessions
from worker.ledger.reading_room.sessions import LiveSession
from worker.web import addresses, rendering
from worker.web.page_context import PageContext
from worker.web.permissions import MAY, Permission
from worker.web.refusal import Refused

SESSION, FORM = "session", "form"

#: Fields of a study's forms that a person fills in.
TYPED = ("outcome", "comment", "reason")

#: Fields of the largest form, with room.
MOST_FIELDS = 32


@dataclass(frozen=True)
class BrowserRequest:
    """One request of a browser: its session, its form, and who may ask."""

    request: Request
    form: dict[str, str]
    session: LiveSession | None
    csrf: str  #: token for the forms of the answer
    address: str
    now: datetime

    @property
    def who(self) -> LiveSession:
        """The session, where a route needs one."""
        if self.session is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "log in first")
        return self.session

    def may(self, permission: Permission) -> bool:
        """Whether the account's role allows it."""
        return self.session is not None and permission in MAY[self.session.role]

    @property
    def page_values(self) -> dict[str, Any]:
        """What every template needs."""
        return rendering.page_values(self.request, self.csrf, self.session) | {
            "may": {p.value: self.may(p) for p in Permission}
        }


def read_request(context: PageContext, request: Request, body: bytes) -> BrowserRequest:
    """Find session and form of a request. Raises Refused for a form of another kind."""
    now = context.clock()
    peer = request.client.host if request.client else ""
    session = find_session(context, request, peer, now)
    token = request.cookies.get(cookie_name(context, SESSION if session else FORM), "")
    return BrowserRequest(
        request, form_of(request, body), session, csrf_of(token) if token else "",
        addresses.client(peer, request.headers, context.proxies), now,
    )  # fmt: skip


def find_session(context: PageContext, request: Request, peer: str, now: datetime) -> LiveSession | None:
    """The live session of the cookie. Where a trusted proxy names an account, it must be that account's."""
    token = request.cookies.get(cookie_name(context, SESSION))
    session = sessions.find(context.database, token, now) if token else None
    named = trusted_name(context, request, peer)
    return session if named is None or (session is not None and session.name == named) else None


def trusted_name(context: PageContext, request: Request, peer: str) -> str | None:
    """The account that a proxy at a named address has logged in; None from anywhere else."""
    if not context.settings.web_trusted_header or peer not in context.trusted:
        return None
    named = request.headers.getlist(context.settings.web_trusted_header)
    return named[0] if len(named) == 1 else None  # a second one was sent by somebody else


def form_of(request: Request, body: bytes) -> dict[str, str]:
    """The fields of a form, the first of each name; raises Refused for a body that is none."""
    if request.method != "POST":
        return {}
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a form is expected")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "the form cannot be read") from error
    if any("\0" in value for _, value in fields):  # PostgreSQL stores none
        raise Refused(HTTPStatus.BAD_REQUEST, "the form cannot be read")
    return dict(reversed(fields))


def typed_into(scope: Scope) -> dict[str, str]:
    """What a person typed or chose in a form of a study, by the name of its field; empty for any other request."""
    with suppress(Refused):
        form = form_of(Request(scope), scope.get("screening_body", b""))
        return {name: form[name] for name in TYPED if form.get(name, "").strip()}
    return {}


def check_csrf(asked: BrowserRequest) -> None:
    """Raise Refused unless the form carries the token of this session, or of this log-in page."""
    if not asked.csrf or not hmac.compare_digest(asked.csrf.encode(), asked.form.get("csrf", "").encode()):
        raise Refused(HTTPStatus.FORBIDDEN, "this form is of another session: open the page again")


def csrf_of(token: str) -> str:
    """The form token of a cookie; it does not reveal the cookie."""
    return hmac.digest(token.encode(), b"form", "sha256").hex()


def new_form_cookie() -> str:
    """A cookie for the log-in page, before there is a session."""
    return secrets.token_urlsafe(16)


def cookie_name(context: PageContext, kind: str) -> str:
    """The name of a cookie, which over TLS no other host and no plain page can set."""
    return f"__Host-{kind}" if context.is_over_tls else f"plain-{kind}"


def set_cookie(context: PageContext, response: Response, kind: str, value: str) -> None:
    """Set a cookie of ours for this browser session."""
    response.set_cookie(
        cookie_name(context, kind), value, path="/", secure=context.is_over_tls, httponly=True, samesite="strict"
    )


def drop_cookie(context: PageContext, response: Response, kind: str) -> None:
    """Remove a cookie of ours."""
    response.delete_cookie(
        cookie_name(context, kind), path="/", secure=context.is_over_tls, httponly=True, samesite="strict"
    )
