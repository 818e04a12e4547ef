"""All routes of the page, in one table: who may ask, and whether asking counts as use of the session."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router

from worker.ledger.reading_room.sessions import note_input
from worker.web.browser_request import BrowserRequest, check_csrf, read_request
from worker.web.guards import Guard
from worker.web.page_context import PageContext
from worker.web.pages import audit_page, json_interface, list_page, login_page, picture_page, study_forms, study_page
from worker.web.permissions import Permission
from worker.web.refusal import Refused

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Page:
    """One route."""

    method: str
    path: str
    answer: Callable[[PageContext, BrowserRequest], Response]
    permission: Permission | None  #: None: anybody, with or without a session
    is_use: bool = True  #: it counts as input of the person and prolongs the session; polls and pictures do not


def alive(_context: PageContext, _asked: BrowserRequest) -> Response:
    """For probes: the process answers."""
    return Response(status_code=HTTPStatus.NO_CONTENT)


def static(_context: PageContext, asked: BrowserRequest) -> Response:
    """A script or style of ours."""
    file = FILES.get(str(asked.request.path_params["name"]))
    if file is None:
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such file")
    content, kind, tag = file
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if asked.request.headers.get("if-none-match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _read_static(file: Path) -> tuple[bytes, str, str]:
    """Content, media type and ETag of a file."""
    content = file.read_bytes()
    return content, MEDIA_TYPES[file.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"'


#: The static files by name, read once: no path is ever made of a request.
FILES = {file.name: _read_static(file) for file in STATIC.iterdir() if file.suffix in MEDIA_TYPES}

PAGES = (
    Page("GET", "/alive", alive, None, is_use=False),
    Page("GET", "/static/{name}", static, None, is_use=False),
    Page("GET", "/login", login_page.show, None),
    Page("POST", "/login", login_page.submit, None),
    Page("POST", "/logout", login_page.log_out, Permission.LIST),
    Page("GET", "/open", list_page.open_study, None),
    Page("GET", "/opened/{token}", list_page.opened, Permission.LIST),
    Page("GET", "/", list_page.show, Permission.LIST),
    Page("GET", "/rows", list_page.rows, Permission.LIST, is_use=False),
    Page("POST", "/search", list_page.search, Permission.LIST),
    Page("POST", "/beat", list_page.beat, Permission.LIST, is_use=False),
    Page("GET", "/next", list_page.next_study, Permission.VERDICT),
    Page("GET", "/quarantine", list_page.quarantine, Permission.LIST),
    Page("GET", "/audit", audit_page.show, Permission.AUDIT),
    Page("GET", "/study/{study}", study_page.show, Permission.LIST),
    Page("GET", "/study/{study}/next", list_page.next_pictures, Permission.VERDICT, is_use=False),
    Page("POST", "/study/{study}/beat", study_page.beat, Permission.LIST, is_use=False),
    Page("POST", "/study/{study}/verdict", study_forms.give, Permission.VERDICT),
    Page("POST", "/study/{study}/withdraw", study_forms.withdraw, Permission.VERDICT),
    Page("POST", "/study/{study}/priority", study_forms.prioritise, Permission.PRIORITY),
    Page("POST", "/study/{study}/requeue", study_forms.requeue, Permission.REQUEUE),
    Page("POST", "/study/{study}/take-over", study_forms.take_over, Permission.VERDICT),
    Page("POST", "/study/{study}/release", study_forms.release, Permission.VERDICT, is_use=False),
    Page("GET", "/study/{study}/heat/{digest}", picture_page.heat, Permission.LOOK, is_use=False),
    Page("GET", "/picture/{digest}/pixels", picture_page.pixels, Permission.LOOK, is_use=False),
    Page("GET", "/picture/{digest}/facts", picture_page.facts, Permission.LOOK, is_use=False),
    Page("GET", "/picture/{digest}/half", picture_page.half, Permission.LOOK, is_use=False),
    Page("GET", "/picture/{digest}/thumbnail", picture_page.thumbnail, Permission.LOOK, is_use=False),
    # with bearer tokens instead of sessions
    Page("GET", "/api/v1/worklist", json_interface.worklist, None, is_use=False),
    Page("GET", "/api/v1/studies/{study}", json_interface.study, None, is_use=False),
    Page("GET", "/api/v1/health", json_interface.health, None, is_use=False),
)


def build(context: PageContext) -> Guard:
    """The page as an ASGI application."""
    return Guard(Router([_route(context, page) for page in PAGES], redirect_slashes=False, default=_nothing), context)


async def _nothing(_scope: object, _receive: object, _send: object) -> None:
    raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")


def _route(context: PageContext, page: Page) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope["route_name"] = f"{page.method} {page.path}"
        return await run_in_threadpool(_answer, context, page, request)

    return Route(page.path, endpoint, methods=[page.method], name=f"{page.method} {page.path}")


def _answer(context: PageContext, page: Page, request: Request) -> Response:
    """Check the session, its permission and the token of a form; note the use of the session; then answer."""
    if page.permission is not None:
        context.follow_silent_run()
    asked = read_request(context, request, request.scope["screening_body"])
    if page.permission is not None:
        if asked.session is None:
            return _to_login(page, request)
        if not asked.may(page.permission):
            raise Refused(HTTPStatus.FORBIDDEN, f"an account of the role {asked.session.role} may not do this")
        if page.method == "POST":
            check_csrf(asked)
        if page.is_use:
            note_input(context.database, asked.session, asked.now)
    return page.answer(context, asked)


def _to_login(page: Page, request: Request) -> Response:
    """A page leads to the log-in and back; anything else is refused."""
    if page.method != "GET" or not page.is_use:
        raise Refused(HTTPStatus.UNAUTHORIZED, "log in first")
    return RedirectResponse(f"/login?next={request.scope['path']}", HTTPStatus.SEE_OTHER)
