"""Checks every request before a page sees it (bounds, raw path, Host, Origin), and sets the headers of every answer.

An unexpected error ends here: one line in the log with a code and an id, without any text of the request.
"""

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.errors import DatabaseUnavailable, Interrupted, Rejected, ScreeningError, UnknownStudy
from worker.runtime.error_place import place_of
from worker.web import addresses, rendering
from worker.web.browser_request import typed_into
from worker.web.page_context import PageContext
from worker.web.refusal import Refused

log = logging.getLogger(__name__)

MOST_BODY_BYTES = 64 * 1024
MOST_HEADER_BYTES = 16 * 1024
MOST_AT_A_TIME = 64
BODY_DEADLINE_S = 10.0

#: A request whose body is still awaited does not count among those under way, so that slow clients hold up nobody. Such
#: requests have bounds of their own, for all and for one address.
MOST_AWAITED, MOST_AWAITED_OF_AN_ADDRESS = 128, 16

#: A path of ours as it is sent; nothing in it needs an escape, so an escape is refused and never undone.
RAW_PATH = re.compile(rb"/([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)*([A-Za-z0-9_~-][A-Za-z0-9._~-]*)?")
STUDY = re.compile(r"/study/[^/]+")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SAFE = frozenset({"GET", "HEAD"})

#: Errors that are answers. Everything else is a bug.
STATUS: dict[type[ScreeningError], HTTPStatus] = {
    UnknownStudy: HTTPStatus.NOT_FOUND,
    DatabaseUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Interrupted: HTTPStatus.SERVICE_UNAVAILABLE,
    Rejected: HTTPStatus.UNPROCESSABLE_ENTITY,
    ScreeningError: HTTPStatus.CONFLICT,
}


class Guard:
    """The outermost layer of the page."""

    def __init__(self, app: ASGIApp, context: PageContext, most_at_a_time: int = MOST_AT_A_TIME) -> None:
        self.app, self.context, self.most_at_a_time = app, context, most_at_a_time
        self.under_way = 0
        self.awaited: Counter[str] = Counter()  #: address -> requests whose body is awaited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; sockets of other kinds are closed."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, request_id, status = time.monotonic(), secrets.token_hex(6), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(MutableHeaders(scope=message))
            await send(message)

        try:
            self._check(scope)
            with self._awaiting(scope):
                body = await self._body(scope, receive)
            with self._under_way():
                await self.app(scope, _replay(body, receive), send_guarded)
        except ScreeningError as error:
            await refusal(scope, error)(scope, receive, send_guarded)
        except Exception as error:  # noqa: BLE001  (the boundary of a request)
            log.error(
                "request_failed", extra={"id": request_id, "code": type(error).__name__, "place": place_of(error)}
            )
            if not status:
                await fault(scope, request_id)(scope, receive, send_guarded)
        route = scope.get("route_name", "none")  # never the path: it may be anybody's text
        took_ms = round(1000 * (time.monotonic() - began), 1)
        log.info("request", extra={"id": request_id, "route": route, "status": status, "took_ms": took_ms})

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """Count a request that is answered now; raises Refused for one too many."""
        if self.under_way >= self.most_at_a_time:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at a time: try again")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    @contextmanager
    def _awaiting(self, scope: Scope) -> Iterator[None]:
        """Count a request whose body is awaited; raises Refused for one too many, of all or of its address."""
        peer = scope["client"][0] if scope["client"] else ""
        address = addresses.client(peer, Headers(scope=scope), self.context.proxies)
        if self.awaited.total() >= MOST_AWAITED or self.awaited[address] >= MOST_AWAITED_OF_AN_ADDRESS:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at a time: try again")
        self.awaited[address] += 1
        try:
            yield
        finally:
            self.awaited[address] -= 1
            if not self.awaited[address]:
                del self.awaited[address]

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        sizes = (len(name) + len(value) + 4 for name, value in scope["headers"])
        if "transfer-encoding" in headers and "content-length" in headers:  # RFC 9112 6.1: two ends of one request
            raise Refused(HTTPStatus.BAD_REQUEST, "the request has two lengths")
        if b"%00" in scope["query_string"]:
            raise Refused(HTTPStatus.BAD_REQUEST, "there is no such page")
        peer = scope["client"][0] if scope["client"] else ""
        if self.context.proxies and not self.context.settings.web_tls_certificate and peer not in self.context.proxies:
            raise Refused(HTTPStatus.FORBIDDEN, "the page is reached through its proxy alone")
        if sum(sizes) + len(scope["raw_path"]) + len(scope["query_string"]) > MOST_HEADER_BYTES:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "more than 16 kB of header")
        if not RAW_PATH.fullmatch(scope["raw_path"]):
            raise Refused(HTTPStatus.BAD_REQUEST, "there is no such path")
        host = headers.get("host", "").lower()
        match = HOST.fullmatch(host)
        if len(headers.getlist("host")) != 1 or match is None or match[1] not in self.context.hosts:
            raise Refused(HTTPStatus.BAD_REQUEST, "not a name of this page: set SCREENING_WEB_HOSTS")
        is_reading = scope["method"] in SAFE
        is_allowed = self._is_ours_or_a_link(headers) if is_reading else self._is_from_our_page(headers, host)
        if not is_allowed:
            raise Refused(HTTPStatus.FORBIDDEN, "the request does not come from this page")

    def _is_ours_or_a_link(self, headers: Headers) -> bool:
        """Whether this page itself asks, or a person who follows a link of another page.

        Another page, also one on another port of this host (which gets the same cookies), may not fetch anything: else
        it could open a study with a reader's browser, and the study would be held and audited in the reader's name.
        """
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        is_link = (
            headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
        )
        return is_link or not is_foreign

    def _is_from_our_page(self, headers: Headers, host: str) -> bool:
        """Whether our own page sends this form: by Sec-Fetch-Site, else by Origin.

        With our `no-referrer` browsers may send `null` as Origin.
        """
        own = f"{'https' if self.context.is_over_tls else 'http'}://{host}"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin" and (origin or own).lower() in (own, "null")
        return origin is not None and origin.lower() == own

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, within its bounds of size and time."""
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > MOST_BODY_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "more than 64 kB")
        body, more = b"", True
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                while more:
                    message = await receive()
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > MOST_BODY_BYTES:
                        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "more than 64 kB")
        except TimeoutError as error:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the request came too slowly") from error
        scope["screening_body"] = body
        return body

    def _add_headers(self, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers[name] = value
        headers.setdefault("Cache-Control", "no-store")
        if self.context.is_over_tls:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def refusal(scope: Scope, error: ScreeningError) -> Response:
    """An error of ours as an answer; its subject may identify a patient and is left out."""
    if isinstance(error, Refused):
        status = error.status
    else:
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    is_unstored = isinstance(error, Refused) or status < HTTPStatus.INTERNAL_SERVER_ERROR
    return _told(scope, f"{error.message} [{error.code}]", status, is_unstored)


def fault(scope: Scope, request_id: str) -> Response:
    """The answer after a bug: an id to look for in the log."""
    text = f"This is a fault of the program. Its id in the log is {request_id}."
    return _told(scope, text, HTTPStatus.INTERNAL_SERVER_ERROR)


def _told(scope: Scope, text: str, status: HTTPStatus, is_unstored: bool = False) -> Response:
    """A page for a person, with what they had typed, in the theme that their browser chose; else one line.

    `is_unstored`: nothing of the request was stored. Else it may have failed after the commit, or in it.
    """
    request = Request(scope)
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(f"{text}\n", status_code=status)
    study = STUDY.match(scope["path"])
    return rendering.page(
        "refused", status, message=text, typed=typed_into(scope), study=study and study[0],
        is_unstored=is_unstored,
        **rendering.page_values(request),
    )  # fmt: skip


def _replay(body: bytes, receive: Receive) -> Receive:
    """A body that was received already, then what comes after it."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
