"""Log in and out. Unknown names take as long as known ones; five failures lock a name and an address."""

import re
from dataclasses import replace
from http import HTTPStatus

from starlette.responses import RedirectResponse, Response

from worker.ledger.reading_room import accounts, login_failures, sessions
from worker.web import addresses, passwords, rendering
from worker.web.browser_request import (
    FORM,
    SESSION,
    BrowserRequest,
    check_csrf,
    cookie_name,
    csrf_of,
    drop_cookie,
    new_form_cookie,
    set_cookie,
    trusted_name,
)
from worker.web.page_context import PageContext

WRONG = "Name or password is wrong."
LOCKED = "Too many failures: try again in 15 minutes."

#: Where a log-in may lead: pages of ours, never another host.
OWN_PATH = re.compile(r"/([A-Za-z0-9_~-][A-Za-z0-9._~-]*/?)*")


def show(context: PageContext, asked: BrowserRequest) -> Response:
    """The form; a trusted proxy's account is logged in at once."""
    peer = asked.request.client.host if asked.request.client else ""
    named = trusted_name(context, asked.request, peer)
    account = accounts.find(context.database, named) if named else None
    if account is not None and account.disabled_at is None:
        return _begin(context, asked, account.id, account.name)
    return form(context, asked, "")


def submit(context: PageContext, asked: BrowserRequest) -> Response:
    """Check a name and a password."""
    cookie = asked.request.cookies.get(cookie_name(context, FORM), "")
    check_csrf(replace(asked, csrf=csrf_of(cookie) if cookie else ""))
    name, password = asked.form.get("name", "").strip()[:256], asked.form.get("password", "")
    if login_failures.is_locked(context.database, name, asked.address, asked.now):
        return form(context, asked, LOCKED, HTTPStatus.TOO_MANY_REQUESTS)
    with passwords.turn():  # so that attempts at the same time cannot slip past the lock
        if login_failures.is_locked(context.database, name, asked.address, context.clock()):
            return form(context, asked, LOCKED, HTTPStatus.TOO_MANY_REQUESTS)
        account = accounts.find(context.database, name)
        kept = account.password_hash if account is not None and account.disabled_at is None else None
        is_right = passwords.is_right(password, kept)  # also for an unknown name, which then takes as long
        if account is None or not is_right:
            known = account.name if account is not None else None
            login_failures.note(context.database, name, asked.address, known, asked.now)
            return form(context, asked, WRONG, HTTPStatus.UNAUTHORIZED)
    return _begin(context, asked, account.id, account.name)


def form(context: PageContext, asked: BrowserRequest, message: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """The log-in page with a token for its form."""
    cookie = new_form_cookie()
    values = asked.page_values | {"csrf": csrf_of(cookie), "session": None}
    back = own_path(asked.form.get("next") or asked.request.query_params.get("next"))
    answer = rendering.page(
        "login", status, message=message, next=back,
        has_accounts=accounts.count(context.database) > 0, **values,
    )  # fmt: skip
    set_cookie(context, answer, FORM, cookie)
    if asked.session is None and cookie_name(context, SESSION) in asked.request.cookies:
        _forget(context, answer)  # a session that has ended by itself, or by an administrator
    return answer


def log_out(context: PageContext, asked: BrowserRequest) -> Response:
    """End the session at once, release what it holds, and have the browser forget the pictures."""
    sessions.end(context.database, asked.who, asked.now)
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    _forget(context, answer)
    return answer


def own_path(path: str | None) -> str:
    """A path of ours, else the list."""
    return path if path and OWN_PATH.fullmatch(path) else "/"


def _forget(context: PageContext, answer: Response) -> None:
    """Have the browser forget the session that is over, and the pictures that it fetched."""
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    drop_cookie(context, answer, SESSION)


def _begin(context: PageContext, asked: BrowserRequest, account_id: int, name: str) -> Response:
    peer = asked.request.client.host if asked.request.client else ""
    address = addresses.client(peer, asked.request.headers, context.proxies)
    if asked.session is not None:  # a new token at each log-in
        sessions.end(context.database, asked.session, asked.now)
    token = sessions.begin(context.database, account_id, name, address, asked.now)
    answer = RedirectResponse(own_path(asked.form.get("next")), HTTPStatus.SEE_OTHER)
    set_cookie(context, answer, SESSION, token)
    drop_cookie(context, answer, FORM)
    return answer
