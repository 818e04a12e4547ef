"""Finds out with a small hidden file whether files of an inbox can be linked into the store."""

import os
import secrets
from pathlib import Path

from schema.setting_values import InboxMode, StoreLink
from worker.intake.write_lease import take_lease
from worker.ledger.intake.arrivals import in_utf8
from worker.settings import Settings
from worker.store import OBJECTS, Links, open_store, sums_of


def how_taken_in(inbox: Path, settings: Settings) -> str:
    """A sentence: that files of this user are linked, or why files are copied."""
    name = in_utf8(str(inbox))
    if settings.inbox_mode is not InboxMode.MOVE:
        return f"{name}: files stay there (SCREENING_INBOX_MODE={settings.inbox_mode})"
    if settings.store_link is StoreLink.OFF:
        return f"{name}: files are copied (SCREENING_STORE_LINK=off)"
    links = open_store(settings).links(OBJECTS)
    if links is None:
        return f"{name}: files are copied (the store is a bucket)"
    probe = inbox / f".{secrets.token_hex(16)}.probe"
    try:
        probe.write_text(probe.name, encoding="ascii")
        fault = _fault(probe, links, settings)
    except OSError as error:
        fault = f"no file could be made there: {error.strerror}"
    finally:
        probe.unlink(missing_ok=True)
    if fault is not None:
        return f"{name}: files are copied ({fault})"
    return f"{name}: files of this user are linked into the store, those of other users are copied"


def _fault(probe: Path, links: Links, settings: Settings) -> str | None:
    """Why this file is not linked; None if it is."""
    digest = sums_of(probe.read_bytes())[0]
    with probe.open("rb", buffering=0) as file:
        if not take_lease(file.fileno()):
            return "the file system does not hold a file against writers"
        fault = links.refusal(file.fileno())
        if fault is not None:
            return fault
        if links.take(file.fileno(), digest, lambda: None) is None:
            return "the file system refuses a link"
        os.unlink(open_store(settings).place(OBJECTS, digest))  # noqa: PTH108
    return None
