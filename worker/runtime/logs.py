"""Logs as events with fields, one JSON object per line on standard error. They contain no patient identifiers."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

#: Loggers of which only warnings are kept. Alembic and typed_settings log at every start. Celery logs twice for each
#: message, which takes a third of a message's time; our own events say what happens to its studies. highdicom logs each
#: module that it copies.
CHATTY = ("alembic", "typed_settings", "celery.worker.strategy", "celery.app.trace", "highdicom")


def configure(level: str) -> None:
    """Send every log record of this process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "at", "levelname": "level", "name": "logger", "message": "event"},
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
