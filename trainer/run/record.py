"""run.json: the options of a run and the model that it made. Knows no Keras."""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trainer.data.atomic_file import write_atomically
from trainer.data.manifest import Origin
from trainer.recipes.recipe import Recipe
from trainer.training.warm_start import CHECKPOINT
from worker.errors import BadData
from worker.inference.card import Population

RECORD = "run.json"


@dataclass(frozen=True)
class Record:
    """One finished run, as plain values. Digests are SHA-256; an empty one: there is no such file."""

    command: str  #: shell command that starts it again; empty where the run was not started from a shell
    recipe: dict[str, Any]
    seed: int
    weights_digest: str  #: of the weights file for the backbone
    split_digest: str  #: of data and split together
    checkpoint_digest: str
    origin: dict[str, Any]  #: the card's description of the images; does not influence the training
    model_file: str
    model_digest: str
    backend: str  #: of Keras
    elsewhere_digest: str = ""  #: of the images of another place that helped choose the threshold
    teachers: tuple[str, ...] = ()  #: digests of the models that gave a part of each label
    python: str = platform.python_version()
    machine: str = f"{platform.system()} {platform.machine()}"


def write_record(record: Record, folder: Path) -> None:
    """Write run.json whole or not at all."""
    write_atomically((json.dumps(asdict(record), indent=1) + "\n").encode(), folder / RECORD)


def read_record(folder: Path) -> Record | None:
    """The record in the run folder, or None where an older run wrote none; raises BadData when it cannot be read."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Record(**{field.name: stored[field.name] for field in fields(Record) if field.name in stored})
    except (ValueError, TypeError, KeyError) as error:
        raise BadData(f"is not the record of a run ({error!r}): remove it, and start the same fit again").about(
            str(path)
        ) from error


def population_of(path: Path) -> Population | None:
    """The population that an earlier run (its folder, or a file in it) stated; None where it left no record."""
    record = read_record(path if path.is_dir() else path.parent)
    return None if record is None else Population(**record.origin["population"])


def is_made(folder: Path, model: Path, origin: Origin, recipe: Recipe, elsewhere_digest: str = "") -> bool:
    """Whether `model` was exported from the checkpoint that is in the folder, by this recipe and origin, and its
    threshold chosen with these images of another place.

    Then nothing is left to train or export.
    """
    record = read_record(folder)
    if record is None or record.origin != asdict(origin) or not model.is_file():
        return False
    if record.elsewhere_digest != elsewhere_digest or record.recipe != json.loads(json.dumps(recipe.to_json())):
        return False
    present = (digest_of(folder / CHECKPOINT), model.name, digest_of(model))
    return present == (record.checkpoint_digest, record.model_file, record.model_digest)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
