"""A model file, opened to be measured."""

import os
from pathlib import Path

from worker.inference.model import OnnxModel, open_model


def open_on_all_cores(path: Path, provider: str) -> OnnxModel:
    """The model at `path` with all cores for each prediction; raises what `open_model` raises."""
    return open_model(path, provider, threads=os.cpu_count() or 1)
