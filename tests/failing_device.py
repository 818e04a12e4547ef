"""A queue worker whose device fails as CUDA does: it fails while a file exists, and afterwards always in that process.

Started as `celery -A tests.failing_device worker`; the environment variable DEAD_DEVICE names the file.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.app import app
from worker.inference import model

__all__ = ["app"]


class PoisonedSession:
    """A session of ONNX Runtime on such a device."""

    def __init__(self, session: Any, is_dead: Callable[[], bool]) -> None:
        self.session, self.is_dead, self.is_poisoned = session, is_dead, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, names: list[str], inputs: dict[str, Any]) -> Any:
        """Predict, or fail."""
        self.is_poisoned = self.is_poisoned or self.is_dead()
        if self.is_poisoned:
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")
        return self.session.run(names, inputs)


if "DEAD_DEVICE" in os.environ:
    whole = model._session
    model._session = lambda *words: PoisonedSession(whole(*words), Path(os.environ["DEAD_DEVICE"]).exists)
