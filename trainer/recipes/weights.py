"""Download and load the pretrained weights of a backbone; each error names the remedy."""

import os
import urllib.request
from pathlib import Path
from typing import Any

from worker.errors import BadSetting

#: Timeout for the server's answer and for each block, in seconds.
TIMEOUT_S = 30


def fetch(url: str, folder: Path | None = None) -> Path:
    """The file at `url`, from the cache `folder` (default: that of Keras) or downloaded into it.

    Raises BadSetting when it is not in the cache and cannot be downloaded.
    """
    folder = folder or Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
    path = folder / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    part = path.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            part.write_bytes(answer.read())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadSetting(
            f"the pretrained weights cannot be downloaded ({error}): fetch {url} elsewhere and pass --weights FILE"
        ) from error
    return path


def load(model: Any, path: Path) -> None:
    """Load the Keras weights file `path` into `model`; raises BadSetting when it is missing or fits another network."""
    if not path.is_file():
        raise BadSetting("no such weights file").about(str(path))
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise BadSetting(f"these weights do not fit the backbone {model.name} ({error})").about(str(path)) from error
